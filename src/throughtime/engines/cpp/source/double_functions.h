// Functions of float64, by the C library a lane at a time.
#pragma once
#include "vectors.h"

namespace throughtime {
namespace {

THROUGHTIME_INLINE vec exp(vec x) {
    return each([](real a) { return std::exp(a); }, x);
}
THROUGHTIME_INLINE vec expm1(vec x) {
    return each([](real a) { return std::expm1(a); }, x);
}
THROUGHTIME_INLINE vec log(vec x) {
    return each([](real a) { return std::log(a); }, x);
}
THROUGHTIME_INLINE vec log1p(vec x) {
    return each([](real a) { return std::log1p(a); }, x);
}
THROUGHTIME_INLINE vec tanh(vec x) {
    return each([](real a) { return std::tanh(a); }, x);
}
THROUGHTIME_INLINE vec erf(vec x) {
    return each([](real a) { return std::erf(a); }, x);
}

// Of -|x|, so that nothing overflows and small results keep their digits.
THROUGHTIME_INLINE vec sigmoid(vec x) {
    const vec e = exp(-abs(x)), one = broadcast(1);
    return (x < vec{} ? e : one) / (one + e);
}

}  // namespace
}  // namespace throughtime
