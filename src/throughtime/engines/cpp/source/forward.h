// The forward pass: for each step, the linear maps of x_t and of the past outputs, then the cell.
#pragma once
#include "sections.h"
#include "walk.h"

namespace throughtime {
namespace {

// Weights packed for the forward pass. Columns come in blocks of a few vectors of units: those of the
// first accumulator, then those of the next; operand 0 is the input, then come the lags.
struct ForwardWeights {
    const Job& job;
    bool packed;      // else they are read as they lie
    int64_t wide;     // vectors in a panel
    int64_t units;    // vectors of units in a block
    int64_t blocks;
    real** operands;  // [1 + lags][block][panel][k][column]
    real* biases;     // [block][accumulator][unit][lane]
    real* parameters; // [parameter][padded]

    ForwardWeights(const Job& job, const Shares& shares, Room& room) : job(job), wide(shares.wide) {
        units = std::max<int64_t>(1, wide / std::max(job.x_accumulators, job.h_accumulators));
        blocks = divide_up(job.hidden, units * LANES);
        packed = !few(job);
        operands = room.take<real*>(1 + job.lags);
        for (int64_t o = 0; o <= job.lags; o++) {
            real* at = room.take<real>(packed ? blocks * block_size(o) : 0);
            if (operands) operands[o] = at;
        }
        biases = room.take<real>(blocks * units * job.accumulators * LANES);
        parameters = room.take<real>(job.parameters * whole_vectors(job.hidden));
    }
    int64_t depth(int64_t o) const { return o == 0 ? job.input : job.hidden; }
    int64_t count(int64_t o) const { return o == 0 ? job.x_accumulators : job.h_accumulators; }
    int64_t offset(int64_t o) const { return o == 0 ? 0 : job.accumulators - job.h_accumulators; }
    int64_t block_size(int64_t o) const { return depth(o) * units * count(o) * LANES; }
    // Vectors of units in a block: fewer in the last.
    int64_t width(int64_t i) const {
        return std::min(units, divide_up(job.hidden, LANES) - i * units);
    }
    Packed block(int64_t o, int64_t i) const {
        // many rows have their products with the input's at once
        return {operands[o] + i * block_size(o), depth(o), width(i) * count(o) * LANES,
                o == 0 ? WIDTH : wide};
    }

    const real* weight(int64_t o) const { return o == 0 ? job.weight_ih : job.weight_hh[o - 1]; }

    // One share of the packing: block `share` of each operand.
    void pack(int64_t share) const {
        SECTION(PACKING);
        const int64_t H = job.hidden, own = width(share);
        for (int64_t o = 0; packed && o <= job.lags; o++) {
            const Packed to = block(o, share);
            for (int64_t p = 0; p < to.count(); p++) {
                const real* from[WIDEST * LANES];
                const int64_t columns = to.width(p) * LANES;
                for (int64_t c = 0; c < columns; c++) {
                    const int64_t vector = p * to.most + c / LANES;
                    const int64_t unit = (share * units + vector % own) * LANES + c % LANES;
                    const int64_t gate = job.gate_of[offset(o) + vector / own];
                    from[c] = unit < H ? weight(o) + (gate * H + unit) * depth(o) : nullptr;
                }
                transpose(depth(o), columns, from, to.panel(p), columns);
            }
        }
        for (int64_t u = 0; u < own; u++)
            for (int64_t a = 0; a < job.accumulators; a++)
                for (int64_t lane = 0; lane < LANES; lane++) {
                    const int64_t unit = (share * units + u) * LANES + lane;
                    const int64_t row = job.gate_of[a] * H + unit;
                    real sum = 0;
                    if (unit < H && job.bias_ih && a < job.x_accumulators) sum += job.bias_ih[row];
                    if (unit < H && job.bias_hh && a >= offset(1)) sum += job.bias_hh[row];
                    biases[(share * units * job.accumulators + a * own + u) * LANES + lane] = sum;
                }
    }
    void pack_parameters() const {
        const int64_t padded = whole_vectors(job.hidden);
        for (int64_t p = 0; p < job.parameters; p++)
            for (int64_t j = 0; j < padded; j++)
                parameters[p * padded + j] = j < job.hidden ? job.parameter_values[p][j] : real(0);
    }
};

// What `multiply` adds for operand o, with weights as they lie.
inline void add_dots(const Walk& walk, const ForwardWeights& weights, int64_t o, int64_t block,
                     int64_t row, int64_t rows, real* accumulators, int64_t stride) {
    const Job& job = walk.job;
    const int64_t H = job.hidden, depth = weights.depth(o), wide = weights.width(block);
    for (int64_t i = 0; i < weights.count(o) * wide; i++) {
        const int64_t a = weights.offset(o) + i / wide;
        const int64_t unit = (block * weights.units + i % wide) * LANES;
        const real* first = weights.weight(o) + (job.gate_of[a] * H + unit) * depth;
        const real* of_lane[LANES];
        for (int64_t j = 0; j < LANES; j++) of_lane[j] = first + (unit + j < H ? j * depth : 0);
        for (int64_t r = 0; r < rows; r++) {
            real* to = accumulators + r * stride + (a * wide + i % wide) * LANES;
            storeu(to, loadu(to) + dots(depth, walk.operands[o * walk.rows() + row + r], of_lane));
        }
    }
}

// The accumulators of one thread. Where a step has few rows, the input's products of some steps are
// computed at once: a product of many rows reads the weights less often.
struct Accumulators {
    static constexpr int64_t FEW = 12, MANY = 48;  // rows of a step, and of steps at once
    static constexpr int64_t SIZE = 1 << 16;       // bytes of steps at once, if they have so many rows

    const ForwardWeights& weights;
    int64_t first_block, last_block, stride;
    int64_t capacity;  // rows of steps at once; 0 if each tile has its own products
    real* values;
    const real** operands;
    real** targets;
    int64_t end = 0, row = 0;  // the step up to which they are there; the next step's first row

    Accumulators(const ForwardWeights& weights, const Member& member, int64_t rows, Room& room)
        : weights(weights) {
        const int64_t size = weights.units * LANES, steps = divide_up(FEW, std::max<int64_t>(1, rows));
        first_block = member.first_unit / size;
        last_block = divide_up(member.last_unit, size);
        // One vector more than needed: see Carry.
        stride = (last_block - first_block) * block_size() + LANES;
        const int64_t most = std::min(MANY, SIZE / (stride * int64_t(sizeof(real))));
        const bool at_once = weights.packed && 0 < rows && rows < FEW;
        capacity = at_once ? std::max(steps, most / rows) * rows : 0;
        values = room.take<real>(at_once ? capacity * stride : ROWS * block_size());
        operands = room.take<const real*>(capacity);
        targets = room.take<real*>(capacity);
    }
    int64_t block_size() const { return weights.units * weights.job.accumulators * LANES; }
    const real* biases(int64_t block) const { return weights.biases + block * block_size(); }
    real* of(int64_t block, int64_t r) const {
        return values + (row + r) * stride + (block - first_block) * block_size();
    }

    // Biases and products of the inputs of steps from t on.
    void fill(const Walk& walk, int64_t t) {
        SECTION(INPUT_PRODUCT);
        const Job& job = walk.job;
        int64_t count = 0;
        for (end = t; end < walk.end && count + walk.rows() <= capacity; end++)
            for (int64_t b = walk.first; b < walk.last; b++) {
                if (end >= walk.length(b)) continue;
                operands[count] = walk.input(end, b);
                std::copy_n(biases(first_block), stride - LANES, values + count * stride);
                count++;
            }
        row = 0;
        for (int64_t block = first_block; job.x_accumulators > 0 && block < last_block; block++) {
            for (int64_t r = 0; r < count; r++) targets[r] = of(block, r);
            multiply(count, operands, weights.block(0, block), targets);
        }
    }
};

// One step of a tile of at most ROWS rows and of one block of units.
inline void forward_tile(const Walk& walk, const Accumulators& sums, const Step& step,
                         int64_t block, int64_t row, int64_t rows) {
    const Job& job = walk.job;
    const ForwardWeights& weights = sums.weights;
    const int64_t wide = weights.width(block), vectors = wide * job.accumulators;
    const int64_t stride = sums.capacity ? sums.stride : vectors * LANES;
    real* accumulators = sums.capacity ? sums.of(block, row) : sums.values;
    for (int64_t r = 0; r < rows && !sums.capacity; r++)
        for (int64_t v = 0; v < vectors; v++)
            storeu(accumulators + r * stride + v * LANES, loadu(sums.biases(block) + v * LANES));
    real* at[ROWS];
    for (int64_t o = sums.capacity ? 1 : 0; o <= job.lags; o++) {
        SECTION(o == 0 ? INPUT_PRODUCT : RECURRENT_PRODUCT);
        for (int64_t r = 0; r < rows; r++)
            at[r] = accumulators + r * stride + weights.offset(o) * wide * LANES;
        if (!weights.packed)
            add_dots(walk, weights, o, block, row, rows, accumulators, stride);
        else if (weights.count(o) > 0)
            multiply(rows, walk.operands + o * walk.rows() + row, weights.block(o, block), at);
    }
    SECTION(ELEMENTWISE);
    const Forward function = walk.saved.base ? job.forward : job.inference;
    for (int64_t u = 0; u < wide; u++) {
        const int64_t unit = (block * weights.units + u) * LANES;
        function(step, rows, unit, std::min<int64_t>(LANES, job.hidden - unit),
                 accumulators + u * LANES, stride, wide * LANES,
                 walk.table + row * walk.pointers());
    }
}

// All steps of a segment. `visible`: outputs and histories go to the caller, so that what lies
// beyond a length is zeroed, and final states are written.
inline void forward_segment(Walk& walk, const Step& step, const Member& member, Accumulators& sums,
                            bool visible) {
    const Job& job = walk.job;
    const ForwardWeights& weights = sums.weights;
    const int64_t H = job.hidden;
    const int64_t most = rows_at(int(std::min<int64_t>(
        weights.wide, weights.units * std::max(job.x_accumulators, job.h_accumulators))));
    sums.end = walk.begin;
    for (int64_t t = walk.begin; t < walk.end; t++) {
        const int64_t count = walk.arrive(t);
        if (sums.capacity && t == sums.end) sums.fill(walk, t);
        for (int64_t block = sums.first_block; block < sums.last_block; block++)
            for (int64_t r = 0, rows; r < count; r += rows) {
                rows = even_share(count - r, most);
                forward_tile(walk, sums, step, block, r, rows);
            }
        sums.row += count;
        member.wait();  // all of h_t is there
        if (!visible || !member.leads()) continue;
        if (count < walk.rows())
            for (int64_t b = walk.first; b < walk.last; b++) {
                if (t < walk.length(b)) continue;
                if (job.outputs) std::fill_n(job.outputs + (t * job.batch + b) * H, H, real(0));
                for (int64_t m = 0; m < job.memories; m++)
                    if (job.histories[m])
                        std::fill_n(job.histories[m] + (t * job.batch + b) * H, H, real(0));
            }
        for (int64_t i = 0; i < count; i++) {
            const int64_t b = walk.active[i], steps = walk.age(t, b) + 1;
            if (t + 1 != walk.length(b)) continue;
            std::copy_n(walk.past(t + 1, b, 1, steps), H, job.final[0] + b * H);
            for (int64_t m = 0; m < job.memories; m++)
                std::copy_n(walk.memories[m].at(t, b, H), H, job.final[1 + m] + b * H);
            for (int64_t d = 2; d <= job.depth; d++)
                std::copy_n(walk.past(t + 1, b, d, steps), H,
                            job.final[job.memories + d - 1] + b * H);
        }
    }
}

}  // namespace
}  // namespace throughtime
