// Where things are in the guest-physical address space and in the port space of this PC. One place, so
// that the memory map, the tables told to the guest and the loaders cannot disagree. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::board {

// RAM below 4 GiB ends at the hole at the latest; the rest follows from 4 GiB on.
inline constexpr u64 kLowRamLimit = 3 * kGiB;
inline constexpr u64 kHighRamBase = 4 * kGiB;
inline constexpr u64 kMinMemory = 2 * kMiB;
inline constexpr u64 kMaxMemory = u64{1} << 40;

// The first mebibyte: conventional memory, the extended BIOS data area, the VGA window (not RAM here),
// and what a PC's BIOS would fill, which holds our ACPI tables. ACPI 6.4, 5.2.5.1.
inline constexpr u64 kEbdaBase = 0x9fc00;
inline constexpr u64 kVgaHole = 0xa0000;
inline constexpr u64 kShadowBase = 0xc0000;  // RAM again from here to 1 MiB
inline constexpr u64 kTablesBase = 0xe0000;  // RSDP first, then the other tables
inline constexpr u64 kTablesBytes = 0x1fff0;
inline constexpr u64 kResetVector = 0xffff0;  // what f000:fff0 is on a PC: code that resets the machine
static_assert(kTablesBase + kTablesBytes == kResetVector);
// A ROM ends where the first 4 GiB do, and its end is in memory below 1 MiB too: as much of it as SeaBIOS copies there.
inline constexpr u64 kMaxFirmware = 16 * kMiB, kMaxShadow = kMiB - kShadowBase;

// The hole below 4 GiB.
inline constexpr u64 kPciWindowBase = kLowRamLimit;  // for BARs, up to the ECAM window …
inline constexpr u64 kEcamBase = 0xe0000000;         // … 256 buses of 1 MiB
inline constexpr u64 kEcamBytes = 256 * kMiB;
inline constexpr u64 kPciWindow2Base = 0xf0000000;  // … and from there to the chips
inline constexpr u64 kIoApicBase = 0xfec00000;
inline constexpr u64 kLocalApicBase = 0xfee00000;
inline constexpr u64 kTestWindowBase = 0xff000000;  // where QEMU has it; a ROM of 16 MiB would lie there too
static_assert(kEcamBase + kEcamBytes == kPciWindow2Base);
static_assert(kEcamBase % kEcamBytes == 0);

// Ports.
inline constexpr u16 kPortPicMaster = 0x20, kPortPit = 0x40, kPortKeyboardData = 0x60, kPort61 = 0x61,
                     kPortKeyboard = 0x64, kPortCmos = 0x70, kPortPost = 0x80, kPort92 = 0x92,
                     kPortPicSlave = 0xa0, kPortDebugExit = 0xf4, kPortCom1 = 0x3f8,
                     kPortCom2 = 0x2f8, kPortElcr = 0x4d0, kPortPciAddress = 0xcf8, kPortReset = 0xcf9,
                     kPortPciData = 0xcfc, kPortPanic = 0x505, kPortFwCfg = 0x510;  // the last two where QEMU has them
inline constexpr u16 kPortTestRegister = 0xe0, kPortTestFlush = 0xe4, kPortTestBytes = 0xe8, kPortTestLines = 0x2000;  // as QEMU
// The power-management block: PM1a event (4), PM1a control (2), PM timer (4). ACPI 6.4, 4.8.3.
inline constexpr u16 kPortPm1Event = 0x600, kPortPm1Control = 0x604, kPortPmTimer = 0x608;
inline constexpr u8 kPmPorts = 12;
// Where firmware for the PIIX4 moves it; it stays at the first place too.
inline constexpr u16 kPortMovedPm = 0xb000;
// The first device number on bus 0 that is free for functions of the owner, with firmware and without.
inline constexpr unsigned kFirstPciDevice = 1, kFirstPciDeviceWithFirmware = 2;

// Interrupt lines (ISA numbers; they are also the GSIs and IOAPIC pins, but for the timer's).
inline constexpr unsigned kIrqTimer = 0, kIrqKeyboard = 1, kIrqCom1 = 4, kIrqCom2 = 3, kIrqRtc = 8,
                          kIrqSci = 9, kIrqMouse = 12;
inline constexpr unsigned kGsiTimer = 2;

}  // namespace nacre::board
