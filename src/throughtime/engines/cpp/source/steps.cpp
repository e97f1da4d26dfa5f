// Steps of any cell over time: products from packed weights, and the generated parts between them.
// Each thread has rows of the batch of its own, for all of time.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "job.h"
#include "product.h"
#include "steps.h"
#include "subnormals.h"
#include "threads.h"

namespace throughtime {

// Places in a row: a pointer of its table and an offset. Mirrored in cpp/steps/kernel.py.
struct Multiplication {
    int64_t phase, source, source_offset, depth, target, target_offset, width, weight, transposed;
};
// The gradient of a matrix: of its vectors, and of the products, which lie in the slots of a chunk.
struct MatrixGradient {
    int64_t source, source_offset, depth, slot_offset, width;
};
struct Matrix {
    const real* at;
    int64_t depth_stride, width_stride;
};
struct Field {
    int64_t width, carry;          // values of a row, and their place among the carried gradients
    int64_t shift;                 // the field whose value before the step it takes over, or -1
    int64_t read;                  // whether the backward pass reads it before the step
    const real *initial, *fresh;   // (batch, width); the latter null where nothing is reset
    real *history, *last;          // (time, batch, width) or null; (batch, width)
    const real *d_history, *d_last;  // or null
    real *d_initial, *d_fresh;     // or null
};
struct Input {
    const real* at;
    int64_t width, time_stride, batch_stride;
};

struct Steps {
    int64_t time, batch, threads;
    int64_t inputs, fields, phases, multiplications, gradients;
    int64_t saved, temporary, slot, carry, output, sums, presents;  // widths
    const Part* parts;
    const int64_t* numbers;       // of the parts
    const real* constants;
    const Multiplication* products;
    const MatrixGradient* matrix_gradients;
    const Matrix* matrices;
    const Input* input;
    const Field* field;
    const int64_t* lengths;       // or null
    const uint8_t* resets;        // (time, batch) or null
    const real* parameter_values;
    real* outputs;                // (time, batch, output) or null
    real* saved_values;           // (time, batch, saved) or null
    const real* d_outputs;        // or null
    real* d_input;                // (time, batch, width of input 0) or null
    real** d_matrices;            // (depth, width) for each gradient, or null
    real* d_parameters;
    const real* present;          // (time, presents): of all results, then of sets of them
    char* workspace;
};

namespace {

constexpr int64_t BLOCK_ROWS = 64;
constexpr int64_t FEW_ROWS = 32;
constexpr int64_t CHUNK_ROWS = 192;  // steps whose gradients of weights are computed together

struct Weights {
    const Steps& job;
    real** panels;

    Weights(const Steps& job, Room& room) : job(job) {
        panels = room.take<real*>(job.multiplications);
        for (int64_t i = 0; i < job.multiplications; i++) {
            const Multiplication& p = job.products[i];
            real* at = room.take<real>(packs(job, p) ? Packed::size(p.depth, p.width) : 0);
            if (panels) panels[i] = at;
        }
    }
    // Whether weights are packed: where rows are few, it is less work to read them as they lie.
    static bool packs(const Steps& job, const Multiplication& p) {
        const Matrix& m = job.matrices[p.weight];
        return job.time * job.batch > FEW_ROWS || (m.depth_stride != 1 && m.width_stride != 1);
    }
    // targets[row] += sources[row] B for the product i.
    void product(int64_t i, int64_t rows, const real* const* sources, real* const* targets) const {
        const Multiplication& p = job.products[i];
        if (packs(job, p)) return multiply(rows, sources, packed(i), targets);
        const Matrix& m = job.matrices[p.weight];
        const int64_t along = p.transposed ? m.width_stride : m.depth_stride;
        const int64_t across = p.transposed ? m.depth_stride : m.width_stride;
        if (across == 1)
            return multiply_as_is(rows, p.depth, sources, m.at, along, targets, 0, p.width);
        for (int64_t n = 0; n < p.width; n += LANES) {
            const int64_t lanes = std::min<int64_t>(LANES, p.width - n);
            const real* column[LANES];
            for (int64_t c = 0; c < LANES; c++)
                column[c] = m.at + (n + std::min(c, lanes - 1)) * across;
            for (int64_t r = 0; r < rows; r++)
                store(targets[r] + n, load(targets[r] + n, lanes) + dots(p.depth, sources[r], column),
                      lanes);
        }
    }
    Packed packed(int64_t i) const {
        return {panels[i], job.products[i].depth, whole_vectors(job.products[i].width)};
    }
    void pack(int64_t i) const {
        const Multiplication& p = job.products[i];
        if (!packs(job, p)) return;
        const Matrix& m = job.matrices[p.weight];
        const int64_t along = p.transposed ? m.width_stride : m.depth_stride;
        const int64_t across = p.transposed ? m.depth_stride : m.width_stride;
        const Packed to = packed(i);
        for (int64_t panel = 0; panel < to.count(); panel++) {
            const int64_t columns = to.width(panel) * LANES, start = panel * WIDTH * LANES;
            const int64_t there = std::min(columns, p.width - start);
            real* out = to.panel(panel);
            constexpr int64_t BLOCK = 16;
            for (int64_t k0 = 0; k0 < p.depth; k0 += BLOCK)
                for (int64_t c = 0; c < columns; c++)
                    for (int64_t k = k0; k < std::min(p.depth, k0 + BLOCK); k++)
                        out[k * columns + c] =
                            c < there ? m.at[k * along + (start + c) * across] : real(0);
        }
    }
};

struct Cut {
    int64_t shares, block;
    explicit Cut(const Steps& job) {
        shares = std::max<int64_t>(1, std::min(job.threads, job.batch));
        block = std::max<int64_t>(1, std::min(BLOCK_ROWS, divide_up(job.batch, shares)));
    }
    int64_t first(const Steps& job, int64_t share) const { return job.batch * share / shares; }
};

inline int64_t length(const Steps& job, int64_t b) { return job.lengths ? job.lengths[b] : job.time; }
inline bool resets(const Steps& job, int64_t t, int64_t b) {
    return job.resets && job.resets[t * job.batch + b];
}

// The work of one step that both passes share.
struct Rows {
    const Steps& job;
    const Weights& weights;
    int64_t pointers;
    real** table;
    const real** sources;
    real** targets;

    Rows(const Steps& job, const Weights& weights, int64_t pointers, int64_t block, Room& room)
        : job(job), weights(weights), pointers(pointers) {
        table = room.take<real*>(block * pointers);
        sources = room.take<const real*>(block);
        targets = room.take<real*>(block);
    }
    void run(const Units& units, int64_t count) const {
        int64_t next = 0;
        for (int64_t phase = 0; phase < job.phases; phase++) {
            for (; next < job.multiplications && job.products[next].phase == phase; next++) {
                const Multiplication& p = job.products[next];
                const int64_t wide = whole_vectors(p.width);
                for (int64_t i = 0; i < count; i++) {
                    sources[i] = table[i * pointers + p.source] + p.source_offset;
                    targets[i] = table[i * pointers + p.target] + p.target_offset;
                    std::memset(targets[i], 0, wide * sizeof(real));
                }
                weights.product(next, count, sources, targets);
            }
            if (job.parts[phase]) job.parts[phase](units, count, table);
        }
    }
};

struct ForwardPlace {
    Rows rows;
    const real** now;  // [field][row] the state
    real* ring;        // two states of each row, for fields without a history
    real *saved, *temporary;
    int64_t* active;

    ForwardPlace(const Steps& job, const Weights& weights, int64_t block, Room& room)
        : rows(job, weights, job.inputs + 2 * job.fields + 3, block, room) {
        now = room.take<const real*>(block * job.fields);
        ring = room.take<real>(2 * block * job.carry);
        saved = room.take<real>(job.saved_values ? 0 : block * job.saved);
        temporary = room.take<real>(block * job.temporary);
        active = room.take<int64_t>(block);
    }
};

struct ForwardPass {
    const Steps& job;
    Room room;
    Cut cut;
    Weights weights;
    ForwardPlace* places;

    explicit ForwardPass(const Steps& job)
        : job(job), room(job.workspace), cut(job), weights(job, room) {
        places = room.take<ForwardPlace>(cut.shares);
        for (int64_t i = 0; i < cut.shares; i++) {
            const ForwardPlace place(job, weights, cut.block, room);
            if (places) new (places + i) ForwardPlace(place);
        }
    }
    void run() {
        Pool::run(job.threads, job.multiplications, [](void* pass, int64_t i) {
            static_cast<ForwardPass*>(pass)->weights.pack(i); }, this);
        Pool::run(cut.shares, cut.shares, [](void* pass, int64_t i) {
            static_cast<ForwardPass*>(pass)->share(i); }, this);
    }
    void share(int64_t index) {
        const int64_t end = cut.first(job, index + 1);
        for (int64_t b = cut.first(job, index); b < end; b += cut.block)
            block(places[index], b, std::min(end, b + cut.block));
    }
    void block(const ForwardPlace& place, int64_t first, int64_t last) {
        const Units units{job.parameter_values, nullptr, job.numbers, job.constants, nullptr};
        const int64_t B = job.batch, rows = last - first;
        for (int64_t f = 0; f < job.fields; f++)
            for (int64_t i = 0; i < rows; i++)
                place.now[f * rows + i] = job.field[f].initial + (first + i) * job.field[f].width;
        for (int64_t t = 0; t < job.time; t++) {
            int64_t count = 0;
            for (int64_t b = first; b < last; b++) {
                const int64_t row = b - first;
                if (t >= length(job, b)) {
                    if (job.outputs)
                        std::fill_n(job.outputs + (t * B + b) * job.output, job.output, real(0));
                    for (int64_t f = 0; f < job.fields; f++)
                        if (real* h = job.field[f].history)
                            std::fill_n(h + (t * B + b) * job.field[f].width, job.field[f].width,
                                        real(0));
                    continue;
                }
                real** p = place.rows.table + count * place.rows.pointers;
                for (int64_t i = 0; i < job.inputs; i++)
                    *p++ = const_cast<real*>(job.input[i].at) + t * job.input[i].time_stride +
                           b * job.input[i].batch_stride;
                for (int64_t f = 0; f < job.fields; f++)
                    *p++ = const_cast<real*>(resets(job, t, b)
                                                 ? job.field[f].fresh + b * job.field[f].width
                                                 : place.now[f * rows + row]);
                real* const* before = p - job.fields;
                for (int64_t f = 0; f < job.fields; f++) {
                    const Field& field = job.field[f];
                    if (field.shift >= 0) {
                        place.now[f * rows + row] = *p++ = before[field.shift];
                        if (field.history)
                            std::copy_n(before[field.shift], field.width,
                                        field.history + (t * B + b) * field.width);
                        continue;
                    }
                    real* after = field.history ? field.history + (t * B + b) * field.width
                                                : place.ring + ((t % 2) * rows + row) * job.carry +
                                                      field.carry;
                    place.now[f * rows + row] = *p++ = after;
                }
                *p++ = job.saved_values ? job.saved_values + (t * B + b) * job.saved
                                        : place.saved + row * job.saved;
                *p++ = place.temporary + row * job.temporary;
                *p++ = job.outputs ? job.outputs + (t * B + b) * job.output : nullptr;
                place.active[count++] = b;
            }
            place.rows.run(units, count);
            for (int64_t i = 0; i < count; i++) {
                const int64_t b = place.active[i];
                if (t + 1 != length(job, b)) continue;
                for (int64_t f = 0; f < job.fields; f++)
                    std::copy_n(place.now[f * rows + b - first], job.field[f].width,
                                job.field[f].last + b * job.field[f].width);
            }
        }
    }
};

struct BackwardPlace {
    Rows rows;
    real *temporary, *slots, *carry, *nothing, *d_parameters, *trash;
    const real** operands;  // [gradient][slot]
    real** d_matrices;      // (depth, padded width)
    int64_t* active;
    int64_t capacity, used = 0;

    BackwardPlace(const Steps& job, const Weights& weights, int64_t block, Room& room)
        : rows(job, weights, job.inputs + 3 * job.fields + 7, block, room) {
        capacity = CHUNK_ROWS + block;
        temporary = room.take<real>(block * job.temporary);
        slots = room.take<real>(capacity * job.slot);
        carry = room.take<real>(2 * block * job.carry);
        int64_t widest = job.output;
        for (int64_t f = 0; f < job.fields; f++) widest = std::max(widest, job.field[f].width);
        nothing = room.take<real>(whole_vectors(widest));
        if (nothing) std::fill_n(nothing, widest, real(0));
        d_parameters = room.take<real>(job.sums);
        if (d_parameters) std::fill_n(d_parameters, job.sums, real(0));
        trash = room.take<real>(job.input[0].width);
        operands = room.take<const real*>(capacity * job.gradients);
        d_matrices = room.take<real*>(job.gradients);
        for (int64_t g = 0; g < job.gradients; g++) {
            const MatrixGradient& m = job.matrix_gradients[g];
            const int64_t size = job.d_matrices && job.d_matrices[g] ? m.depth * whole_vectors(m.width) : 0;
            real* at = room.take<real>(size);
            if (!d_matrices) continue;
            d_matrices[g] = size ? at : nullptr;
            std::fill_n(at, size, real(0));
        }
        active = room.take<int64_t>(block);
    }
};

struct BackwardPass {
    const Steps& job;
    Room room;
    Cut cut;
    Weights weights;
    BackwardPlace* places;

    explicit BackwardPass(const Steps& job)
        : job(job), room(job.workspace), cut(job), weights(job, room) {
        places = room.take<BackwardPlace>(cut.shares);
        for (int64_t i = 0; i < cut.shares; i++) {
            const BackwardPlace place(job, weights, cut.block, room);
            if (places) new (places + i) BackwardPlace(place);
        }
    }
    void run() {
        Pool::run(job.threads, job.multiplications, [](void* pass, int64_t i) {
            static_cast<BackwardPass*>(pass)->weights.pack(i); }, this);
        Pool::run(cut.shares, cut.shares, [](void* pass, int64_t i) {
            static_cast<BackwardPass*>(pass)->share(i); }, this);
        for (int64_t g = 0; g < job.gradients; g++) {
            const MatrixGradient& m = job.matrix_gradients[g];
            if (!job.d_matrices[g]) continue;
            for (int64_t k = 0; k < m.depth; k++) {
                real* to = job.d_matrices[g] + k * m.width;
                for (int64_t i = 0; i < cut.shares; i++) {
                    const real* from = places[i].d_matrices[g] + k * whole_vectors(m.width);
                    if (i == 0) std::copy_n(from, m.width, to);
                    else for (int64_t n = 0; n < m.width; n++) to[n] += from[n];
                }
            }
        }
        for (int64_t u = 0; u < job.sums; u++) {
            real sum = 0;
            for (int64_t i = 0; i < cut.shares; i++) sum += places[i].d_parameters[u];
            job.d_parameters[u] = sum;
        }
    }
    void share(int64_t index) {
        const SubnormalsAreZero here;
        const int64_t end = cut.first(job, index + 1);
        for (int64_t b = cut.first(job, index); b < end; b += cut.block)
            block(places[index], b, std::min(end, b + cut.block));
    }
    const real* before(int64_t f, int64_t t, int64_t b) const {
        for (;; f = job.field[f].shift) {
            const Field& field = job.field[f];
            if (resets(job, t, b)) return field.fresh + b * field.width;
            if (t == 0) return field.initial + b * field.width;
            t--;
            if (field.shift < 0) return field.history + (t * job.batch + b) * field.width;
        }
    }
    // A step of which no result has a gradient.
    void nothing(int64_t t, int64_t first, int64_t last, real* carried) const {
        std::fill_n(carried, (last - first) * job.carry, real(0));
        const int64_t width = job.input[0].width;
        if (job.d_input)
            std::fill_n(job.d_input + (t * job.batch + first) * width, (last - first) * width, real(0));
        for (int64_t f = 0; t == 0 && f < job.fields; f++)
            if (real* to = job.field[f].d_initial)
                std::fill_n(to + first * job.field[f].width, (last - first) * job.field[f].width,
                            real(0));
    }
    void block(BackwardPlace& place, int64_t first, int64_t last) {
        const int64_t B = job.batch, rows = last - first, pointers = place.rows.pointers;
        for (int64_t t = job.time - 1; t >= 0; t--) {
            real* carry = place.carry + (t % 2) * rows * job.carry;
            real* carried = place.carry + (1 - t % 2) * rows * job.carry;
            const real* present = job.present + t * job.presents;
            if (*present == 0) {
                nothing(t, first, last, carried);
                continue;
            }
            const Units units{job.parameter_values, place.d_parameters, job.numbers, job.constants,
                              present};
            int64_t count = 0;
            for (int64_t b = first; b < last; b++) {
                const int64_t row = b - first, at = t * B + b;
                if (t >= length(job, b)) {
                    if (job.d_input)
                        std::fill_n(job.d_input + at * job.input[0].width, job.input[0].width, real(0));
                    continue;
                }
                if (t + 1 == length(job, b))
                    for (int64_t f = 0; f < job.fields; f++) {
                        real* to = carry + row * job.carry + job.field[f].carry;
                        const real* from = job.field[f].d_last;
                        if (from) std::copy_n(from + b * job.field[f].width, job.field[f].width, to);
                        else std::fill_n(to, job.field[f].width, real(0));
                    }
                real** p = place.rows.table + count * pointers;
                const auto put = [&p](const real* at) { *p++ = const_cast<real*>(at); };
                for (int64_t i = 0; i < job.inputs; i++)
                    put(job.input[i].at + t * job.input[i].time_stride + b * job.input[i].batch_stride);
                for (int64_t f = 0; f < job.fields; f++) put(job.field[f].read ? before(f, t, b) : nullptr);
                for (int64_t f = 0; f < job.fields; f++) 
                    put(job.field[f].shift < 0 ? job.field[f].history + at * job.field[f].width
                                               : nullptr);
                put(job.saved_values + at * job.saved);
                put(place.temporary + row * job.temporary);
                put(place.slots + (place.used + count) * job.slot);
                put(job.d_input ? job.d_input + at * job.input[0].width : place.trash);
                put(carry + row * job.carry);
                put(carried + row * job.carry);
                for (int64_t f = 0; f < job.fields; f++)
                    put(job.field[f].d_history ? job.field[f].d_history + at * job.field[f].width
                                               : place.nothing);
                put(job.d_outputs ? job.d_outputs + at * job.output : place.nothing);
                for (int64_t g = 0; g < job.gradients; g++)
                    place.operands[g * place.capacity + place.used + count] =
                        place.rows.table[count * pointers + job.matrix_gradients[g].source] +
                        job.matrix_gradients[g].source_offset;
                place.active[count++] = b;
            }
            place.rows.run(units, count);
            for (int64_t i = 0; i < count; i++) {
                const int64_t b = place.active[i];
                real* of_row = carried + (b - first) * job.carry;
                if (resets(job, t, b)) {
                    for (int64_t f = 0; f < job.fields; f++)
                        if (real* to = job.field[f].d_fresh) {
                            to += b * job.field[f].width;
                            for (int64_t u = 0; u < job.field[f].width; u++)
                                to[u] += of_row[job.field[f].carry + u];
                        }
                    std::fill_n(of_row, job.carry, real(0));
                }
                if (t == 0)
                    for (int64_t f = 0; f < job.fields; f++)
                        if (job.field[f].d_initial)
                            std::copy_n(of_row + job.field[f].carry, job.field[f].width,
                                        job.field[f].d_initial + b * job.field[f].width);
            }
            place.used += count;
            if (place.used + rows > place.capacity) flush(place);
        }
        flush(place);
    }
    // The chunk's part of the gradients of the matrices.
    void flush(BackwardPlace& place) const {
        for (int64_t g = 0; g < job.gradients; g++) {
            const MatrixGradient& m = job.matrix_gradients[g];
            if (!place.d_matrices[g]) continue;
            multiply_transposed(m.depth, place.used, place.operands + g * place.capacity,
                                place.slots + m.slot_offset, job.slot, m.width,
                                place.d_matrices[g], whole_vectors(m.width));
        }
        place.used = 0;
    }
};

}  // namespace
}  // namespace throughtime

using throughtime::Steps;

extern "C" int64_t steps_size() { return sizeof(Steps); }

// Bytes of workspace that a pass needs.
extern "C" int64_t steps_forward_workspace(const Steps* job) {
    Steps empty = *job;
    empty.workspace = nullptr;
    return throughtime::ForwardPass(empty).room.size();
}
extern "C" int64_t steps_backward_workspace(const Steps* job) {
    Steps empty = *job;
    empty.workspace = nullptr;
    return throughtime::BackwardPass(empty).room.size();
}
extern "C" void steps_forward(const Steps* job) {
    throughtime::ForwardPass pass(*job);
    pass.run();
    pass.room.leave();
}
extern "C" void steps_backward(const Steps* job) {
    throughtime::BackwardPass pass(*job);
    pass.run();
    pass.room.leave();
}
