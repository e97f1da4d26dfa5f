// Every number of float32 through a function of the vector layer, against float64's C library.
#include <algorithm>

#include "functions.h"

using namespace throughtime;

// The worst so far: by how many units in the last place, where, and what came of it.
struct Worst {
    double units;
    float at, result;
    double truth;
};

// By how many units in the last place of float32 the result is off; infinite for a wrong NaN.
static double misses(float result, double truth) {
    if (std::isnan(truth)) return std::isnan(result) ? 0 : __builtin_inf();
    if (std::isnan(result)) return __builtin_inf();
    const double most = 0x1p128;  // what comes after the last: the place of infinity
    const double given = std::isinf(result) ? std::copysign(most, result) : result;
    truth = std::fmin(std::fmax(truth, -most), most);
    std::uint64_t word;
    std::memcpy(&word, &truth, sizeof word);
    const int exponent = int(word >> 52 & 0x7ff) - 1023;
    const int unit = std::min(std::max(exponent, -126), 127) - 23;
    word = std::uint64_t(1023 - unit) << 52;
    double scale;
    std::memcpy(&scale, &word, sizeof scale);
    return std::fabs(given - truth) * scale;
}

template <class Ours, class Theirs>
static Worst sweep(std::uint64_t begin, std::uint64_t end, Ours ours, Theirs theirs) {
    Worst worst = {-1, 0, 0, 0};
    for (std::uint64_t first = begin; first < end; first += LANES) {
        std::uint32_t words[LANES];
        float x[LANES], y[LANES];
        for (int i = 0; i < LANES; i++) words[i] = std::uint32_t(first + i);
        std::memcpy(x, words, sizeof x);
        storeu(y, ours(loadu(x)));
        for (int i = 0; i < LANES; i++) {
            const double truth = theirs(double(x[i])), units = misses(y[i], truth);
            if (units > worst.units) worst = {units, x[i], y[i], truth};
        }
    }
    return worst;
}

static double sigmoid_of(double x) {
    const double e = std::exp(-std::fabs(x));
    return (x < 0 ? e : 1) / (1 + e);
}
static vec softplus(vec x) {
    return where(gt(x, broadcast(20)), x, throughtime::log1p(throughtime::exp(x)));
}
// More than the logarithm's 700 need no sum; less than -700 are 0 in float32.
static double softplus_of(double x) { return x > 700 ? x : std::log1p(std::exp(x)); }

#define SWEEP(name, expression, reference)                                            \
    extern "C" void name##_of(std::uint64_t begin, std::uint64_t end, Worst* worst) { \
        const auto ours = [](vec x) { return expression; };                           \
        *worst = sweep(begin, end, ours, [](double x) { return reference; });         \
    }
#define LIBRARY(name) SWEEP(name, throughtime::name(x), std::name(x))

LIBRARY(exp)
LIBRARY(expm1)
LIBRARY(log)
LIBRARY(log1p)
LIBRARY(tanh)
LIBRARY(erf)
LIBRARY(sqrt)
SWEEP(sigmoid, throughtime::sigmoid(x), sigmoid_of(x))
SWEEP(softplus, softplus(x), softplus_of(x))
