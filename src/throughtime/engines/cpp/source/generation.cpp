// Generation in one call: each step reads a symbol, runs all levels, and draws the next symbol.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>

#include "job.h"
#include "product.h"

namespace throughtime {

// All arrays are contiguous. Mirrored in generation.py.
struct Generation {
    int64_t levels, batch, alphabet, width, hidden, steps;
    int64_t top_k;                       // symbols that may be drawn
    double temperature;                  // 0: the likeliest symbol
    double top_p, min_p;
    const char* (*run)(const Job*);      // run_forward of sequence.cpp
    Job* const* jobs;                    // for each level, one step
    const real* embedding;               // (alphabet, width), or null for one-hot vectors
    const real *weight, *bias;           // (alphabet, hidden) and (alphabet,) or null
    const double* uniform;               // (steps, batch) in [0, 1)
    const int64_t* first;                // (batch,) symbols that the first step reads
    int64_t* symbols;                    // (steps, batch) that are drawn
    real *inputs, *logits;               // (batch, width) and (alphabet,)
    double* weights;                     // (alphabet,)
    int64_t* order;                      // (alphabet,)
};

namespace {

void read_out(const Generation& g, const real* h) {
    for (int64_t v = 0; v < g.alphabet; v += LANES) {
        const int64_t lanes = std::min<int64_t>(LANES, g.alphabet - v);
        const real* rows[LANES];
        for (int64_t i = 0; i < LANES; i++) rows[i] = g.weight + (v + (i < lanes ? i : 0)) * g.hidden;
        const vec start = g.bias ? load(g.bias + v, lanes) : vec{};
        store(g.logits + v, start + dots(g.hidden, h, rows), lanes);
    }
}

int64_t likeliest(const Generation& g) {
    return std::max_element(g.logits, g.logits + g.alphabet) - g.logits;
}

// Sets the weights of symbols that may not be drawn to 0.
void filter(const Generation& g) {
    int64_t kept = std::min(g.top_k, g.alphabet);
    if (kept < g.alphabet || g.top_p < 1) {
        std::iota(g.order, g.order + g.alphabet, int64_t(0));
        const auto likelier = [&](int64_t a, int64_t b) {
            return g.weights[a] != g.weights[b] ? g.weights[a] > g.weights[b] : a < b;
        };
        std::partial_sort(g.order, g.order + kept, g.order + g.alphabet, likelier);
        double total = 0, before = 0;
        for (int64_t i = 0; i < kept; i++) total += g.weights[g.order[i]];
        for (int64_t i = 0; g.top_p < 1 && i < kept; i++) {
            if (i > 0 && before >= g.top_p * total) kept = i;
            else before += g.weights[g.order[i]];
        }
        for (int64_t i = kept; i < g.alphabet; i++) g.weights[g.order[i]] = 0;
    }
    for (int64_t v = 0; g.min_p > 0 && v < g.alphabet; v++)  // the largest weight is 1
        if (g.weights[v] < g.min_p) g.weights[v] = 0;
}

// The symbol; -1 where a logit is NaN or infinite.
int64_t draw(const Generation& g, double uniform) {
    for (int64_t v = 0; v < g.alphabet; v++)
        if (std::isnan(g.logits[v]) || g.logits[v] == std::numeric_limits<real>::infinity())
            return -1;
    const int64_t best = likeliest(g);
    if (g.temperature == 0) return best;
    for (int64_t v = 0; v < g.alphabet; v++)
        g.weights[v] = std::exp((double(g.logits[v]) - double(g.logits[best])) / g.temperature);
    filter(g);
    double total = 0, sum = 0;
    for (int64_t v = 0; v < g.alphabet; v++) total += g.weights[v];
    int64_t last = best;  // rounding may leave the sum below the total
    for (int64_t v = 0; v < g.alphabet; v++) {
        if (g.weights[v] == 0) continue;
        last = v;
        sum += g.weights[v];
        if (sum > uniform * total) break;
    }
    return last;
}

}  // namespace
}  // namespace throughtime

using throughtime::Generation;

extern "C" int64_t generation_size() { return sizeof(Generation); }

// The name of what does not fit, or null. An odd number of steps ends in the arrays of `final`, an
// even one in those of `initial`.
extern "C" const char* generation_run(const Generation* at) {
    const Generation& g = *at;
    if (!g.embedding) std::fill_n(g.inputs, g.batch * g.width, throughtime::real(0));
    const auto swap = [](throughtime::Job& job) {
        const auto* before = job.initial.at;
        job.initial.at = reinterpret_cast<decltype(job.initial.at)>(job.final.at);
        job.final.at = reinterpret_cast<decltype(job.final.at)>(before);
    };
    const int64_t* read = g.first;
    for (int64_t t = 0; t < g.steps; t++) {
        for (int64_t b = 0; b < g.batch; b++)
            if (g.embedding)
                std::copy_n(g.embedding + read[b] * g.width, g.width, g.inputs + b * g.width);
            else
                g.inputs[b * g.width + read[b]] = 1;
        for (int64_t level = 0; level < g.levels; level++) {
            throughtime::Job& job = *g.jobs[level];
            job.inputs.at = level ? g.jobs[level - 1]->initial[0].at : g.inputs;
            if (const char* wrong = g.run(&job)) return wrong;
            swap(job);  // the state after the step is that before the next one
        }
        if (!g.embedding)
            for (int64_t b = 0; b < g.batch; b++) g.inputs[b * g.width + read[b]] = 0;
        const throughtime::real* h = g.jobs[g.levels - 1]->initial[0].at;
        int64_t* to = g.symbols + t * g.batch;
        for (int64_t b = 0; b < g.batch; b++) {
            throughtime::read_out(g, h + b * g.hidden);
            to[b] = throughtime::draw(g, g.uniform[t * g.batch + b]);
            if (to[b] < 0) return "logits";
        }
        read = to;
    }
    for (int64_t level = 0; g.steps % 2 && level < g.levels; level++) swap(*g.jobs[level]);
    return nullptr;
}
