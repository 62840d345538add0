// Local APIC register layout, one for the memory-mapped and the MSR interface: an index is the
// memory-mapped offset divided by 16 and the MSR number minus 0x800. SDM vol. 3, tables 11-1, 11-6.
#pragma once

#include "base/bits.hpp"
#include "irq/message.hpp"

namespace nacre::irq {

enum class ApicRegister : u8 {
  Id = 0x02,
  Version = 0x03,
  TaskPriority = 0x08,
  ArbitrationPriority = 0x09,
  ProcessorPriority = 0x0a,
  Eoi = 0x0b,
  RemoteRead = 0x0c,
  LogicalDestination = 0x0d,
  DestinationFormat = 0x0e,
  Spurious = 0x0f,
  InService = 0x10,    // 8 registers
  TriggerMode = 0x18,  // 8 registers
  Request = 0x20,      // 8 registers
  ErrorStatus = 0x28,
  LvtCmci = 0x2f,  // not present here: Version says six LVT entries
  CommandLow = 0x30,
  CommandHigh = 0x31,
  LvtTimer = 0x32,
  LvtThermal = 0x33,
  LvtPerformance = 0x34,
  LvtLint0 = 0x35,
  LvtLint1 = 0x36,
  LvtError = 0x37,
  InitialCount = 0x38,
  CurrentCount = 0x39,
  DivideConfiguration = 0x3e,
  SelfIpi = 0x3f,
};

// IA32_APIC_BASE. SDM vol. 3, 11.4.4 and 11.12.1.
struct ApicBase : Bits<ApicBase, u64> {
  using Bits::Bits;
  static constexpr Field<bool, 8, 8> BSP{};
  static constexpr Field<bool, 10, 10> EXTD{};
  static constexpr Field<bool, 11, 11> EN{};
  static constexpr u64 kReservedLow = 0x2ff;
  static constexpr u64 kDefaultAddress = 0xfee0'0000;
};

// Local vector table entries. SDM vol. 3, 11.5.1, figure 11-8.
enum class TimerMode : u8 { OneShot = 0, Periodic = 1, TscDeadline = 2, Reserved = 3 };
struct Lvt : Bits<Lvt, u32> {
  using Bits::Bits;
  static constexpr Field<u8, 7, 0> vector{};
  static constexpr Field<Delivery, 10, 8> delivery{};
  static constexpr Field<bool, 12, 12> send_pending{};  // read-only
  static constexpr Field<bool, 13, 13> active_low{};
  static constexpr Field<bool, 14, 14> remote_irr{};  // read-only
  static constexpr Field<Trigger, 15, 15> trigger{};
  static constexpr Field<bool, 16, 16> masked{};
  static constexpr Field<TimerMode, 18, 17> timer_mode{};

  static constexpr u32 kReset = 1 << 16;
  static constexpr u32 kReadOnly = (1 << 12) | (1 << 14);
};

// What each LVT entry holds: vector and mask everywhere, then what figure 11-8 shows.
constexpr u32 lvt_writable(ApicRegister entry) {
  constexpr u32 base = 0x100ff, delivery = 0x700, wire = 0xa000;
  switch (entry) {
    case ApicRegister::LvtTimer:
      return base | 0x6'0000;
    case ApicRegister::LvtThermal:
    case ApicRegister::LvtPerformance:
      return base | delivery;
    case ApicRegister::LvtLint0:
    case ApicRegister::LvtLint1:
      return base | delivery | wire;
    default:
      return base;
  }
}

// Spurious-interrupt vector register. SDM vol. 3, 11.9.
struct Spurious : Bits<Spurious, u32> {
  using Bits::Bits;
  static constexpr Field<u8, 7, 0> vector{};
  static constexpr Field<bool, 8, 8> enabled{};
  static constexpr Field<bool, 9, 9> focus_disabled{};
  static constexpr Field<bool, 12, 12> no_broadcast{};  // system software writes to the I/O APIC's EOI register. 11.8.5
  static constexpr u32 kReset = 0xff, kWritable = 0x13ff;
};

// Interrupt command register. SDM vol. 3, 11.6.1 and 11.12.9.
enum class Shorthand : u8 { None = 0, Self = 1, All = 2, Others = 3 };
struct Command : Bits<Command, u64> {
  using Bits::Bits;
  static constexpr Field<u8, 7, 0> vector{};
  static constexpr Field<Delivery, 10, 8> delivery{};
  static constexpr Field<Destination, 11, 11> mode{};
  static constexpr Field<bool, 12, 12> send_pending{};  // read-only; always idle here
  static constexpr Field<bool, 14, 14> assert_level{};
  static constexpr Field<Trigger, 15, 15> trigger{};
  static constexpr Field<Shorthand, 19, 18> shorthand{};
  static constexpr Field<u8, 63, 56> destination{};        // xAPIC
  static constexpr Field<u32, 63, 32> wide_destination{};  // x2APIC
  static constexpr u32 kWritableLow = 0x000c'cfff;
};

// Error status register. SDM vol. 3, 11.5.3, figure 11-9.
struct ApicError {
  static constexpr u32 send_illegal_vector = 1 << 5, receive_illegal_vector = 1 << 6,
                       illegal_register = 1 << 7;
};

}  // namespace nacre::irq
