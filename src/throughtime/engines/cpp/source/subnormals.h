// Gradients that vanish pass through the subnormal numbers, with which arithmetic is some ten times
// slower. On the way back those of float32, below 1.2e-38, are taken for zero.
#pragma once
#include "vectors.h"
#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

namespace throughtime {
namespace {

// Within its scope; nothing where the processor has no such mode.
class SubnormalsAreZero {
  public:
    SubnormalsAreZero() : before(mode()) {
        if (sizeof(real) == 4) set(before | ZERO);
    }
    ~SubnormalsAreZero() { set(before); }
    SubnormalsAreZero(const SubnormalsAreZero&) = delete;
    SubnormalsAreZero& operator=(const SubnormalsAreZero&) = delete;

  private:
#if defined(__SSE2__)
    static constexpr uint64_t ZERO = 0x8040;  // of results, and of operands
    static uint64_t mode() { return _mm_getcsr(); }
    static void set(uint64_t mode) { _mm_setcsr(static_cast<unsigned>(mode)); }
#elif defined(__aarch64__)
    static constexpr uint64_t ZERO = uint64_t(1) << 24;
    static uint64_t mode() {
        uint64_t mode;
        __asm__ volatile("mrs %0, fpcr" : "=r"(mode));
        return mode;
    }
    static void set(uint64_t mode) { __asm__ volatile("msr fpcr, %0" : : "r"(mode)); }
#else
    static constexpr uint64_t ZERO = 0;
    static uint64_t mode() { return 0; }
    static void set(uint64_t) {}
#endif
    const uint64_t before;
};

}  // namespace
}  // namespace throughtime
