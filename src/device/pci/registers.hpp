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
  static constexpr u8 msi = 0x05, vendor = 0x09, express = 0x10, msi_x = 0x11;
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

// The PCI Express capability, version 2. 7.5.3.
inline constexpr u8 kExpressBytes = 0x3c;
struct ExpressOffset {
  static constexpr u16 flags = 0x02, device_capabilities = 0x04, device_control = 0x08, link_capabilities = 0x0c,
                       link_control = 0x10, link_status = 0x12, slot_capabilities = 0x14, slot_control = 0x18,
                       slot_status = 0x1a, root_control = 0x1c;
};
// 7.5.3.2: what it is. One that is integrated in the root complex has no link.
inline constexpr u16 kExpressEndpoint = 0 << 4 | 2, kExpressIntegrated = 9 << 4 | 2,
                     kExpressRootPort = 1 << 8 | 4 << 4 | 2;  // with a slot; its message is number 0
inline constexpr u32 kExpressRoleBasedErrors = 1 << 15;
inline constexpr u16 kDeviceControlWritable = 0x78ff;
inline constexpr u16 kLinkX1 = 1 << 4 | 1;  // one lane, 2.5 GT/s: 7.5.3.6, 7.5.3.8

// A type 1 header: where it differs from type 0. PCI-to-PCI Bridge 1.2, 3.2.
struct BridgeOffset {
  static constexpr u16 primary = 0x18, secondary = 0x19, subordinate = 0x1a, memory_base = 0x20, memory_limit = 0x22,
                       control = 0x3e;
};
struct BridgeControl {
  static constexpr u16 secondary_bus_reset = 1 << 6;
  static constexpr u16 kWritable = 0x0043;  // parity, SERR#, secondary bus reset
};

// Message-signalled interrupts, one message, 64-bit address. PCI Local Bus 3.0, 6.8.1.
struct MsiOffset {
  static constexpr u16 control = 0x02, address = 0x04, address_high = 0x08, data = 0x0c;
  static constexpr u8 bytes = 0x0e;
};
struct MsiControl {
  static constexpr u16 enable = 1 << 0, address_64 = 1 << 7;
};

// A port's link and slot. PCI Express Base 4.0, 7.5.3.6 to 7.5.3.11.
struct LinkCapability {
  static constexpr u32 active_reporting = 1 << 20;
};
struct LinkControl {
  static constexpr u16 disable = 1 << 4;
  static constexpr u16 kWritable = 0x0ff3;
};
struct LinkStatus {
  static constexpr u16 active = 1 << 13;
};
struct SlotCapability {
  static constexpr u32 attention_button = 1 << 0, power_controller = 1 << 1, power_indicator = 1 << 4, surprise = 1 << 5,
                       hot_plug = 1 << 6, no_command_completed = 1 << 18;
  static constexpr unsigned number_shift = 19;
};
// Enable bits of slot control have the places of the events in slot status, but for the last one.
struct SlotEvent {
  static constexpr u16 attention_button = 1 << 0, presence_changed = 1 << 3, link_changed = 1 << 8;
  static constexpr u16 kAll = attention_button | presence_changed | link_changed;
};
struct SlotStatus {
  static constexpr u16 present = 1 << 6;
};
struct SlotControl : Bits<SlotControl, u16> {
  using Bits::Bits;
  static constexpr Field<bool, 0, 0> attention_button_enable{};
  static constexpr Field<bool, 3, 3> presence_enable{};
  static constexpr Field<bool, 5, 5> interrupt_enable{};
  static constexpr Field<u16, 9, 8> power_indicator{};
  static constexpr Field<bool, 10, 10> power_off{};
  static constexpr Field<bool, 12, 12> link_enable{};
  static constexpr u16 kWritable = 0x17ff;
};

}  // namespace nacre::device::pci
