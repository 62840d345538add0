// Addresses that do not convert into each other. Freestanding; any thread.
#pragma once

#include <compare>

#include "base/types.hpp"

namespace nacre {

template <typename Tag>
class Address {
 public:
  constexpr Address() = default;
  constexpr explicit Address(u64 value) : value_(value) {}
  [[nodiscard]] constexpr u64 value() const { return value_; }
  [[nodiscard]] constexpr Address page() const { return Address(value_ & ~(kPageSize - 1)); }
  [[nodiscard]] constexpr u64 page_offset() const { return value_ & (kPageSize - 1); }
  [[nodiscard]] constexpr u64 page_number() const { return value_ >> kPageShift; }
  constexpr Address operator+(u64 delta) const { return Address(value_ + delta); }
  constexpr Address operator-(u64 delta) const { return Address(value_ - delta); }
  constexpr u64 operator-(Address other) const { return value_ - other.value_; }
  constexpr auto operator<=>(const Address&) const = default;

 private:
  u64 value_ = 0;
};

using GuestPhysical = Address<struct GuestPhysicalTag>;  // what page tables produce; byte address
using GuestLinear = Address<struct GuestLinearTag>;      // after segmentation, before paging

}  // namespace nacre
