// What the generated parts of a step and the loop over time agree on.
//
// A part computes elementwise values and reductions of some rows. Each row has a list of pointers,
// whose meaning the generator chooses.
#pragma once
#include <cstdint>
#include <limits>

#include "vectors.h"

namespace throughtime {

struct Units {
    const real* parameters;
    real* d_parameters;      // of this thread
    const int64_t* numbers;  // offsets and widths
    const real* constants;
    const real* present;     // of this step: not 0 where one of a set of results has a gradient
};

using Part = void (*)(const Units& units, int64_t rows, real* const* table);

namespace {

// The first n lanes, and another value in those beyond.
__attribute__((noinline, unused)) vec first(vec v, long n, real other) {
    real lanes[LANES];
    storeu(lanes, v);
    for (long i = n; i < LANES; i++) lanes[i] = other;
    return loadu(lanes);
}
__attribute__((noinline, unused)) vec all_sum(vec v) {
    real lanes[LANES], sum = 0;
    storeu(lanes, v);
    for (int width = LANES / 2; width; width /= 2)
        for (int i = 0; i < width; i++) lanes[i] += lanes[i + width];
    sum = lanes[0];
    return broadcast(sum);
}
__attribute__((noinline, unused)) vec all_most(vec v) {
    real lanes[LANES];
    storeu(lanes, v);
    vec most = broadcast(lanes[0]);
    for (int i = 1; i < LANES; i++) most = maximum(most, broadcast(lanes[i]));
    return most;
}
constexpr real LEAST = -std::numeric_limits<real>::infinity();

}  // namespace
}  // namespace throughtime
