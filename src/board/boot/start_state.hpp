// The processor states that boot protocols ask for. Freestanding.
#pragma once

#include "board/boot/boot.hpp"
#include "board/boot/placer.hpp"

namespace nacre::board::boot {

// Where our own structures go: below all that a kernel is ever linked for, above the real-mode vectors.
inline constexpr u64 kStructuresLow = 0x1000, kStructuresHigh = kEbdaBase;

// 32-bit protected mode, no paging, flat segments, interrupts off: what PVH and multiboot agree on.
// (PVH: Xen, docs/misc/pvh.pandoc. Multiboot 0.6.96, 3.2.) The GDT register points nowhere.
void enter_protected_mode(cpu::State& state, u32 entry);

// 64-bit mode with a flat GDT (code 0x10, data 0x18) and the first 4 GiB mapped one to one, both written
// to guest RAM; interrupts off; RSI = boot_params. Linux, Documentation/arch/x86/boot.rst, 64-bit protocol.
Status enter_long_mode(const Machine& machine, Placer& placer, cpu::State& state, u64 entry, u64 boot_params);

// 32-bit protected mode with the same flat GDT (code 0x10, data 0x18), paging off; ESI = boot_params. Linux,
// Documentation/arch/x86/boot.rst, 32-bit protocol.
Status enter_linux32(const Machine& machine, Placer& placer, cpu::State& state, u32 entry, u64 boot_params);

}  // namespace nacre::board::boot
