// Segment, system and gate descriptors as they lie in memory. SDM vol. 3, 3.4.5, 5.8.3, 6.11, 7.2.
// Pure functions of the bytes: reading tables and raising faults is the executor's matter.
// Freestanding; any thread.
#pragma once

#include "cpu/state.hpp"

namespace nacre::cpu {

// Types of system descriptors (S = 0). SDM vol. 3, table 3-2.
enum class SystemType : u8 {
  Tss16Available = 1,
  Ldt = 2,
  Tss16Busy = 3,
  CallGate16 = 4,
  TaskGate = 5,
  InterruptGate16 = 6,
  TrapGate16 = 7,
  TssAvailable = 9,
  TssBusy = 11,
  CallGate = 12,
  InterruptGate = 14,
  TrapGate = 15,
};

// The first eight bytes of a descriptor.
struct Descriptor {
  u64 raw = 0;

  [[nodiscard]] constexpr unsigned type() const { return static_cast<unsigned>(raw >> 40) & 0xf; }
  [[nodiscard]] constexpr bool is_system() const { return (raw >> 44 & 1) == 0; }
  [[nodiscard]] constexpr unsigned dpl() const { return static_cast<unsigned>(raw >> 45) & 3; }
  [[nodiscard]] constexpr bool present() const { return (raw >> 47 & 1) != 0; }
  [[nodiscard]] constexpr bool is_long() const { return (raw >> 53 & 1) != 0; }
  [[nodiscard]] constexpr bool is_default_32() const { return (raw >> 54 & 1) != 0; }
  // Code and data segments.
  [[nodiscard]] constexpr bool is_code() const { return !is_system() && (type() & 8) != 0; }
  [[nodiscard]] constexpr bool is_data() const { return !is_system() && (type() & 8) == 0; }
  [[nodiscard]] constexpr bool is_conforming() const { return is_code() && (type() & 4) != 0; }
  [[nodiscard]] constexpr bool is_readable() const { return is_data() || (is_code() && (type() & 2) != 0); }
  [[nodiscard]] constexpr bool is_writable_data() const { return is_data() && (type() & 2) != 0; }
  [[nodiscard]] constexpr bool accessed() const { return (type() & 1) != 0; }
  [[nodiscard]] constexpr bool is(SystemType wanted) const {
    return is_system() && type() == static_cast<unsigned>(wanted);
  }

  [[nodiscard]] constexpr u32 base() const {
    return static_cast<u32>((raw >> 16 & 0xffffff) | (raw >> 56 << 24));
  }
  [[nodiscard]] constexpr u32 limit() const {
    const auto field = static_cast<u32>((raw & 0xffff) | (raw >> 32 & 0xf0000));
    return (raw >> 55 & 1) != 0 ? field << 12 | 0xfff : field;
  }
  [[nodiscard]] constexpr u16 attributes() const { return static_cast<u16>(raw >> 40 & 0xf0ff); }

  // What a segment register holds after loading this descriptor. `upper_base` is the second half of a
  // 16-byte system descriptor in long mode.
  [[nodiscard]] constexpr Segment segment(u16 selector, u32 upper_base = 0) const {
    return {selector, attributes(), limit(), base() | u64{upper_base} << 32};
  }
};

// A call, interrupt, trap or task gate; `upper` is the second half of a 16-byte gate in long mode.
struct Gate {
  Descriptor low;
  u64 upper = 0;

  [[nodiscard]] constexpr u16 selector() const { return static_cast<u16>(low.raw >> 16); }
  [[nodiscard]] constexpr u64 offset() const {
    return (low.raw & 0xffff) | (low.raw >> 32 & 0xffff0000) | upper << 32;
  }
  [[nodiscard]] constexpr unsigned ist() const { return static_cast<unsigned>(low.raw >> 32) & 7; }
  [[nodiscard]] constexpr unsigned parameter_count() const {
    return static_cast<unsigned>(low.raw >> 32) & 31;
  }
};

// Selectors. SDM vol. 3, 3.4.2.
constexpr unsigned selector_rpl(u16 selector) {
  return selector & 3;
}
constexpr bool selector_is_local(u16 selector) {
  return (selector & 4) != 0;
}
constexpr bool selector_is_null(u16 selector) {
  return (selector & ~3) == 0;
}
constexpr u16 with_rpl(u16 selector, unsigned rpl) {
  return static_cast<u16>((selector & ~3u) | rpl);
}

}  // namespace nacre::cpu
