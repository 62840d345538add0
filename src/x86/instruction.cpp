// Questions about a decoded instruction: sizes, memory operand, registers and flags used.
#include "x86/instruction.hpp"

namespace nacre::x86 {

unsigned operand_bytes(const Instruction& instruction, Width width) {
  const unsigned size = instruction.operand_size, vector = instruction.vector_length;
  switch (width) {
    case Width::None:
    case Width::Environment:
      return 0;
    case Width::B:
      return 1;
    case Width::W:
      return 2;
    case Width::D:
      return 4;
    case Width::Q:
      return 8;
    case Width::T:
      return 10;
    case Width::X:
      return 16;
    case Width::Y:
      return 32;
    case Width::Z:
      return 64;
    case Width::OpSize:
      return size;
    case Width::OpSizeZ:
      return size == 2 ? 2 : 4;
    case Width::OpSizeY:
      return size == 8 ? 8 : 4;
    case Width::AddressSize:
      return instruction.address_size;
    case Width::Native:
      return instruction.code_size == CodeSize::Bits64 ? 8 : 4;
    case Width::Vector:
      return vector;
    case Width::HalfVector:
      return vector / 2;
    case Width::QuarterVector:
      return vector / 4;
    case Width::EighthVector:
      return vector / 8;
    case Width::FarMemory:
      return 2 + size;
    case Width::TableRegister:
      return instruction.code_size == CodeSize::Bits64 ? 10 : 6;
    case Width::StackWord:
      return instruction.code_size != CodeSize::Bits64 ? size : size == 2 ? 2 : 8;
    case Width::OpSizePair:
      return 2 * size;
  }
  return 0;
}

namespace {

bool is_memory_kind(const Instruction& instruction, OperandKind kind) {
  switch (kind) {
    case OperandKind::MemoryOffset:
      return true;
    case OperandKind::GprRm:
    case OperandKind::MemoryOnly:
    case OperandKind::MmxRm:
    case OperandKind::VectorRm:
    case OperandKind::MaskRm:
    case OperandKind::Vsib:
      return instruction.is_memory;
    default:
      return false;
  }
}

constexpr u16 bit(unsigned gpr) {
  return static_cast<u16>(1u << (gpr & 15));
}

// The general register that an operand is, as a mask; 0 when it is none.
u16 gpr_of(const Instruction& instruction, const Operand& operand) {
  u8 number = 0;
  switch (operand.kind) {
    case OperandKind::GprReg:
      number = instruction.reg;
      break;
    case OperandKind::GprRm:
      if (instruction.is_memory) return 0;
      [[fallthrough]];
    case OperandKind::GprRmOnly:
    case OperandKind::GprOpcode:
      number = instruction.rm;
      break;
    case OperandKind::GprVvvv:
      number = instruction.vvvv;
      break;
    case OperandKind::Accumulator:
      return bit(RAX);
    case OperandKind::FixedCl:
      return bit(RCX);
    case OperandKind::FixedDx:
      return bit(RDX);
    default:
      return 0;
  }
  return bit(operand.width == Width::B ? byte_register(instruction, number).index : number);
}

bool repeats(const Instruction& instruction) {
  return (instruction.info->attributes & OpcodeAttribute::rep_allowed) != 0 &&
         (instruction.rep || instruction.repne);
}

}  // namespace

const Operand* memory_operand(const Instruction& instruction) {
  for (const Operand& operand : instruction.info->operands) {
    if (is_memory_kind(instruction, operand.kind)) return &operand;
  }
  return nullptr;
}

unsigned memory_bytes(const Instruction& instruction) {
  const Operand* operand = memory_operand(instruction);
  if (operand == nullptr) return 0;
  if (instruction.broadcast && instruction.is_memory) return instruction.w ? 8 : 4;
  return operand_bytes(instruction, operand->width);
}

u16 gprs_read(const Instruction& instruction) {
  const OpcodeInfo& info = *instruction.info;
  u16 mask = info.implicit_read;
  // 16-bit results leave the rest of the register as it was.
  if (instruction.operand_size == 2 && (info.kind == Class::Plain || info.kind == Class::Stack))
    mask |= info.implicit_written;
  for (const Operand& operand : info.operands) {
    const bool partial = operand.access == Access::Write && operand_bytes(instruction, operand.width) < 4;
    const bool read = operand.access == Access::Read || operand.access == Access::ReadWrite || partial ||
                      (operand.access == Access::Address && operand.kind == OperandKind::GprReg);
    if (read) mask |= gpr_of(instruction, operand);
  }
  if (instruction.is_memory) {
    const bool vsib = (info.attributes & OpcodeAttribute::has_vsib) != 0;
    if (instruction.base < 16) mask |= bit(instruction.base);
    if (instruction.index != kNoRegister && !vsib) mask |= bit(instruction.index);
  }
  // A count of 0 leaves what the instruction writes (lods) as it was.
  if (repeats(instruction)) mask |= static_cast<u16>(bit(RCX) | gprs_written(instruction));
  return mask;
}

u16 gprs_written(const Instruction& instruction) {
  u16 mask = instruction.info->implicit_written;
  for (const Operand& operand : instruction.info->operands) {
    if (operand.access == Access::Write || operand.access == Access::ReadWrite) {
      mask |= gpr_of(instruction, operand);
    }
  }
  if (repeats(instruction)) mask |= bit(RCX);
  return mask;
}

u32 condition_flags(unsigned condition) {
  static constexpr u32 kFlags[] = {
      Rflags::OF,
      Rflags::CF,
      Rflags::ZF,
      Rflags::CF | Rflags::ZF,
      Rflags::SF,
      Rflags::PF,
      Rflags::SF | Rflags::OF,
      Rflags::ZF | Rflags::SF | Rflags::OF,
  };
  return kFlags[(condition >> 1) & 7];
}

u32 flags_tested(const Instruction& instruction) {
  switch (instruction.info->operation) {
    case Operation::Jcc:
    case Operation::Setcc:
    case Operation::Cmovcc:
      return condition_flags(instruction.opcode & 15);
    default:
      return instruction.info->flags_tested;
  }
}

}  // namespace nacre::x86
