// The rows of one block of the batch on their way through time: where each value of a step lies.
#pragma once
#include <algorithm>
#include <cstdint>
#include <limits>

#include "job.h"
#include "product.h"
#include "team.h"

namespace throughtime {
namespace {

// A history of (rows, hidden) values: whole, or of the last few steps only, overwritten in turn.
struct History {
    real* base = nullptr;
    int64_t slots = 1, rows = 0, first_row = 0;

    real* at(int64_t t, int64_t b, int64_t hidden) const {
        return base + ((t % slots) * rows + b - first_row) * hidden;
    }
};

// Rows [first, last) of the batch, in a segment [begin, end) of time.
struct Walk {
    const Job& job;
    int64_t first, last;
    int64_t begin = 0, end = 0;
    const real* const* entry;  // the state before `begin`, as `Job::initial`
    History outputs, saved;
    History* memories;
    const real* zeros;       // a row of zeros, for what a reset hides
    real* trash;             // a row that nobody reads
    int64_t* active;         // rows of the batch that have a step now
    const real** operands;   // [1 + lags][rows]: x, then the past outputs
    real** table;            // [rows][pointers]

    int64_t rows() const { return last - first; }
    int64_t forward_pointers() const { return 3 + 2 * job.memories + job.pasts + job.streams; }
    int64_t pointers() const { return forward_pointers() + 4 + 2 * job.memories + job.pasts; }
    int64_t length(int64_t b) const { return job.lengths ? job.lengths[b] : job.time; }
    const real* input(int64_t t, int64_t b) const {
        return job.inputs + t * job.input_strides[0] + b * job.input_strides[1];
    }
    // How many steps ago the row was reset; a past output from before is not seen.
    int64_t age(int64_t t, int64_t b) const {
        return job.ages ? job.ages[t * job.batch + b] : std::numeric_limits<int64_t>::max() - 1;
    }

    // h_{t-d} and memory m of step t-1, as a step at t sees them that far from a reset.
    const real* past(int64_t t, int64_t b, int64_t d, int64_t steps) const {
        if (steps < d) return zeros;
        if (t - d >= begin) return outputs.at(t - d, b, job.hidden);
        const int64_t before = begin - (t - d);  // 1 for h itself, which the state holds first
        return entry[before == 1 ? 0 : job.memories + before - 1] + b * job.hidden;
    }
    const real* memory(int64_t t, int64_t b, int64_t m, int64_t steps) const {
        if (steps < 1) return zeros;
        if (t > begin) return memories[m].at(t - 1, b, job.hidden);
        return entry[1 + m] + b * job.hidden;
    }

    static void take_room(Room& room, const Job& job, int64_t rows, Walk* walk) {
        const Walk like{job, 0, rows, 0, 0, nullptr, {}, {}, nullptr, nullptr, nullptr, nullptr,
                        nullptr, nullptr};
        auto memories = room.take<History>(job.memories);
        auto nothing = room.take<real>(2 * whole_vectors(job.hidden));
        auto active = room.take<int64_t>(rows);
        auto operands = room.take<const real*>((1 + job.lags) * rows);
        auto table = room.take<real*>(rows * like.pointers());
        if (!walk || !nothing) return;
        walk->memories = memories;
        walk->zeros = nothing;
        walk->trash = nothing + whole_vectors(job.hidden);
        std::fill(nothing, walk->trash, real(0));
        walk->active = active;
        walk->operands = operands;
        walk->table = table;
    }

    // Finds the rows that have a step at t, and fills in all that both passes read; returns how many.
    int64_t arrive(int64_t t) {
        int64_t count = 0;
        for (int64_t b = first; b < last; b++) {
            if (t >= length(b)) continue;
            const int64_t i = count++, steps = age(t, b), m_count = job.memories;
            active[i] = b;
            operands[i] = input(t, b);
            for (int64_t l = 0; l < job.lags; l++)
                operands[(1 + l) * rows() + i] = past(t, b, job.lag[l], steps);
            real** p = table + i * pointers();
            *p++ = const_cast<real*>(past(t, b, 1, steps));
            for (int64_t m = 0; m < m_count; m++)
                *p++ = const_cast<real*>(memory(t, b, m, steps));
            for (int64_t d = 0; d < job.pasts; d++)
                *p++ = const_cast<real*>(past(t, b, job.past[d], steps));
            for (int64_t s = 0; s < job.streams; s++)
                *p++ = const_cast<real*>(job.stream_values[s].at) +
                       (t * job.batch + b) * (job.stream_strides[s] ? job.hidden : 1);
            *p++ = outputs.at(t, b, job.hidden);
            for (int64_t m = 0; m < m_count; m++) *p++ = memories[m].at(t, b, job.hidden);
            *p++ = saved.base ? saved.at(t, b, job.saved * job.hidden) : trash;
        }
        return count;
    }
};

}  // namespace
}  // namespace throughtime
