// Whether the arrays of a call have the sizes that its numbers say: asked before any is touched.
#pragma once
#include <cstdint>
#include <initializer_list>

#include "job.h"

namespace throughtime {
namespace {

constexpr int64_t MOST = int64_t(1) << 48;  // values of an array; more than a machine can address

// The number of values of an array of these axes, at most MOST.
inline int64_t count(std::initializer_list<int64_t> axes) {
    int64_t product = 1;
    for (const int64_t axis : axes) {
        if (axis < 0) return -1;
        if (axis == 0) return 0;
        if (__builtin_mul_overflow(product, axis, &product) || product > MOST) product = MOST;
    }
    return product;
}

template <class Value>
bool is_there(const Span<Value>& span, int64_t size) {
    return span.size == size * int64_t(sizeof(Value)) &&
           (size == 0 || (span.at && reinterpret_cast<uintptr_t>(span.at) % alignof(Value) == 0));
}
template <class Value>
bool is_there_or_null(const Span<Value>& span, int64_t size) {
    return span.at ? is_there(span, size) : span.size == 0;
}
// A list of so many arrays, each of that size; some may be null where `null` says so.
template <class Value>
bool are_there(const Span<const Span<Value>>& list, int64_t length, int64_t size, bool null = false) {
    if (!is_there(list, length)) return false;
    for (int64_t i = 0; i < length; i++)
        if (!(null ? is_there_or_null(list[i], size) : is_there(list[i], size))) return false;
    return true;
}
// Rows of `width` values, `strides` apart along the axes of time and batch.
inline bool are_rows(const Job& job, const Span<const real>& span, const int64_t* strides,
                     int64_t width) {
    if (count({job.time, job.batch, width}) == 0) return true;  // nothing is read
    const int64_t along_time = count({job.time - 1, strides[0]});
    const int64_t along_batch = count({job.batch - 1, strides[1]});
    return strides[0] >= 0 && strides[1] >= 0 &&
           is_there(span, span.size / int64_t(sizeof(real))) &&
           span.size / int64_t(sizeof(real)) >= along_time + along_batch + width;
}
inline bool are_within(const Span<const int64_t>& list, int64_t length, int64_t least,
                       int64_t most) {
    if (!is_there(list, length)) return false;
    for (int64_t i = 0; i < length; i++)
        if (list[i] < least || list[i] > most) return false;
    return true;
}

// The name of the first field that does not fit, as in job.h; null where all do.
inline const char* misfit(const Job& job, bool backward) {
    const int64_t T = job.time, B = job.batch, H = job.hidden, M = job.memories;
    for (const int64_t size : {T, H, job.input, job.threads, job.gates, job.depth, job.accumulators})
        if (size < 1 || size > MOST) return "sizes";
    for (const int64_t size : {B, job.x_accumulators, job.h_accumulators, job.lags, M, job.pasts,
                               job.streams, job.saved, job.parameters, job.parameter_gradients,
                               job.segment})
        if (size < 0 || size > MOST) return "sizes";
    if (job.x_accumulators > job.accumulators || job.h_accumulators > job.accumulators ||
        job.x_accumulators + job.h_accumulators < job.accumulators)
        return "sizes";
    if (!job.forward || !job.inference || !job.backward) return "functions";
    if (!are_within(job.gate_of, job.accumulators, 0, job.gates - 1)) return "gate_of";
    if (!are_within(job.lag, job.lags, 1, job.depth)) return "lag";
    if (!are_within(job.past, job.pasts, 1, job.depth)) return "past";
    const int64_t every = M < 62 ? (int64_t(2) << M) - 1 : 0;
    if (!are_within(job.reach, job.depth + M, 0, every)) return "reach";
    if (!are_within(job.stream_strides, job.streams, 0, 1)) return "stream_strides";

    const int64_t rows = count({job.gates, H}), fields = job.depth + M;
    const int64_t field = count({B, H}), history = count({T, B, H});
    if (!is_there_or_null(job.lengths, B)) return "lengths";
    if (job.lengths && !are_within(job.lengths, B, 1, T)) return "lengths";
    if (!is_there_or_null(job.ages, count({T, B}))) return "ages";
    if (!are_rows(job, job.inputs, job.input_strides, job.input)) return "inputs";
    if (!is_there(job.weight_ih, count({rows, job.input}))) return "weight_ih";
    if (!are_there(job.weight_hh, job.lags, count({rows, H}))) return "weight_hh";
    if (!is_there_or_null(job.bias_ih, rows)) return "bias_ih";
    if (!is_there_or_null(job.bias_hh, rows)) return "bias_hh";
    if (!are_there(job.initial, fields, field)) return "initial";
    if (!is_there(job.stream_values, job.streams)) return "stream_values";
    for (int64_t s = 0; s < job.streams; s++)
        if (!is_there(job.stream_values[s], count({T, B, job.stream_strides[s] ? H : 1})))
            return "stream_values";
    if (!are_there(job.parameter_values, job.parameters, H)) return "parameter_values";

    // What a backward pass reads must be there: all steps, or the states between segments.
    const bool whole = backward && !job.segment;
    const int64_t segments = job.segment ? (T - 1) / job.segment + 1 : 0;
    const int64_t saved = count({history, job.saved}), stored = count({segments, fields, field});
    if (!(whole ? is_there(job.outputs, history) : is_there_or_null(job.outputs, history)))
        return "outputs";
    if (!are_there(job.histories, M, history, !whole)) return "histories";
    if (!(whole ? is_there(job.saved_values, saved) : is_there_or_null(job.saved_values, saved)))
        return "saved_values";
    if (!is_there(job.snapshots, stored)) return "snapshots";
    if (!backward) return are_there(job.final, fields, field) ? nullptr : "final";

    if (job.output_gradient && !are_rows(job, job.output_gradient, job.output_gradient_strides, H))
        return "output_gradient";
    if (!are_there(job.history_gradients, M, history, true)) return "history_gradients";
    if (!are_there(job.final_gradients, fields, field, true)) return "final_gradients";
    if (!is_there_or_null(job.d_inputs, count({T, B, job.input}))) return "d_inputs";
    if (!is_there_or_null(job.d_weight_ih, count({rows, job.input}))) return "d_weight_ih";
    if (!are_there(job.d_weight_hh, job.lags, count({rows, H}), true)) return "d_weight_hh";
    if (!is_there_or_null(job.d_bias_ih, rows)) return "d_bias_ih";
    if (!is_there_or_null(job.d_bias_hh, rows)) return "d_bias_hh";
    if (!are_there(job.d_initial, fields, field, true)) return "d_initial";
    if (!are_there(job.d_parameters, job.parameter_gradients, H, true)) return "d_parameters";
    return nullptr;
}

}  // namespace
}  // namespace throughtime
