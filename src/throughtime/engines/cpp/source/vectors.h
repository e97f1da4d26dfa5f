// Vectors of real numbers, VECTOR_BYTES wide, and arithmetic on them by the operations' names.
//
// Only the vector extensions that GCC and Clang share: the compiler maps them to registers.
#pragma once
#include <cstdint>
#undef _GLIBCXX_USE_STD_SPEC_FUNCS  // Bessel functions and the like take 0.2 s to read
#include <cmath>
#include <cstring>
#include <type_traits>
#include <utility>

namespace throughtime {

using real = REAL;
constexpr int LANES = VECTOR_BYTES / sizeof(real);

using integer = std::conditional_t<sizeof(real) == 4, std::int32_t, std::int64_t>;
using natural = std::make_unsigned_t<integer>;

typedef real vec __attribute__((vector_size(VECTOR_BYTES)));
typedef integer mask __attribute__((vector_size(VECTOR_BYTES)));  // -1 or 0 in each lane
typedef natural bits __attribute__((vector_size(VECTOR_BYTES)));
typedef vec unaligned __attribute__((aligned(sizeof(real)), may_alias));

#define THROUGHTIME_INLINE inline __attribute__((always_inline))

namespace {  // each library's own: the loader would merge names that are the same in two

THROUGHTIME_INLINE vec broadcast(real x) { return x - vec{}; }  // x + 0 would lose the sign of -0

THROUGHTIME_INLINE vec loadu(const real* p) { return *reinterpret_cast<const unaligned*>(p); }
THROUGHTIME_INLINE void storeu(real* p, vec v) { *reinterpret_cast<unaligned*>(p) = v; }

// Some lanes, byte by byte. Of a loop over lanes compilers make loads and stores under a mask, and
// there are virtual machines on which those fault for lanes outside the mask, where these reach into
// a page that cannot be touched.
__attribute__((noinline, unused)) vec load_some(const real* p, long n) {
    real lanes[LANES] = {};
    std::memcpy(lanes, p, n * sizeof(real));
    return loadu(lanes);
}
__attribute__((noinline, unused)) void store_some(real* p, vec v, long n) {
    real lanes[LANES];
    storeu(lanes, v);
    std::memcpy(p, lanes, n * sizeof(real));
}

// The first n lanes, 0 <= n <= LANES; those beyond are 0. No memory beyond them is touched.
THROUGHTIME_INLINE vec load(const real* p, long n) {
    return n == LANES ? loadu(p) : load_some(p, n);
}
THROUGHTIME_INLINE void store(real* p, vec v, long n) {
    if (n == LANES)
        storeu(p, v);
    else
        store_some(p, v, n);
}

// The bits of numbers.
constexpr natural SIGN = natural(1) << (8 * sizeof(real) - 1);
THROUGHTIME_INLINE vec copysign(vec size, vec sign) {
    return (vec)(((bits)size & ~SIGN) | ((bits)sign & SIGN));
}

THROUGHTIME_INLINE mask lt(vec a, vec b) { return (mask)(a < b); }
THROUGHTIME_INLINE mask le(vec a, vec b) { return (mask)(a <= b); }
THROUGHTIME_INLINE mask gt(vec a, vec b) { return (mask)(a > b); }
THROUGHTIME_INLINE mask ge(vec a, vec b) { return (mask)(a >= b); }
THROUGHTIME_INLINE mask eq(vec a, vec b) { return (mask)(a == b); }
THROUGHTIME_INLINE mask ne(vec a, vec b) { return (mask)(a != b); }

THROUGHTIME_INLINE mask logical_not(mask a) { return ~a; }
THROUGHTIME_INLINE mask logical_and(mask a, mask b) { return a & b; }
THROUGHTIME_INLINE mask logical_or(mask a, mask b) { return a | b; }

THROUGHTIME_INLINE vec where(mask condition, vec a, vec b) { return condition ? a : b; }

THROUGHTIME_INLINE vec add(vec a, vec b) { return a + b; }
THROUGHTIME_INLINE vec sub(vec a, vec b) { return a - b; }
THROUGHTIME_INLINE vec mul(vec a, vec b) { return a * b; }
THROUGHTIME_INLINE vec div(vec a, vec b) { return a / b; }
THROUGHTIME_INLINE vec neg(vec a) { return -a; }
THROUGHTIME_INLINE vec abs(vec a) { return (vec)((bits)a & ~SIGN); }

// A comparison with NaN is false: where one of both is NaN, so is the result, as in torch.
THROUGHTIME_INLINE vec minimum(vec a, vec b) {
    const vec least = a < b ? a : b;
    return a == a ? least : a;
}
THROUGHTIME_INLINE vec maximum(vec a, vec b) {
    const vec most = a > b ? a : b;
    return a == a ? most : a;
}

// 0 for NaN, as in torch.
THROUGHTIME_INLINE vec sign(vec a) {
    const vec one = broadcast(1), zero = {};
    return (zero < a ? one : zero) - (a < zero ? one : zero);
}

// To integers. From LARGE on there are only integers; below, adding it leaves no place for a
// fraction: the sum is rounded, half to even.
constexpr real LARGE = sizeof(real) == 4 ? real(1 << 23) : real(1LL << 52);

THROUGHTIME_INLINE vec round(vec a) {
    const vec size = abs(a);
    return copysign(size < broadcast(LARGE) ? (size + LARGE) - LARGE : size, a);
}
THROUGHTIME_INLINE vec floor(vec a) {
    const vec near = round(a);
    return copysign(near > a ? near - broadcast(1) : near, a);
}
THROUGHTIME_INLINE vec ceil(vec a) { return -floor(-a); }
THROUGHTIME_INLINE vec trunc(vec a) { return copysign(floor(abs(a)), a); }

// A function of numbers, a lane at a time.
template <class Function>
THROUGHTIME_INLINE vec each(Function function, vec a) {
    real lanes[LANES];
    storeu(lanes, a);
    for (int i = 0; i < LANES; i++) lanes[i] = function(lanes[i]);
    return loadu(lanes);
}
template <class Function>
THROUGHTIME_INLINE vec each(Function function, vec a, vec b) {
    real left[LANES], right[LANES];
    storeu(left, a);
    storeu(right, b);
    for (int i = 0; i < LANES; i++) left[i] = function(left[i], right[i]);
    return loadu(left);
}

THROUGHTIME_INLINE vec sqrt(vec a) {
    return each([](real x) { return std::sqrt(x); }, a);
}

// The sums of LANES vectors: lane j is that of vector j.
template <int DISTANCE, int... LANE>
THROUGHTIME_INLINE void add_halves(vec* v, std::integer_sequence<int, LANE...>) {
    for (int i = 0; i < DISTANCE; i++) {
        const vec p = v[i], q = v[i + DISTANCE];  // lanes with the bit DISTANCE are those of q
#if defined(__clang__)
        v[i] = __builtin_shufflevector(p, q, (LANE & DISTANCE ? LANES + LANE : LANE)...) +
               __builtin_shufflevector(
                   p, q, (LANE & DISTANCE ? LANES + (LANE ^ DISTANCE) : LANE ^ DISTANCE)...);
#else
        v[i] = __builtin_shuffle(p, q, mask{(LANE & DISTANCE ? LANES + LANE : LANE)...}) +
               __builtin_shuffle(
                   p, q, mask{(LANE & DISTANCE ? LANES + (LANE ^ DISTANCE) : LANE ^ DISTANCE)...});
#endif
    }
    if constexpr (DISTANCE > 1)
        add_halves<DISTANCE / 2>(v, std::integer_sequence<int, LANE...>{});
}
THROUGHTIME_INLINE vec sums(vec (&v)[LANES]) {
    add_halves<LANES / 2>(v, std::make_integer_sequence<int, LANES>{});
    return v[0];
}

}  // namespace
}  // namespace throughtime
