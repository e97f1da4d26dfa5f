// A linear recurrence whose weights change with each step, and a read-out at every step:
//
//   z_d = sum over units of V_d sigmoid(a_d),    a_{d+1} = a_d + x_d W_d,    a_0 given.
#include <algorithm>
#include <cstdint>
#include <utility>

#include "functions.h"
#include "job.h"
#include "threads.h"

namespace throughtime {
namespace {

constexpr int64_t TILE = 8;      // rows that share each load of weights
constexpr int64_t SEGMENT = 32;  // steps between two stored states

inline int64_t padded(int64_t units) { return (units + LANES - 1) / LANES * LANES; }
inline int64_t segments(int64_t steps) { return (steps + SEGMENT - 1) / SEGMENT; }

}  // namespace

// All arrays are contiguous. Mirrored in autoregression.py.
struct Autoregression {
    int64_t batch, steps, units, threads;
    const real *x;                 // (batch, steps)
    const real *initial;           // (batch, units)
    const real *weight, *readout;  // (steps, units)
    real *z;                       // (batch, steps)
    real *states;                  // (segments, batch, padded units), or null
    // Of the backward pass; gradients that are not wanted are null.
    const real *d_z;
    real *d_x, *d_initial, *d_weight, *d_readout;
    char *workspace;
};

namespace {

// Weights in rows of whole vectors, and what each thread works with.
struct Place {
    const Autoregression& job;
    Room room;
    int64_t wide, shares;
    real *weight, *readout;

    explicit Place(const Autoregression& job) : job(job), room(job.workspace), wide(padded(job.units)) {
        const int64_t tiles = (job.batch + TILE - 1) / TILE;
        shares = std::max<int64_t>(1, std::min(job.threads, tiles));
        weight = room.take<real>(job.steps * wide);
        readout = room.take<real>(job.steps * wide);
    }
    void pack() const {
        for (int64_t d = 0; d < job.steps; d++)
            for (const auto& [to, from] : {std::pair{weight, job.weight}, {readout, job.readout}}) {
                std::copy_n(from + d * job.units, job.units, to + d * wide);
                std::fill(to + d * wide + job.units, to + (d + 1) * wide, real(0));
            }
    }
    int64_t first_row(int64_t share) const {
        const int64_t tiles = (job.batch + TILE - 1) / TILE;
        return std::min(job.batch, tiles * share / shares * TILE);
    }
};

inline real sum_of(vec v) {
    real lanes[LANES], sum = 0;
    storeu(lanes, v);
    for (int i = 0; i < LANES; i++) sum += lanes[i];
    return sum;
}

// The state a of ROWS rows, and where sigmoid(a) of each lies. Where x is 0, as most pixels are, both
// stay as they are.
template <int64_t ROWS>
struct State {
    const Place& place;
    real* a;
    real* free;       // where the next sigmoid(a) goes
    bool keep;        // if true, what has been written before stays
    real* h[ROWS];

    void activate(int64_t r) {
        const int64_t wide = place.wide;
        if (keep) h[r] = free, free += wide;
        for (int64_t u = 0; u < wide; u += LANES)
            storeu(h[r] + u, sigmoid(loadu(a + r * wide + u)));
    }
    void enter(real* room) {
        free = room;
        for (int64_t r = 0; r < ROWS; r++) {
            if (!keep) h[r] = room + r * place.wide;
            activate(r);
        }
    }
    void step(int64_t b, int64_t d) {
        const real* weight = place.weight + d * place.wide;
        for (int64_t r = 0; r < ROWS; r++) {
            const real x = place.job.x[(b + r) * place.job.steps + d];
            if (x == 0) continue;
            real* own = a + r * place.wide;
            for (int64_t u = 0; u < place.wide; u += LANES)
                storeu(own + u, loadu(own + u) + x * loadu(weight + u));
            activate(r);
        }
    }
};

template <int64_t ROWS>
void forward_tile(const Place& place, int64_t b, real* a, real* h) {
    const Autoregression& job = place.job;
    const int64_t wide = place.wide;
    for (int64_t r = 0; r < ROWS; r++) {
        std::copy_n(job.initial + (b + r) * job.units, job.units, a + r * wide);
        std::fill(a + r * wide + job.units, a + (r + 1) * wide, real(0));
    }
    State<ROWS> state{place, a, nullptr, false, {}};
    state.enter(h);
    for (int64_t d = 0; d < job.steps; d++) {
        if (job.states && d % SEGMENT == 0)
            std::copy_n(a, ROWS * wide, job.states + (d / SEGMENT * job.batch + b) * wide);
        vec total[ROWS] = {};
        for (int64_t u = 0; u < wide; u += LANES) {
            const vec V = loadu(place.readout + d * wide + u);
#pragma GCC unroll 8
            for (int64_t r = 0; r < ROWS; r++) total[r] += V * loadu(state.h[r] + u);
        }
        for (int64_t r = 0; r < ROWS; r++) job.z[(b + r) * job.steps + d] = sum_of(total[r]);
        state.step(b, d);
    }
}

struct Gradients {
    real *weight, *readout;  // (steps, padded units) of one thread
};

template <int64_t ROWS>
void backward_tile(const Place& place, int64_t b, real* a, real* h, real* d_a, const Gradients& sum) {
    const Autoregression& job = place.job;
    const int64_t wide = place.wide;
    std::fill_n(d_a, ROWS * wide, real(0));
    for (int64_t s = segments(job.steps) - 1; s >= 0; s--) {
        const int64_t from = s * SEGMENT, to = std::min(job.steps, from + SEGMENT);
        std::copy_n(job.states + (s * job.batch + b) * wide, ROWS * wide, a);
        State<ROWS> state{place, a, nullptr, true, {}};
        state.enter(h);
        const real* s_at[SEGMENT][ROWS];
        for (int64_t d = from; d < to; d++) {
            std::copy_n(state.h, ROWS, s_at[d - from]);
            if (d + 1 < to) state.step(b, d);
        }
        for (int64_t d = to - 1; d >= from; d--) {
            const int64_t row = d * wide;
            for (int64_t r = 0; r < ROWS; r++) {
                const int64_t at = (b + r) * job.steps + d;
                const real x = job.x[at], *after = d_a + r * wide;
                for (int64_t u = 0; x != 0 && u < wide; u += LANES)
                    storeu(sum.weight + row + u, loadu(sum.weight + row + u) + x * loadu(after + u));
                if (!job.d_x) continue;
                vec d_x = {};
                for (int64_t u = 0; u < wide; u += LANES)
                    d_x += loadu(place.weight + row + u) * loadu(after + u);
                job.d_x[at] = sum_of(d_x);
            }
            real d_z[ROWS];
            for (int64_t r = 0; r < ROWS; r++) d_z[r] = job.d_z[(b + r) * job.steps + d];
            for (int64_t u = 0; u < wide; u += LANES) {
                const vec V = loadu(place.readout + row + u);
                vec d_V = loadu(sum.readout + row + u);
#pragma GCC unroll 8
                for (int64_t r = 0; r < ROWS; r++) {
                    const vec s_a = loadu(s_at[d - from][r] + u);
                    d_V += d_z[r] * s_a;
                    real* to = d_a + r * wide + u;
                    storeu(to, loadu(to) + (d_z[r] * V) * (s_a - s_a * s_a));
                }
                storeu(sum.readout + row + u, d_V);
            }
        }
    }
    for (int64_t r = 0; job.d_initial && r < ROWS; r++)
        std::copy_n(d_a + r * wide, job.units, job.d_initial + (b + r) * job.units);
}

struct ForwardPass {
    Place place;
    real *a, *h;  // of each thread

    explicit ForwardPass(const Autoregression& job) : place(job) {
        a = place.room.take<real>(place.shares * TILE * place.wide);
        h = place.room.take<real>(place.shares * TILE * place.wide);
    }
    void share(int64_t i) {
        real *own = a + i * TILE * place.wide, *of_h = h + i * TILE * place.wide;
        int64_t b = place.first_row(i);
        const int64_t end = place.first_row(i + 1);
        for (; b + TILE <= end; b += TILE) forward_tile<TILE>(place, b, own, of_h);
        for (; b < end; b++) forward_tile<1>(place, b, own, of_h);
    }
};

struct BackwardPass {
    Place place;
    int64_t size;  // of a gradient of weights
    real *a, *h, *d_a, *gradients;

    explicit BackwardPass(const Autoregression& job) : place(job), size(job.steps * place.wide) {
        const int64_t rows = place.shares * TILE * place.wide;
        a = place.room.take<real>(rows);
        d_a = place.room.take<real>(rows);
        h = place.room.take<real>(rows * SEGMENT);
        gradients = place.room.take<real>(place.shares * 2 * size);
    }
    void share(int64_t i) {
        const int64_t rows = TILE * place.wide;
        const Gradients own{gradients + 2 * i * size, gradients + (2 * i + 1) * size};
        std::fill_n(own.weight, 2 * size, real(0));
        int64_t b = place.first_row(i);
        const int64_t end = place.first_row(i + 1);
        real *of_h = h + i * rows * SEGMENT, *of_a = a + i * rows, *of_d_a = d_a + i * rows;
        for (; b + TILE <= end; b += TILE) backward_tile<TILE>(place, b, of_a, of_h, of_d_a, own);
        for (; b < end; b++) backward_tile<1>(place, b, of_a, of_h, of_d_a, own);
    }
    void gather() const {
        for (int64_t d = 0; d < place.job.steps; d++)
            for (const auto& [to, part] : {std::pair{place.job.d_weight, 0}, {place.job.d_readout, 1}})
                for (int64_t u = 0; to && u < place.job.units; u++) {
                    real sum = 0;
                    for (int64_t i = 0; i < place.shares; i++)
                        sum += gradients[(2 * i + part) * size + d * place.wide + u];
                    to[d * place.job.units + u] = sum;
                }
    }
};

template <class Pass>
void run(Pass& pass) {
    pass.place.pack();
    Pool::run(pass.place.shares, pass.place.shares, [](void* it, int64_t i) {
        static_cast<Pass*>(it)->share(i); }, &pass);
}

Autoregression without_workspace(const Autoregression& job) {
    Autoregression empty = job;
    empty.workspace = nullptr;
    return empty;
}

}  // namespace
}  // namespace throughtime

using throughtime::Autoregression;

extern "C" int64_t autoregression_size() { return sizeof(Autoregression); }
// Values of a stored state of one row, and states of a row.
extern "C" int64_t autoregression_width(int64_t units) { return throughtime::padded(units); }
extern "C" int64_t autoregression_segments(int64_t steps) { return throughtime::segments(steps); }
// Bytes of workspace.
extern "C" int64_t autoregression_forward_workspace(const Autoregression* job) {
    const Autoregression empty = throughtime::without_workspace(*job);
    return throughtime::ForwardPass(empty).place.room.size();
}
extern "C" int64_t autoregression_backward_workspace(const Autoregression* job) {
    const Autoregression empty = throughtime::without_workspace(*job);
    return throughtime::BackwardPass(empty).place.room.size();
}
extern "C" void autoregression_forward(const Autoregression* job) {
    throughtime::ForwardPass pass(*job);
    throughtime::run(pass);
    pass.place.room.leave();
}
extern "C" void autoregression_backward(const Autoregression* job) {
    throughtime::BackwardPass pass(*job);
    throughtime::run(pass);
    pass.gather();
    pass.place.room.leave();
}
