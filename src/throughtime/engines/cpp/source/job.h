// One call of the engine: all that a pass over time reads and writes. Mirrored in kernel.py.
#pragma once
#include <cstddef>
#include <cstdint>

#include "cell.h"

namespace throughtime {

// A pointer with the number of bytes that may be read or written there.
template <class Value>
struct Span {
    Value* at;
    int64_t size;
    operator Value*() const { return at; }
};

struct Job {
    // Sizes.
    int64_t time, batch, input, hidden, threads;
    // The cell: accumulators [0, x_accumulators) take W_ih x, the last h_accumulators W_hh h.
    int64_t accumulators, x_accumulators, h_accumulators, gates;
    int64_t lags, memories, pasts, streams, saved, parameters, parameter_gradients;
    int64_t depth;           // D: how many past outputs the state holds
    int64_t segment;         // steps between two snapshots of the state; 0 for none
    int64_t split_units;     // how many threads share rows, each with units of its own; 1 for none
    int64_t input_strides[2], output_gradient_strides[2];  // of time and batch
    Forward forward, inference;  // with the values to save, and without
    Backward backward;
    Span<const int64_t> gate_of;  // for each accumulator
    Span<const int64_t> lag;      // delays with a recurrent matrix
    Span<const int64_t> past;     // delays that `pointwise` reads
    Span<const int64_t> reach;    // bits for each past output, then each memory: see `present`
    Span<const int64_t> stream_strides;
    // Inputs; (batch, hidden) and (time, batch, hidden) fields are contiguous.
    Span<const int64_t> lengths;  // or null
    Span<const int64_t> ages;     // (time, batch) steps since the last reset, or null
    Span<const real> inputs;
    Span<const real> weight_ih, bias_ih, bias_hh;
    Span<const Span<const real>> weight_hh;      // for each lag
    Span<const Span<const real>> initial;        // h, memories, then the other past outputs, newest first
    Span<const Span<const real>> stream_values;  // (time, batch, hidden or 1)
    Span<const Span<const real>> parameter_values;  // for each (hidden,)
    // What the forward pass writes. Null histories are kept for as long as they are needed only.
    Span<real> outputs;                // (time, batch, hidden) or null
    Span<const Span<real>> histories;  // of the memories, (time, batch, hidden), or nulls
    Span<real> saved_values;           // (time, batch, saved, hidden) or null
    Span<real> snapshots;              // (segments, depth + memories, batch, hidden) or null
    Span<const Span<real>> final;      // as `initial`
    // What the backward pass reads and writes; null for what is not there or not wanted.
    Span<const real> output_gradient;                // last axis contiguous
    Span<const Span<const real>> history_gradients;  // of the memories, (time, batch, hidden)
    Span<const Span<const real>> final_gradients;    // as `initial`
    Span<real> d_inputs, d_weight_ih, d_bias_ih, d_bias_hh;
    Span<const Span<real>> d_weight_hh;
    Span<const Span<real>> d_initial;
    Span<const Span<real>> d_parameters;  // for each with a gradient (hidden,), or nulls
    // Room to work in; its size is asked for first.
    Span<char> workspace;
};

// Whether rows (step and sequence) are so few that it is less work to read the weights as they lie
// than to pack them.
inline bool few(const Job& job) {
    constexpr int64_t FEW = 32;
    return job.time <= FEW && job.batch <= FEW && job.time * job.batch <= FEW;
}

#if defined(__SANITIZE_ADDRESS__)
extern "C" void __asan_poison_memory_region(void const volatile*, size_t);
extern "C" void __asan_unpoison_memory_region(void const volatile*, size_t);
#endif

// The workspace, cut into arrays; without a workspace it only adds up their sizes.
class Room {
  public:
    explicit Room(char* at) : start(at), at(0) {}
    template <class Value>
    Value* take(int64_t count) {
        Value* result = start ? reinterpret_cast<Value*>(start + at) : nullptr;
        at += (count * int64_t(sizeof(Value)) + 63) / 64 * 64;
#if defined(__SANITIZE_ADDRESS__)  // nothing may run from one array into the next
        if (start) __asan_poison_memory_region(start + at, 64);
        at += 64;
#endif
        return result;
    }
    int64_t size() const { return at; }
    // Leaves the workspace as it was, for whoever uses its memory next.
    void leave() {
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(start, at);
#endif
    }

  private:
    char* start;
    int64_t at;
};

}  // namespace throughtime
