// Functions of vectors: float32's are computed in vectors, float64's by the C library.
//
// NaN gives NaN; infinities, signed zeros and denormal numbers are as in torch. How far results of
// float32 are from the truth is measured by benchmarks/function_accuracy.py.
#pragma once
#include "vectors.h"

#define THROUGHTIME_REAL_float 1
#define THROUGHTIME_REAL_double 0
#define THROUGHTIME_JOIN(left, right) left##right
#define THROUGHTIME_IS_FLOAT(type) THROUGHTIME_JOIN(THROUGHTIME_REAL_, type)

#if THROUGHTIME_IS_FLOAT(REAL)
#include "float_functions.h"
#else
#include "double_functions.h"
#endif

namespace throughtime {
namespace {

THROUGHTIME_INLINE vec sin(vec x) {
    return each([](real a) { return std::sin(a); }, x);
}
THROUGHTIME_INLINE vec cos(vec x) {
    return each([](real a) { return std::cos(a); }, x);
}
THROUGHTIME_INLINE vec pow(vec x, vec y) {
    return each([](real a, real b) { return std::pow(a, b); }, x, y);
}

}  // namespace
}  // namespace throughtime
