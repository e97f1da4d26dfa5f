// The time in each part of a pass, where SECTIONS is defined; nothing otherwise.
#pragma once
#include <cstdint>

namespace throughtime {

enum TimedPart { INPUT_PRODUCT, RECURRENT_PRODUCT, ELEMENTWISE, WEIGHT_GRADIENT, PACKING, WAITING, TIMED_PARTS };

}  // namespace throughtime

#ifdef SECTIONS
#include <atomic>
#include <chrono>

namespace throughtime {

inline std::atomic<int64_t> nanoseconds[TIMED_PARTS];  // of all threads

class Section {
  public:
    explicit Section(TimedPart part) : part(part), start(std::chrono::steady_clock::now()) {}
    ~Section() {
        const auto time = std::chrono::steady_clock::now() - start;
        nanoseconds[part].fetch_add(
            std::chrono::duration_cast<std::chrono::nanoseconds>(time).count(),
            std::memory_order_relaxed);
    }

  private:
    TimedPart part;
    std::chrono::steady_clock::time_point start;
};

}  // namespace throughtime

// Reads the times since the last call, and sets them to 0.
extern "C" inline __attribute__((used)) void read_sections(int64_t* to) {
    for (int i = 0; i < throughtime::TIMED_PARTS; i++) to[i] = throughtime::nanoseconds[i].exchange(0);
}

#define SECTION(part) const Section section_of_this_scope(part)
#else
#define SECTION(part)
#endif
