// The memory map as the guest is told it, in the E820 form that every boot protocol uses. ACPI 6.4, 15.
// Freestanding; any thread.
#pragma once

#include <span>

#include "base/types.hpp"
#include "board/layout.hpp"

namespace nacre::board {

enum class MemoryType : u32 { Ram = 1, Reserved = 2, AcpiReclaimable = 3, AcpiNvs = 4 };

struct MemoryRange {
  u64 base = 0;
  u64 size = 0;
  MemoryType type = MemoryType::Ram;

  [[nodiscard]] constexpr u64 end() const { return base + size; }
};

// End of the RAM below the hole, and of that above 4 GiB (kHighRamBase when there is none).
constexpr u64 low_ram_end(u64 memory_bytes) {
  return memory_bytes < kLowRamLimit ? memory_bytes : kLowRamLimit;
}
constexpr u64 high_ram_end(u64 memory_bytes) {
  return kHighRamBase + (memory_bytes - low_ram_end(memory_bytes));
}

class MemoryMap {
 public:
  // memory_bytes is from kMinMemory to kMaxMemory.
  constexpr explicit MemoryMap(u64 memory_bytes) {
    add(0, kEbdaBase, MemoryType::Ram);
    add(kEbdaBase, kVgaHole, MemoryType::Reserved);
    add(kTablesBase, kMiB, MemoryType::Reserved);
    add(kMiB, low_ram_end(memory_bytes), MemoryType::Ram);
    add(kEcamBase, kEcamBase + kEcamBytes, MemoryType::Reserved);
    add(kHighRamBase, high_ram_end(memory_bytes), MemoryType::Ram);
  }
  // Sorted, not overlapping; what no entry covers is neither RAM nor spoken for.
  [[nodiscard]] constexpr std::span<const MemoryRange> ranges() const { return {ranges_, count_}; }

 private:
  constexpr void add(u64 base, u64 end, MemoryType type) {
    if (end > base) ranges_[count_++] = {.base = base, .size = end - base, .type = type};
  }

  MemoryRange ranges_[6];
  usize count_ = 0;
};

}  // namespace nacre::board
