// The threads of a pass: each has rows of the batch of its own, or, where rows are few, all rows and
// units of its own.
#pragma once
#include <sched.h>

#include <atomic>
#include <cstdint>
#include <new>

#include "job.h"
#include "product.h"
#include "sections.h"

namespace throughtime {
namespace {

// Where threads that share rows wait for each other, a few times a step. Each counts in a line of the
// cache of its own, which no other thread writes: one that all write would go round all cores.
class Barrier {
  public:
    Barrier(int64_t threads, Room& room) : arrivals(room.take<Arrivals>(threads)) {
        for (int64_t i = 0; arrivals && i < threads; i++) new (arrivals + i) Arrivals;
    }
    void wait(int64_t index, int64_t threads) const {
        if (threads == 1) return;
        SECTION(WAITING);
        const int64_t round = arrivals[index].count.load(std::memory_order_relaxed) + 1;
        arrivals[index].count.store(round, std::memory_order_release);
        for (int64_t i = 0; i < threads; i++)
            for (int64_t tries = 0; arrivals[i].count.load(std::memory_order_acquire) < round; tries++)
                if (tries > 4000) sched_yield();  // the other may be waiting for this very core
    }

  private:
    struct alignas(64) Arrivals {
        std::atomic<int64_t> count{0};
    };
    Arrivals* arrivals;
};

// How a job is cut into shares: by rows, or by units.
struct Shares {
    static constexpr int64_t BLOCK_ROWS = 96;  // of a thread at a time: a step stays in the cache

    const Job& job;
    int64_t by_rows, by_units;
    int64_t wide;  // vectors of units in a panel of weights

    explicit Shares(const Job& job) : job(job) {
        const bool whole = job.hidden % LANES == 0;  // no vector belongs to two threads
        const int64_t panels = divide_up(job.hidden, WIDTH * LANES);
        by_units = whole ? std::max<int64_t>(1, std::min({job.split_units, job.threads, panels})) : 1;
        by_rows = by_units > 1 || few(job) ? 1 : std::max<int64_t>(1, std::min(job.threads, job.batch));
        const bool even = job.hidden % (WIDEST * LANES * by_units) == 0 || by_units == 1;
        wide = block() <= WIDE_ROWS && even ? WIDEST : WIDTH;
    }
    int64_t count() const { return by_rows * by_units; }
    int64_t first_row(int64_t share) const { return job.batch * (share / by_units) / by_rows; }
    int64_t last_row(int64_t share) const { return job.batch * (share / by_units + 1) / by_rows; }
    int64_t leader(int64_t share) const { return share - share % by_units; }
    int64_t block() const { return std::min(BLOCK_ROWS, divide_up(job.batch, by_rows)); }
};

// One thread's part of the units, in whole panels, and those that it works with.
struct Member {
    int64_t index, count;
    int64_t first_unit, last_unit;
    const Barrier* barrier;

    Member(const Shares& shares, int64_t share, const Barrier* barrier)
        : index(share % shares.by_units), count(shares.by_units), barrier(barrier) {
        const int64_t hidden = shares.job.hidden, panel = shares.wide * LANES;
        const int64_t panels = divide_up(hidden, panel);
        first_unit = panels * index / count * panel;
        last_unit = std::min(hidden, panels * (index + 1) / count * panel);
    }
    bool leads() const { return index == 0; }
    int64_t units() const { return last_unit - first_unit; }
    void wait() const { barrier->wait(index, count); }
};

}  // namespace
}  // namespace throughtime
