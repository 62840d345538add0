// Bits<Self, Raw>: a register as a type, with fields in the manual's "high, low" order. Values are
// immutable: `with` returns a changed copy. Freestanding; any thread.
//
//   struct Cr0 : Bits<Cr0, u64> {
//     using Bits::Bits;
//     static constexpr Field<bool, 0, 0> PE{};
//   };
//   if (cr0[Cr0::PE]) …      cr0 = cr0.with(Cr0::PE, true);
#pragma once

#include "base/types.hpp"

namespace nacre {

template <typename T, unsigned high, unsigned low>
struct Field {
  static_assert(high >= low && high < 64);
  static constexpr u64 mask = (high - low == 63 ? ~u64{0} : ((u64{1} << (high - low + 1)) - 1)) << low;
  static constexpr unsigned shift = low;
};

template <typename Self, typename Raw>
struct Bits {
  Raw raw = 0;

  constexpr Bits() = default;
  constexpr explicit Bits(Raw value) : raw(value) {}

  template <typename T, unsigned high, unsigned low>
  [[nodiscard]] constexpr T operator[](Field<T, high, low>) const {
    static_assert(high < 8 * sizeof(Raw));
    return static_cast<T>((raw & Field<T, high, low>::mask) >> low);
  }
  template <typename T, unsigned high, unsigned low>
  [[nodiscard]] constexpr Self with(Field<T, high, low>, T value) const {
    static_assert(high < 8 * sizeof(Raw));
    Self copy;
    copy.raw = static_cast<Raw>((raw & ~Field<T, high, low>::mask) |
                                ((static_cast<u64>(value) << low) & Field<T, high, low>::mask));
    return copy;
  }
  constexpr bool operator==(const Bits&) const = default;
};

// `value` with bits high..low taken out and moved down to bit 0.
constexpr u64 extract(u64 value, unsigned high, unsigned low) {
  const unsigned width = high - low + 1;
  return (value >> low) & (width == 64 ? ~u64{0} : (u64{1} << width) - 1);
}
constexpr u64 sign_extend(u64 value, unsigned bits) {
  return static_cast<u64>(static_cast<i64>(value << (64 - bits)) >> (64 - bits));
}
// All-ones in the low `bytes` bytes; bytes is 1, 2, 4 or 8.
constexpr u64 low_bytes_mask(unsigned bytes) { return bytes >= 8 ? ~u64{0} : (u64{1} << (8 * bytes)) - 1; }

}  // namespace nacre
