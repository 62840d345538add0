// Explicit operands of an instruction as values: registers, memory, immediates. Freestanding; owned by
// the vCPU's thread.
#pragma once

#include "interp/core.hpp"

namespace nacre::interp {

// Bytes of operand `n`.
inline unsigned operand_size(const Instruction& instruction, unsigned n) {
  const x86::Width width = instruction.info->operands[n].width;
  switch (width) {
    case x86::Width::OpSize:
      return instruction.operand_size;
    case x86::Width::B:
      return 1;
    case x86::Width::W:
      return 2;
    case x86::Width::D:
      return 4;
    case x86::Width::Q:
      return 8;
    case x86::Width::OpSizeY:
      return instruction.operand_size == 8 ? 8 : 4;
    case x86::Width::OpSizeZ:
      return instruction.operand_size == 2 ? 2 : 4;
    default:
      return x86::operand_bytes(instruction, width);
  }
}

inline u64 read_register(const Core& core, const Instruction& instruction, u8 number, unsigned size) {
  if (size != 1) return core.gpr(number, size);
  const x86::ByteRegister byte = x86::byte_register(instruction, number);
  return core.state->gpr[byte.index & 15] >> (byte.high ? 8 : 0) & 0xff;
}

inline void write_register(Core& core, const Instruction& instruction, u8 number, unsigned size, u64 value) {
  if (size != 1) return core.set_gpr(number, size, value);
  const x86::ByteRegister byte = x86::byte_register(instruction, number);
  u64& target = core.state->gpr[byte.index & 15];
  const unsigned shift = byte.high ? 8 : 0;
  target = (target & ~(u64{0xff} << shift)) | (value & 0xff) << shift;
}

// The general register operand `n` names, or kNoRegister when it is memory or something else.
inline u8 operand_register(const Instruction& instruction, unsigned n) {
  using x86::OperandKind;
  switch (instruction.info->operands[n].kind) {
    case OperandKind::GprReg:
      return instruction.reg;
    case OperandKind::GprRm:
      return instruction.is_memory ? x86::kNoRegister : instruction.rm;
    case OperandKind::GprRmOnly:
      return instruction.rm;
    case OperandKind::GprOpcode:
      return static_cast<u8>((instruction.opcode & 7) | (instruction.rex & 1) << 3);
    case OperandKind::GprVvvv:
      return instruction.vvvv;
    case OperandKind::Accumulator:
      return x86::RAX;
    case OperandKind::FixedCl:
      return x86::RCX;
    case OperandKind::FixedDx:
      return x86::RDX;
    default:
      return x86::kNoRegister;
  }
}

inline bool is_memory_operand(const Instruction& instruction, unsigned n) {
  using x86::OperandKind;
  const OperandKind kind = instruction.info->operands[n].kind;
  return kind == OperandKind::MemoryOnly || kind == OperandKind::MemoryOffset ||
         (kind == OperandKind::GprRm && instruction.is_memory);
}

// Reads operand `n`, zero-extended; immediates sign-extended as encoded, then cut to the first
// operand's size where the caller masks.
inline bool read_operand(Core& core, const Instruction& instruction, unsigned n, u64& value) {
  using x86::OperandKind;
  const u8 number = operand_register(instruction, n);
  if (number != x86::kNoRegister) {
    value = read_register(core, instruction, number, operand_size(instruction, n));
    return true;
  }
  if (is_memory_operand(instruction, n)) {
    return core.load(instruction.effective_segment(), core.effective_address(instruction),
                     operand_size(instruction, n), value);
  }
  value = instruction.info->operands[n].kind == OperandKind::FixedOne ? 1 : instruction.immediate;
  return true;
}

inline bool write_operand(Core& core, const Instruction& instruction, unsigned n, u64 value) {
  const u8 number = operand_register(instruction, n);
  if (number != x86::kNoRegister) {
    write_register(core, instruction, number, operand_size(instruction, n), value);
    return true;
  }
  return core.store(instruction.effective_segment(), core.effective_address(instruction),
                    operand_size(instruction, n), value);
}

// operand n = change(operand n), atomically under a LOCK prefix. `change` may run more than once.
template <typename Change>
bool modify_operand(Core& core, const Instruction& instruction, unsigned n, Change change) {
  const unsigned size = operand_size(instruction, n);
  const u8 number = operand_register(instruction, n);
  if (number != x86::kNoRegister) {
    const u64 old = read_register(core, instruction, number, size);
    write_register(core, instruction, number, size, change(old));
    return true;
  }
  return core.modify(instruction.effective_segment(), core.effective_address(instruction), size,
                     instruction.lock, change);
}

}  // namespace nacre::interp
