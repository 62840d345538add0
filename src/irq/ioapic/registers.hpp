// IOAPIC register layout. Intel 82093AA data sheet (290566-001), section 3; EOI register: Intel ICH
// data sheets ("IOxAPIC version 20h").
#pragma once

#include "base/bits.hpp"
#include "irq/message.hpp"

namespace nacre::irq {

struct Redirection : Bits<Redirection, u64> {
  using Bits::Bits;
  static constexpr Field<u8, 7, 0> vector{};
  static constexpr Field<Delivery, 10, 8> delivery{};
  static constexpr Field<Destination, 11, 11> mode{};
  static constexpr Field<bool, 12, 12> send_pending{};  // read-only
  static constexpr Field<bool, 13, 13> active_low{};
  static constexpr Field<bool, 14, 14> remote_irr{};  // read-only
  static constexpr Field<Trigger, 15, 15> trigger{};
  static constexpr Field<bool, 16, 16> masked{};
  static constexpr Field<u8, 63, 56> destination{};

  static constexpr u64 kReset = u64{1} << 16;
  static constexpr u64 kReadOnly = (u64{1} << 12) | (u64{1} << 14);
  static constexpr u64 kWritable = 0xff00'0000'0001'afff;
};
static_assert((Redirection::kReadOnly & Redirection::kWritable) == 0);
static_assert(Redirection(Redirection::kReset)[Redirection::masked]);

struct IoapicRegister {
  // Memory-mapped, bytes from the window's start.
  static constexpr u64 kSelect = 0x00, kWindow = 0x10, kEoi = 0x40;
  // Behind the window.
  static constexpr u8 kId = 0x00, kVersion = 0x01, kArbitration = 0x02, kRedirection = 0x10;
};

}  // namespace nacre::irq
