// What a generated cell and the loop over time agree on.
//
// A cell is two functions on rows (sequences) and units. For each row they read and write through a
// table of pointers to the row's vectors of `hidden` values, in this order (M memories, P delays of
// past outputs and S streams that `pointwise` reads):
//
//   h_{t-1}, memories_{t-1} [M], h_{t-d} [P], streams [S], h_t, memories_t [M], saved,
//
// and for the backward pass, beyond these:
//
//   dL/dh_t through later steps, dL/dh_t through the output, dL/dmemories_t through later steps [M],
//   dL/dmemories_t through the returned states [M], dL/daccumulators, dL/dh_{t-1}, dL/dh_{t-d} [P].
//
// `saved` and `dL/daccumulators` hold their values one after another, `hidden` apart.
#pragma once
#include <cstdint>

#include "vectors.h"

namespace throughtime {

struct Step {
    int64_t hidden;                 // units
    int64_t padded;                 // units, rounded up to whole vectors
    int64_t first_unit, last_unit;  // those of this thread
    const real* parameters;         // unit parameters, `padded` apart
    const int64_t* stream_strides;  // 1 for a stream with a value for each unit, 0 for one for all
    real* parameter_gradients;      // of this thread, `padded` apart
    int64_t present;                // bits: which results have a gradient, h the lowest
};

// rows x one vector of units; accumulators of row r start at `accumulators + r * stride`, and lie
// `gate_stride` apart.
using Forward = void (*)(const Step& step, int64_t rows, int64_t unit, int64_t lanes,
                         const real* accumulators, int64_t stride, int64_t gate_stride,
                         real* const* table);
// rows x the units of this thread; dL/dmemories is replaced by that of the step before, the last two are added to.
using Backward = void (*)(const Step& step, int64_t rows, real* const* table);

}  // namespace throughtime
