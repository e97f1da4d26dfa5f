// The threads of a pass: each has rows of the batch of its own, or, where rows are few and weights
// too many for a thread's cache, all rows and units of its own.
#pragma once
#include <sched.h>

#include <atomic>
#include <cstdint>

#include "job.h"
#include "product.h"
#include "sections.h"

namespace throughtime {
namespace {

// Where threads that share rows wait for each other, a few times a step.
class Barrier {
  public:
    void wait(int64_t threads) {
        if (threads == 1) return;
        SECTION(WAITING);
        const int64_t round = rounds.load(std::memory_order_acquire);
        if (arrived.fetch_add(1, std::memory_order_acq_rel) + 1 == threads) {
            arrived.store(0, std::memory_order_relaxed);
            rounds.store(round + 1, std::memory_order_release);
            return;
        }
        for (int64_t tries = 0; rounds.load(std::memory_order_acquire) == round; tries++)
            if (tries > 4000) sched_yield();  // the other may be waiting for this very core
    }

  private:
    std::atomic<int64_t> arrived{0}, rounds{0};
};

// How a job is cut into shares: by rows, or by units.
struct Shares {
    static constexpr int64_t BLOCK_ROWS = 96;  // of a thread at a time: a step stays in the cache

    const Job& job;
    int64_t by_rows, by_units;

    explicit Shares(const Job& job) : job(job) {
        const bool whole = job.hidden % LANES == 0;  // no vector belongs to two threads
        const int64_t panels = divide_up(job.hidden, WIDTH * LANES);
        by_units = whole && job.split_units ? std::min(job.threads, panels) : 1;
        by_rows = by_units > 1 || few(job) ? 1 : std::max<int64_t>(1, std::min(job.threads, job.batch));
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
    Barrier* barrier;

    Member(const Shares& shares, int64_t share, Barrier* barrier)
        : index(share % shares.by_units), count(shares.by_units), barrier(barrier) {
        const int64_t hidden = shares.job.hidden, panel = WIDTH * LANES;
        const int64_t panels = divide_up(hidden, panel);
        first_unit = panels * index / count * panel;
        last_unit = std::min(hidden, panels * (index + 1) / count * panel);
    }
    bool leads() const { return index == 0; }
    int64_t units() const { return last_unit - first_unit; }
    void wait() const { barrier->wait(count); }
};

}  // namespace
}  // namespace throughtime
