// The configuration space of a function with a type 0 header. PCI Local Bus 3.0, 6.1 and 6.2; capabilities:
// 6.8.2 (MSI-X), PCI Express Base 4.0, 7.5.3 (PCI Express). Freestanding.
#pragma once

#include "base/bits.hpp"

namespace nacre::device::pci {

struct Offset {
  static constexpr u16 vendor = 0x00, device = 0x02, command = 0x04, status = 0x06, revision = 0x08,
                       class_code = 0x09, cache_line_size = 0x0c, header_type = 0x0e, bar = 0x10,
                       subsystem_vendor = 0x2c, subsystem = 0x2e, capabilities = 0x34, interrupt_line = 0x3c,
                       interrupt_pin = 0x3d, first_capability = 0x40;
};

struct Command : Bits<Command, u16> {
  using Bits::Bits;
  static constexpr Field<bool, 1, 1> memory{};
  static constexpr Field<bool, 2, 2> bus_master{};
  // What of it can be written: memory, bus master, parity, SERR#, interrupt disable. There are no ports.
  static constexpr u16 kWritable = 0x0546;
};
struct StatusBit {
  static constexpr u16 capabilities_list = 1 << 4;
};

struct CapabilityId {
  static constexpr u8 vendor = 0x09, express = 0x10, msi_x = 0x11;
};

// A memory region of 64 bits that may be placed anywhere. 6.2.5.1.
inline constexpr u32 kBar64 = 0x4;

struct MsiXControl : Bits<MsiXControl, u16> {
  using Bits::Bits;
  static constexpr Field<u16, 10, 0> last{};  // number of vectors - 1
  static constexpr Field<bool, 14, 14> masked{};
  static constexpr Field<bool, 15, 15> enabled{};
  static constexpr u16 kWritable = 0xc000;
};

// PCI Express capability, version 2, root complex integrated endpoint: it has no link. 7.5.3.2.
inline constexpr u8 kExpressBytes = 0x3c;
inline constexpr u16 kExpressIntegrated = 9 << 4 | 2;
inline constexpr u32 kExpressRoleBasedErrors = 1 << 15;

}  // namespace nacre::device::pci
