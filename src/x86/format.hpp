// An instruction as text in Intel's syntax, for traces and reports of bugs. Needs no memory of its own and no
// vector register, so it may be called wherever an engine stands. Freestanding; any thread.
#pragma once

#include "x86/instruction.hpp"

namespace nacre::x86 {

inline constexpr usize kFormattedLength = 112;  // enough for any instruction, the final 0 included

// Writes at most `capacity` bytes with a final 0 to `text`; returns how many there are before it. `rip` is the
// instruction's address: targets of branches and RIP-relative operands are shown as addresses.
//   lock add qword ptr [rbx+rcx*4-0x8], rax        jnz 0xffffffff81000020        vaddps zmm0{k1}{z}, zmm1, [rel 0x1000]
usize format(const Instruction& instruction, u64 rip, char* text, usize capacity);

}  // namespace nacre::x86
