// Functions of float32, in vectors, without branches and tables.
//
// The polynomials are minimax fits of this project, relative to the function's value; their errors
// are about 0.1 units in the last place at most. Nothing relies on fused multiply-add, nor on its
// absence.
#pragma once
#include "vectors.h"

namespace throughtime {
namespace {

// Coefficients in rising order.
template <class... More>
THROUGHTIME_INLINE vec polynomial(vec x, float first, More... more) {
    if constexpr (sizeof...(more) == 0)
        return broadcast(first);
    else
        return polynomial(x, more...) * x + first;
}

// x = k u + rest, |rest| <= u/2, where u = ln(2) / PARTS, for |k| < 2^21. The lowest bits of
// `power` are k + BIAS.
struct Reduced {
    bits power;
    vec rest;
};
template <int BIAS, int PARTS = 1>
THROUGHTIME_INLINE Reduced reduce(vec x) {
    // Numbers from 2^23 to 2^24 have no fraction: the sum is rounded, and k is in its last bits.
    constexpr float SHIFT = 12582912 + BIAS;
    const vec shifted = x * (1.44269504f * PARTS) + SHIFT;
    const vec k = shifted - SHIFT;
    // ln 2 in two parts, the first of 9 bits: k times it is exact.
    return {(bits)shifted, (x - k * (0.693359375f / PARTS)) - k * (-2.12194440e-4f / PARTS)};
}
// The number 2^(power - 127), from the lowest bits of `power`.
THROUGHTIME_INLINE vec power_of_two(bits power) { return (vec)(power << 23); }

// expm1(r) for |r| <= ln(2)/2, to what counts in 1 + expm1(r)
THROUGHTIME_INLINE vec rough_expm1(vec r) {
    const vec square = r * r;
    const vec low = r * 0.166665196f + 0.49999994f, high = r * 0.00836878084f + 0.0416683927f;
    return ((square * 0.00138144626f + high) * square + low) * square + r;
}
// The same, to its own last place.
THROUGHTIME_INLINE vec fine_expm1(vec r) {
    const vec square = r * r;
    const vec low = r * 0.166666657f + 0.5f, middle = r * 0.00833338965f + 0.0416663587f;
    const vec high = r * 0.00019845886f + 0.00139407197f;
    return ((high * square + middle) * square + low) * square + r;
}

// Each of these computes what it likes where the result is known, and puts that in at the end:
// where comparisons are false, NaN goes through.

THROUGHTIME_INLINE vec exp(vec x) {
    // 2^k in two factors: it may be denormal, or too large for one
    const Reduced reduced = reduce<254>(x);
    const bits half = reduced.power >> 1;
    const vec scale = power_of_two(half);
    const vec product = rough_expm1(reduced.rest) * scale + scale;
    const vec result = product * power_of_two(reduced.power - half);
    const vec finite = x > broadcast(89.f) ? broadcast(__builtin_inff()) : result;
    return x < broadcast(-104.f) ? vec{} : finite;
}

THROUGHTIME_INLINE vec expm1(vec x) {
    // half of it: 2^k may be too large
    const Reduced reduced = reduce<126>(x);
    const vec scale = power_of_two(reduced.power);
    const vec half = fine_expm1(reduced.rest) * scale + (scale - 0.5f);
    const vec finite = x > broadcast(89.f) ? broadcast(__builtin_inff()) : half + half;
    const vec result = x < broadcast(-18.f) ? broadcast(-1.f) : finite;
    return abs(x) < broadcast(1e-8f) ? x : result;
}

// 1 / (1 + 2^k + 2^k expm1(rest)), both sides times 2^-64 lest it overflow
THROUGHTIME_INLINE vec sigmoid(vec x) {
    constexpr float UNIT = 0x1p-64f;
    const Reduced reduced = reduce<127 - 64>(-x);
    const vec scale = power_of_two(reduced.power);
    const vec sum = (rough_expm1(reduced.rest) * scale + UNIT) + scale;
    const vec result = x > broadcast(20.f) ? broadcast(1.f) : UNIT / sum;
    return x < broadcast(-104.f) ? vec{} : result;
}

// -|x| = k ln(2)/2 + rest. With t = tanh(rest) and s = 2^k, tanh|x| is
// (1 - s - (1 + s) t) / (1 + s - (1 - s) t): just -t near 0, where k = 0.
// Elsewhere the errors of the quotient are too large. So h = (1 - s)/2 is taken from it, and added:
// h + (2 h^2 - (1 + s - 2 h^2) t) / (1 + s - 2 h t).
THROUGHTIME_INLINE vec tanh(vec x) {
    const Reduced reduced = reduce<127, 2>((vec)((bits)x | SIGN));
    const vec rest = reduced.rest, square = rest * rest;
    const vec ratio = (square * -0.0527248271f + 0.133311763f) * square + -0.333333224f;
    const vec t = ratio * (square * rest) + rest;
    const vec s = power_of_two(reduced.power), h = s * -0.5f + 0.5f;
    const vec sum = s + 1.f, twice = h + h, product = twice * h;
    const vec result = h + (product - (sum - product) * t) / (sum - twice * t);
    return copysign(abs(x) > broadcast(10.f) ? broadcast(1.f) : result, x);
}

// A normal u > 0 is 2^k (1 + f), with 1 + f from sqrt(1/2) to sqrt(2).
struct Scaled {
    mask k;
    vec f;
};
THROUGHTIME_INLINE Scaled scaled(vec u) {
    constexpr natural SQRT_HALF = 0x3f3504f3;
    const mask k = (mask)((bits)u - SQRT_HALF) >> 23;
    return {k, (vec)((bits)u - ((bits)k << 23)) - 1.f};
}
// log(2^k (1 + f))
THROUGHTIME_INLINE vec log_of_scaled(vec k, vec f) {
    const vec more = polynomial(f, 0.5f, -0.333333313f, 0.250008196f, -0.200012267f, 0.166233569f,
                                -0.142017588f, 0.131601825f, -0.12761575f, 0.0763449296f);
    return (k * 0.693359375f + f) + (k * -2.12194440e-4f - f * f * more);
}

THROUGHTIME_INLINE vec log(vec x) {
    const vec infinity = broadcast(__builtin_inff()), nan = broadcast(__builtin_nanf(""));
    const mask denormal = (mask)(x < broadcast(0x1p-126f));
    const Scaled split = scaled(denormal ? x * 0x1p25f : x);
    const vec k = __builtin_convertvector(denormal ? split.k - 25 : split.k, vec);
    const vec special = x == vec{} ? -infinity : x < vec{} ? nan : x;
    return ((x > vec{}) & (x < infinity)) ? log_of_scaled(k, split.f) : special;
}

THROUGHTIME_INLINE vec log1p(vec x) {
    const vec infinity = broadcast(__builtin_inff()), nan = broadcast(__builtin_nanf(""));
    const vec one = broadcast(1.f), sum = x + one;
    const Scaled split = scaled(sum);
    // What rounding lost of the sum, over 2^k; where k = 0, f + lost is x itself. From 2^24 on it
    // no longer matters.
    const vec lost = (x - (sum - one)) * (vec)(0x3f800000u - ((bits)split.k << 23));
    const vec f = x < broadcast(0x1p24f) ? split.f + lost : split.f;
    const vec k = __builtin_convertvector(split.k, vec);
    const vec special = x == -one ? -infinity : x < -one ? nan : x;
    return ((x > -one) & (x < infinity) & (x != vec{})) ? log_of_scaled(k, f) : special;
}

// Beyond 1 by log(1 - erf(x)).
THROUGHTIME_INLINE vec erf(vec x) {
    const vec size = abs(x), one = broadcast(1.f), square = x * x;
    const vec inner = polynomial(square, 0.128379166f, -0.37612626f, 0.112835854f, -0.0268538129f,
                                 0.00518832775f, -0.000801019371f, 7.85386146e-05f) * x + x;
    const vec outer = size > broadcast(4.f) ? broadcast(4.f) : size;  // 1 from there on
    const vec rest = polynomial(outer, -0.000341522682f, -1.12708914f, -0.638144851f, -0.103106759f,
                                0.0218380652f, -0.00294765853f, 0.000186379228f);
    return size < one ? inner : copysign(one - throughtime::exp(rest), x);
}

}  // namespace
}  // namespace throughtime
