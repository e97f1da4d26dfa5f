// A small pool of threads: work is cut into numbered shares, so that results do not depend on who
// does which. The caller does its part; several callers may use the pool at once.
#pragma once
#include <pthread.h>

#include <algorithm>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include "sections.h"

namespace throughtime {
namespace {

class Pool {
  public:
    using Share = void (*)(void* argument, int64_t share);

    // Does share(argument, i) for each i < shares, on so many threads. Shares that wait for each
    // other have to run at once: one such piece of work at a time, or two could each lack a thread.
    static void run(int64_t threads, int64_t shares, Share share, void* argument,
                    bool at_once = false) {
        if (threads == 1 || shares <= 1) {
            for (int64_t i = 0; i < shares; i++) share(argument, i);
            return;
        }
        Pool& pool = current();
        std::unique_lock<std::mutex> lock(pool.alone, std::defer_lock);
        if (at_once) lock.lock();
        pool.dispatch(std::min(threads, shares), shares, share, argument);
    }

    // Whether there are that many threads beside the caller; makes those that are missing.
    static bool reserve(int64_t wanted) {
        Pool& pool = current();
        std::unique_lock<std::mutex> lock(pool.mutex);
        return pool.grow(wanted);
    }

  private:
    struct Work {
        Share share;
        void* argument;
        int64_t shares, taken, done;
    };

    std::mutex mutex, alone;
    std::condition_variable arrived, finished;
    std::deque<Work*> queue;
    int64_t threads = 0;

    // A fork has none of its parent's threads: it gets a new pool, and the old one is left alone.
    static Pool*& instance() {
        static Pool* pool = new Pool;
        return pool;
    }
    static Pool& current() {
        static const int registered =
            pthread_atfork(nullptr, nullptr, [] { instance() = new Pool; });
        (void)registered;
        return *instance();
    }

    void dispatch(int64_t at_most, int64_t shares, Share share, void* argument) {
        Work work{share, argument, shares, 0, 0};
        std::unique_lock<std::mutex> lock(mutex);
        grow(at_most - 1);  // the caller does what no thread can be made for
        queue.push_back(&work);
        arrived.notify_all();
        while (work.taken < shares) take(work, lock);
        SECTION(WAITING);
        finished.wait(lock, [&] { return work.done == shares; });
    }

    bool grow(int64_t wanted) {
        try {
            for (; threads < wanted; threads++) std::thread([this] { serve(); }).detach();
        } catch (const std::system_error&) {
            return false;
        }
        return true;
    }

    void serve() {
        std::unique_lock<std::mutex> lock(mutex);
        for (;;) {
            arrived.wait(lock, [&] { return !queue.empty(); });
            take(*queue.front(), lock);
        }
    }

    // One share of a piece of work that has some left; the lock is let go meanwhile.
    void take(Work& work, std::unique_lock<std::mutex>& lock) {
        const int64_t share = work.taken++;
        if (work.taken == work.shares) {
            for (auto i = queue.begin(); i != queue.end(); ++i)
                if (*i == &work) {
                    queue.erase(i);
                    break;
                }
        }
        lock.unlock();
        work.share(work.argument, share);
        lock.lock();
        if (++work.done == work.shares) finished.notify_all();
    }
};

}  // namespace
}  // namespace throughtime
