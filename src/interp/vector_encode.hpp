// An instruction encoded anew for a stub: the same operation on the same registers, with the memory operand
// at [rdi] and RSP and RDI, which the stub needs, replaced by registers that the instruction does not use.
// SDM vol. 2, chapter 2. Freestanding; any thread.
#pragma once

#include "cpu/state.hpp"
#include "x86/instruction.hpp"

namespace nacre::interp {

struct EncodedInstruction {
  static constexpr unsigned kCapacity = 24;  // our own prefixes are never more than the longest original's

  u8 bytes[kCapacity] = {};
  u8 length = 0;
  // GPR number to use instead; itself where nothing changes.
  u8 stack_pointer = x86::RSP;
  u8 rdi = x86::RDI;
  u64 components = 0;  // Xcr0 bits of the state that it reads or changes; moving less is faster

  void append(u8 byte) {
    if (length < kCapacity) bytes[length++] = byte;
  }
};

// False when the instruction cannot run in a stub (high-byte registers).
bool encode_for_stub(const x86::Instruction& instruction, bool long_mode, EncodedInstruction& encoded);

}  // namespace nacre::interp
