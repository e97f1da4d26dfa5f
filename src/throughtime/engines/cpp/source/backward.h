// The backward pass: for each step, the cell's gradient, then that of the past outputs; gradients of
// the weights are summed over a chunk of steps at a time, while its values are in the cache.
#pragma once
#include "walk.h"

namespace throughtime {
namespace {

constexpr int64_t CHUNK_ROWS = 160;  // rows (step and sequence) whose weight gradient is one product

// Whether the gradients of all rows are gathered in one chunk, with weights as they lie.
inline bool few_gradients(const Job& job) { return few(job) && !job.segment; }

// Weights packed for products with dL/daccumulators: [operand][panel][accumulator and unit][column].
struct BackwardWeights {
    const Job& job;
    int64_t wide;      // vectors of units in a panel
    Packed* operands;  // that of the input first, if its gradient is wanted

    BackwardWeights(const Job& job, const Shares& shares, Room& room)
        : job(job), wide(shares.wide) {
        operands = room.take<Packed>(1 + job.lags);
        for (int64_t o = 0; o <= job.lags; o++) {
            const int64_t depth = count(o) * job.hidden, columns = whole_vectors(width(o));
            real* at = wanted(o) && !few_gradients(job) ? room.take<real>(depth * columns) : nullptr;
            // many rows have their products with the input's at once
            if (operands) operands[o] = {at, depth, columns, o == 0 ? WIDTH : wide};
        }
    }
    bool wanted(int64_t o) const { return o > 0 || job.d_inputs; }
    const real* weight(int64_t o) const { return o == 0 ? job.weight_ih : job.weight_hh[o - 1]; }
    int64_t width(int64_t o) const { return o == 0 ? job.input : job.hidden; }
    int64_t count(int64_t o) const { return o == 0 ? job.x_accumulators : job.h_accumulators; }
    int64_t offset(int64_t o) const { return o == 0 ? 0 : job.accumulators - job.h_accumulators; }

    // One share of the packing: accumulator `share` of each operand.
    void pack(int64_t share) const {
        SECTION(PACKING);
        for (int64_t o = 0; o <= job.lags; o++) {
            if (!wanted(o) || share >= count(o)) continue;
            const Packed& to = operands[o];
            const int64_t gate = job.gate_of[offset(o) + share], N = width(o);
            for (int64_t p = 0; p < to.count(); p++) {
                const int64_t columns = to.width(p) * LANES, from = p * to.most * LANES;
                const int64_t valid = std::min(columns, N - from);
                for (int64_t j = 0; j < job.hidden; j++) {
                    real* row = to.panel(p) + (share * job.hidden + j) * columns;
                    std::copy_n(weight(o) + (gate * job.hidden + j) * N + from, valid, row);
                    std::fill(row + valid, row + columns, real(0));
                }
            }
        }
    }

    // c[row][first .. last) += sum over the operand's accumulators and units of a[row] and weights.
    void product(int64_t o, int64_t rows, const real** a, real* const* c, int64_t first,
                 int64_t last) const {
        if (!few_gradients(job)) {
            const int64_t panel = operands[o].most * LANES;
            return multiply(rows, a, operands[o], c, first / panel, divide_up(last, panel));
        }
        const int64_t H = job.hidden, N = width(o);
        for (int64_t i = 0; i < count(o); i++) {
            multiply_as_is(rows, H, a, weight(o) + job.gate_of[offset(o) + i] * H * N, N, c, first,
                           last);
            for (int64_t r = 0; r < rows; r++) a[r] += H;
        }
    }
};

// Gradients of one thread: of each operand's weights transposed, [input or unit][accumulators and
// units], in rows of `stride`; of the accumulators' biases; of the unit parameters.
struct Gradients {
    int64_t stride;
    real** operands;  // [1 + lags]
    real *biases, *parameters;

    Gradients(const Job& job, Room& room) {
        stride = whole_vectors(job.accumulators * job.hidden);
        operands = room.take<real*>(1 + job.lags);
        for (int64_t o = 0; o <= job.lags; o++) {
            const bool wanted = o == 0 ? job.d_weight_ih != nullptr : job.d_weight_hh[o - 1] != nullptr;
            const int64_t rows = o == 0 ? job.input : job.hidden;
            real* at = wanted && !few_gradients(job) ? room.take<real>(rows * stride) : nullptr;
            if (!operands) continue;
            operands[o] = at;
            if (at) std::fill_n(at, rows * stride, real(0));
        }
        biases = room.take<real>(stride);
        const int64_t values = job.parameter_gradients * whole_vectors(job.hidden);
        parameters = room.take<real>(values);
        if (!biases) return;
        std::fill_n(biases, stride, real(0));
        std::fill_n(parameters, values, real(0));
    }
};

// What a block of rows carries back through time, and the chunk that it is gathering.
struct Carry {
    int64_t padded, gate_stride, capacity, count = 0, flushed = 0;
    real *h = nullptr, *memories = nullptr, *gates = nullptr, *d_inputs = nullptr;  // h: [depth + 1][rows][padded], the steps in turn
    const real** operands;                  // [1 + lags][capacity]
    real **targets, **d_input_rows;
    const real** sources;

    // Threads that share rows share all but the lists of pointers.
    Carry(const Job& job, int64_t rows, const Carry* leader, bool leads, Room& room) {
        padded = whole_vectors(job.hidden);
        // One vector more than needed, since strides of a power of two share few lines of a cache.
        gate_stride = whole_vectors(job.accumulators * job.hidden) + LANES;
        const int64_t steps = std::min(job.time, CHUNK_ROWS / std::max<int64_t>(rows, 1));
        capacity = std::max<int64_t>(1, steps) * rows;
        operands = room.take<const real*>((1 + job.lags) * capacity);
        targets = room.take<real*>(capacity);
        d_input_rows = room.take<real*>(capacity);
        sources = room.take<const real*>(capacity);
        if (!leads) {
            if (!leader) return;
            h = leader->h, memories = leader->memories;
            gates = leader->gates, d_inputs = leader->d_inputs;
            return;
        }
        h = room.take<real>((job.depth + 1) * rows * padded);
        memories = room.take<real>(job.memories * rows * padded);
        gates = room.take<real>(capacity * gate_stride);
        d_inputs = room.take<real>(job.d_inputs ? capacity * whole_vectors(job.input) : 0);
        if (gates) std::fill_n(gates, capacity * gate_stride, real(0));
    }
    void clear(const Job& job, int64_t rows) {
        std::fill_n(h, (job.depth + 1) * rows * padded, real(0));
        std::fill_n(memories, job.memories * rows * padded, real(0));
    }
};

// For each step, which results have a gradient, as bits: h the lowest, then the memories. It is the
// same for all rows: where a gradient reaches some of them, it is zero for the others.
inline void find_present(const Job& job, int64_t* present) {
    int64_t always = job.output_gradient ? 1 : 0;
    for (int64_t m = 0; m < job.memories; m++)
        if (job.history_gradients[m]) always |= int64_t(2) << m;
    std::fill_n(present, job.time, always);
    const auto ends = [&](int64_t end) {  // the final state of a sequence of so many steps
        if (job.final_gradients[0]) present[end - 1] |= 1;
        for (int64_t m = 0; m < job.memories; m++)
            if (job.final_gradients[1 + m]) present[end - 1] |= int64_t(2) << m;
        for (int64_t d = 2; d <= job.depth && d <= end; d++)
            if (job.final_gradients[job.memories + d - 1]) present[end - d] |= 1;
    };
    if (!job.lengths) ends(job.time);
    for (int64_t b = 0; job.lengths && b < job.batch; b++) ends(job.lengths[b]);
    for (int64_t t = job.time - 1; t >= 0; t--) {
        for (int64_t d = 1; d <= job.depth && d <= t; d++)
            if (present[t] & job.reach[d - 1]) present[t - d] |= 1;
        for (int64_t m = 0; m < job.memories && t > 0; m++)
            if (present[t] & job.reach[job.depth + m]) present[t - 1] |= int64_t(2) << m;
    }
}

class BackwardBlock {
  public:
    BackwardBlock(Walk& walk, const BackwardWeights& weights, const Gradients& gradients,
                  const Member& member, Carry& carry, const int64_t* present)
        : job(walk.job), walk(walk), weights(weights), gradients(gradients), member(member),
          carry(carry), present(present) {}

    void segment(const Step& step) {
        for (int64_t t = walk.end - 1; t >= walk.begin; t--) {
            const int64_t count = walk.arrive(t);
            for (int64_t i = 0; i < count; i++) point(t, i);
            if (member.leads()) zero_beyond(t, count);
            Step now = step;
            now.present = present[t];
            {
                SECTION(ELEMENTWISE);
                if (now.present) job.backward(now, count, walk.table);
                else nothing_present(count);
            }
            member.wait();  // all of dL/daccumulators is there
            past_outputs(t, count);
            carry.count += count;
            if (carry.count + walk.rows() > carry.capacity) flush();
        }
        flush();  // what the chunk points to may be gone after the segment
    }

    // After the first step: the gradients of the initial state.
    void finish() {
        const int64_t H = job.hidden;
        for (int64_t b = walk.first; b < walk.last; b++)
            for (int64_t i = 0; i < 1 + job.memories + job.depth - 1; i++) {
                if (!job.d_initial[i]) continue;
                const real* from = i == 0               ? h_at(-1, b)
                                   : i <= job.memories ? memory_at(i - 1, b)
                                                       : h_at(job.memories - 1 - i, b);
                std::copy_n(from, H, job.d_initial[i] + b * H);
            }
    }

  private:
    real* h_at(int64_t t, int64_t b) const {  // from -depth on
        const int64_t slots = job.depth + 1, slot = (t + slots) % slots;
        return carry.h + (slot * walk.rows() + b - walk.first) * carry.padded;
    }
    real* memory_at(int64_t m, int64_t b) const {
        return carry.memories + (m * walk.rows() + b - walk.first) * carry.padded;
    }

    // The gradients' pointers of row i; where a sequence ends, those of its final state come in.
    void point(int64_t t, int64_t i) {
        const int64_t H = job.hidden, b = walk.active[i], steps = walk.age(t, b);
        if (t + 1 == walk.length(b)) {
            add(0, b, h_at(t, b));
            for (int64_t m = 0; m < job.memories; m++) add(1 + m, b, memory_at(m, b));
            for (int64_t d = 2; d <= job.depth && d <= steps + 1; d++)
                add(job.memories + d - 1, b, h_at(t + 1 - d, b));
        }
        real** p = walk.table + i * walk.pointers() + walk.forward_pointers();
        *p++ = h_at(t, b);
        *p++ = job.output_gradient
                   ? const_cast<real*>(job.output_gradient.at) + t * job.output_gradient_strides[0] +
                         b * job.output_gradient_strides[1]
                   : const_cast<real*>(walk.zeros);
        for (int64_t m = 0; m < job.memories; m++) *p++ = memory_at(m, b);
        for (int64_t m = 0; m < job.memories; m++)
            *p++ = const_cast<real*>(job.history_gradients[m]
                                         ? job.history_gradients[m].at + (t * job.batch + b) * H
                                         : walk.zeros);
        *p++ = carry.gates + (carry.count + i) * carry.gate_stride;
        *p++ = steps >= 1 ? h_at(t - 1, b) : walk.trash;
        for (int64_t d = 0; d < job.pasts; d++)
            *p++ = steps >= job.past[d] ? h_at(t - job.past[d], b) : walk.trash;
        for (int64_t o = 0; o <= job.lags; o++)
            carry.operands[o * carry.capacity + carry.count + i] = walk.operands[o * walk.rows() + i];
        if (job.d_inputs)
            carry.d_input_rows[carry.count + i] = job.d_inputs + (t * job.batch + b) * job.input;
    }

    void add(int64_t field, int64_t b, real* to) {
        if (const real* from = job.final_gradients[field])
            for (int64_t j = member.first_unit; j < member.last_unit; j++)
                to[j] += from[b * job.hidden + j];
    }

    void zero_beyond(int64_t t, int64_t count) {
        if (!job.d_inputs || count == walk.rows()) return;
        for (int64_t b = walk.first; b < walk.last; b++)
            if (t >= walk.length(b))
                std::fill_n(job.d_inputs + (t * job.batch + b) * job.input, job.input, real(0));
    }

    // A step whose results no gradient reaches: that of the memories is zero already.
    void nothing_present(int64_t count) {
        for (int64_t i = 0; i < count; i++)
            for (int64_t a = 0; a < job.accumulators; a++)
                std::fill_n(carry.gates + (carry.count + i) * carry.gate_stride + a * job.hidden +
                                member.first_unit, member.units(), real(0));
    }

    // dL/dh_{t-d} += dL/daccumulators W_hh; then step t's own place is free for step t - D - 1.
    void past_outputs(int64_t t, int64_t count) {
        SECTION(RECURRENT_PRODUCT);
        for (int64_t l = 0; l < job.lags; l++) {
            int64_t rows = 0;
            for (int64_t i = 0; i < count; i++) {
                const int64_t b = walk.active[i];
                if (walk.age(t, b) < job.lag[l]) continue;
                carry.sources[rows] = carry.gates + (carry.count + i) * carry.gate_stride +
                                      weights.offset(1) * job.hidden;
                carry.targets[rows++] = h_at(t - job.lag[l], b);
            }
            weights.product(1 + l, rows, carry.sources, carry.targets, member.first_unit,
                            member.last_unit);
        }
        for (int64_t i = 0; i < count; i++) {
            const int64_t b = walk.active[i];
            std::fill_n(h_at(t, b) + member.first_unit, member.units(), real(0));
            if (walk.age(t, b) >= 1) continue;
            for (int64_t m = 0; m < job.memories; m++)
                std::fill_n(memory_at(m, b) + member.first_unit, member.units(), real(0));
        }
    }

    // The chunk's part of the gradients of weights, biases and inputs.
    void flush() {
        const int64_t H = job.hidden, rows = carry.count, padded = carry.gate_stride;
        // This thread's units lie together in each accumulator; all units, in all of them.
        const int64_t pieces = member.count == 1 ? 1 : job.accumulators;
        for (int64_t piece = 0; piece < pieces; piece++) {
            SECTION(WEIGHT_GRADIENT);
            const int64_t first = piece * H + member.first_unit;
            const int64_t size = member.count == 1 ? job.accumulators * H : member.units();
            for (int64_t o = 0; o <= job.lags; o++) {
                const int64_t start = weights.offset(o) * H, width = weights.count(o) * H;
                const int64_t from = std::max(first, start);
                const int64_t columns = std::min(first + size, start + width) - from;
                if (!gradients.operands[o] || columns <= 0) continue;
                multiply_transposed(weights.width(o), rows, carry.operands + o * carry.capacity,
                                    carry.gates + from, padded, columns,
                                    gradients.operands[o] + from - start, gradients.stride);
            }
            for (int64_t c = first; c < first + size; c += LANES) {
                vec sum = loadu(gradients.biases + c);
                for (int64_t k = 0; k < rows; k++) sum += loadu(carry.gates + k * padded + c);
                storeu(gradients.biases + c, sum);
            }
        }
        if (job.d_inputs) input_gradients(rows * member.index / member.count,
                                          rows * (member.index + 1) / member.count);
        member.wait();  // the chunk is free
        carry.flushed += rows;
        carry.count = 0;
    }

    // Those of rows first to last of the chunk.
    void input_gradients(int64_t first, int64_t last) {
        SECTION(INPUT_PRODUCT);
        const int64_t width = whole_vectors(job.input);
        std::fill_n(carry.d_inputs + first * width, (last - first) * width, real(0));
        for (int64_t k = first; k < last; k++) {
            carry.sources[k] = carry.gates + k * carry.gate_stride;
            carry.targets[k] = carry.d_inputs + k * width;
        }
        weights.product(0, last - first, carry.sources + first, carry.targets + first, 0, job.input);
        for (int64_t k = first; k < last; k++)
            std::copy_n(carry.targets[k], job.input, carry.d_input_rows[k]);
    }

    const Job& job;
    Walk& walk;
    const BackwardWeights& weights;
    const Gradients& gradients;
    const Member& member;
    Carry& carry;
    const int64_t* present;
};

// Rows of a gate's gradient of an operand's weights, in torch's layout, where there are few rows.
inline void add_up_few(const Job& job, const Carry& carry, int64_t o, int64_t a, real* to) {
    const int64_t N = o == 0 ? job.input : job.hidden;
    const real* const* x = carry.operands + o * carry.capacity;
    for (int64_t j = 0; j < job.hidden; j++, to += N)
        for (int64_t i = 0; i < N; i += LANES) {
            const int64_t lanes = std::min<int64_t>(LANES, N - i);
            vec sum = {};
            for (int64_t r = 0; r < carry.flushed; r++)
                sum += carry.gates[r * carry.gate_stride + a * job.hidden + j] *
                       load(x[r] + i, lanes);
            store(to + i, sum, lanes);
        }
}

// One share of the sum over threads: gate `gate`'s rows of every gradient, in torch's layout.
inline void gather_gradients(const Job& job, const Gradients* threads, int64_t count,
                             const Carry& carry, int64_t gate) {
    SECTION(WEIGHT_GRADIENT);
    const int64_t H = job.hidden;
    // The gate's accumulator of the input or of the past; null where pointwise reads none.
    const auto find = [&](int64_t first, int64_t last) {
        const int64_t* end = job.gate_of + last;
        const int64_t* found = std::find(job.gate_of + first, end, gate);
        return found == end ? int64_t(-1) : found - job.gate_of;
    };
    const int64_t past = job.accumulators - job.h_accumulators;
    const int64_t of_input = find(0, job.x_accumulators), of_past = find(past, job.accumulators);
    for (int64_t o = 0; o <= job.lags; o++) {
        real* to = o == 0 ? job.d_weight_ih : job.d_weight_hh[o - 1];
        if (!to) continue;
        const int64_t a = o == 0 ? of_input : of_past, first = o == 0 ? 0 : past;
        const int64_t width = o == 0 ? job.input : H;
        to += gate * H * width;
        if (a < 0) {
            std::fill_n(to, H * width, real(0));
            continue;
        }
        if (few_gradients(job)) {
            add_up_few(job, carry, o, a, to);
            continue;
        }
        constexpr int64_t BLOCK = 16;
        for (int64_t i0 = 0; i0 < width; i0 += BLOCK)
            for (int64_t j0 = 0; j0 < H; j0 += BLOCK) {
                const int64_t columns = std::min(BLOCK, H - j0);
                for (int64_t i = i0; i < std::min(width, i0 + BLOCK); i++) {
                    real sum[BLOCK] = {};
                    for (int64_t n = 0; n < count; n++) {
                        const real* from = threads[n].operands[o] + i * threads[n].stride +
                                           (a - first) * H + j0;
                        for (int64_t j = 0; j < columns; j++) sum[j] += from[j];
                    }
                    for (int64_t j = 0; j < columns; j++) to[(j0 + j) * width + i] = sum[j];
                }
            }
    }
    const auto biases = [&](real* to, int64_t a) {
        for (int64_t j = 0; to && j < H; j++) {
            real sum = 0;
            for (int64_t n = 0; a >= 0 && n < count; n++) sum += threads[n].biases[a * H + j];
            to[gate * H + j] = sum;
        }
    };
    biases(job.d_bias_ih, of_input);
    biases(job.d_bias_hh, of_past);
    const int64_t padded = whole_vectors(H);
    for (int64_t p = 0; gate == 0 && p < job.parameter_gradients; p++)
        for (int64_t j = 0; job.d_parameters[p] && j < H; j++) {
            real sum = 0;
            for (int64_t n = 0; n < count; n++) sum += threads[n].parameters[p * padded + j];
            job.d_parameters[p][j] = sum;
        }
}

}  // namespace
}  // namespace throughtime
