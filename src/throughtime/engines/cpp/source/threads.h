// Threads: work is cut into numbered shares, so that results do not depend on who does which. The
// caller does its part; several callers may run work at once.
//
// The threads are those of the OpenMP library that torch uses, where it is known. They wait in a busy
// loop for some milliseconds after each operation of torch: threads of our own would have to share
// their cores with them. A small pool of our own is for all other cases.
#pragma once
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <system_error>
#include <thread>

#include "sections.h"

namespace throughtime {
namespace {

using Share = void (*)(void* argument, int64_t share);

// Functions of an OpenMP library.
struct OpenMP {
    void (*parallel)(void (*)(void*), void*, unsigned threads, unsigned flags);
    int (*in_parallel)();
    int (*threads_of_team)();
    int (*most_threads)();
};

// A team of OpenMP's threads that does some work.
class Team {
  public:
    inline static OpenMP functions{};

    // Whether the work is done: not without the library, nor within a team of another, nor in a fork,
    // which has none of its parent's threads. Shares that wait for each other need a thread each.
    static bool run(int64_t threads, int64_t shares, Share share, void* argument, bool at_once) {
        if (!functions.parallel || forked || functions.in_parallel()) return false;
        Team team{shares, share, argument, at_once ? shares : 1};
        // As many as torch takes, although some have nothing to do: a team of another size costs
        // new threads.
        const int64_t all = std::max<int64_t>(threads, functions.most_threads());
        functions.parallel([](void* team) { static_cast<Team*>(team)->work(); }, &team,
                           static_cast<unsigned>(all), 0);
        return team.done == shares;
    }
    static void use(const OpenMP& given) {
        static const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });
        (void)registered;
        functions = given;
    }

  private:
    Team(int64_t shares, Share share, void* argument, int64_t least)
        : shares(shares), share(share), argument(argument), least(least) {}

    inline static bool forked = false;
    const int64_t shares;
    const Share share;
    void* const argument;
    const int64_t least;  // threads
    const pthread_t caller = pthread_self();
    std::atomic<int64_t> taken{0}, done{0};

    void work() {
        if (functions.threads_of_team() < least) return;
        for (int64_t i; (i = taken.fetch_add(1, std::memory_order_relaxed)) < shares;) {
            share(argument, i);
            done.fetch_add(1, std::memory_order_release);
        }
        if (!pthread_equal(caller, pthread_self())) return;
        SECTION(WAITING);
        for (int64_t tries = 0; done.load(std::memory_order_acquire) < shares; tries++)
            if (tries > 4000) sched_yield();  // another may be waiting for this very core
    }
};

class Pool {
  public:

    // Does share(argument, i) for each i < shares, on so many threads. Shares that wait for each
    // other have to run at once: one such piece of work at a time, or two could each lack a thread.
    static void run(int64_t threads, int64_t shares, Share share, void* argument,
                    bool at_once = false) {
        if (threads == 1 || shares <= 1) {
            for (int64_t i = 0; i < shares; i++) share(argument, i);
            return;
        }
        if (Team::run(std::min(threads, shares), shares, share, argument, at_once)) return;
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

// Sets the functions of OpenMP's library: GOMP_parallel, omp_in_parallel, omp_get_num_threads and
// omp_get_max_threads.
extern "C" void use_openmp(void* parallel, void* in_parallel, void* threads_of_team, void* most_threads) {
    throughtime::OpenMP functions;
    functions.parallel = reinterpret_cast<decltype(functions.parallel)>(parallel);
    functions.in_parallel = reinterpret_cast<decltype(functions.in_parallel)>(in_parallel);
    functions.threads_of_team = reinterpret_cast<decltype(functions.threads_of_team)>(threads_of_team);
    functions.most_threads = reinterpret_cast<decltype(functions.most_threads)>(most_threads);
    throughtime::Team::use(functions);
}
