// Placer: keeps account of what a loader puts where, so that nothing lands outside RAM or on something
// else. Freestanding; lives during one load.
#pragma once

#include "base/result.hpp"
#include "board/memory_map.hpp"

namespace nacre::board::boot {

class Placer {
 public:
  explicit Placer(u64 memory_bytes) : map_(memory_bytes), memory_bytes_(memory_bytes) {}

  // Takes [base, base + size) for `what` (a noun phrase, kept by reference). Nothing for size 0.
  Status claim(u64 base, u64 size, const char* what);

  // Takes the lowest, or highest, free stretch of RAM within [low, high) whose base is a multiple of
  // `align` (a power of two).
  Result<u64> lowest(u64 size, u64 align, u64 low, u64 high, const char* what);
  Result<u64> highest(u64 size, u64 align, u64 low, u64 high, const char* what);

 private:
  struct Claim {
    u64 base = 0, end = 0;
    const char* what = nullptr;
  };
  static constexpr usize kMaxClaims = 256;

  [[nodiscard]] bool is_ram(u64 base, u64 size) const;
  [[nodiscard]] const Claim* overlapping(u64 base, u64 size) const;
  Status take(u64 base, u64 size, const char* what);
  [[nodiscard]] Error no_room(u64 size, const char* what) const;

  MemoryMap map_;
  u64 memory_bytes_;
  Claim claims_[kMaxClaims];
  usize count_ = 0;
};

}  // namespace nacre::board::boot
