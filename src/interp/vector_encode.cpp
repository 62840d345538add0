#include "interp/vector_encode.hpp"

namespace nacre::interp {
namespace {

using x86::Encoding;
using x86::Instruction;
using x86::MandatoryPrefix;
using x86::Map;
using x86::OperandKind;
using x86::Width;

// Numbers of the registers in the encoding's three fields, after replacement.
struct Fields {
  u8 reg, rm, vvvv;
};

u8* gpr_field(OperandKind kind, const Instruction& instruction, Fields& fields) {
  switch (kind) {
    case OperandKind::GprReg:
      return &fields.reg;
    case OperandKind::GprRm:
      return instruction.is_memory ? nullptr : &fields.rm;
    case OperandKind::GprRmOnly:
      return &fields.rm;
    case OperandKind::GprVvvv:
      return &fields.vvvv;
    default:
      return nullptr;
  }
}

bool uses_high_byte(const Instruction& instruction) {
  if (instruction.encoding != Encoding::Legacy || instruction.rex != 0) return false;
  Fields fields{instruction.reg, instruction.rm, instruction.vvvv};
  for (const x86::Operand& operand : instruction.info->operands) {
    const u8* field = gpr_field(operand.kind, instruction, fields);
    if (field != nullptr && operand.width == Width::B && *field >= 4) return true;
  }
  return false;
}

// Replaces RSP and RDI among the GPR operands by RBP, RSI or RBX: low registers, so that no prefix changes,
// and never implicit in an instruction that runs here.
void replace_registers(const Instruction& instruction, Fields& fields, EncodedInstruction& encoded) {
  const Fields before = fields;
  Fields probe = before;
  u32 used = 0;
  for (const x86::Operand& operand : instruction.info->operands) {
    if (const u8* field = gpr_field(operand.kind, instruction, probe)) used |= u32{1} << *field;
  }
  const auto take_free = [&used](u8 wanted) {
    if ((used >> wanted & 1) == 0) return wanted;
    constexpr u8 kCandidates[] = {x86::RBP, x86::RSI, x86::RBX};
    for (const u8 candidate : kCandidates) {
      if ((used >> candidate & 1) != 0) continue;
      used |= u32{1} << candidate;
      return candidate;
    }
    return wanted;
  };
  encoded.stack_pointer = take_free(x86::RSP);
  encoded.rdi = take_free(x86::RDI);
  for (const x86::Operand& operand : instruction.info->operands) {
    u8* field = gpr_field(operand.kind, instruction, fields);
    if (field == nullptr) continue;
    if (*field == x86::RSP) {
      *field = encoded.stack_pointer;
    } else if (*field == x86::RDI) {
      *field = encoded.rdi;
    }
  }
}

// Whether W selects the width of a general register: only then does it mean something else in 64-bit mode.
bool w_sizes_gpr(const Instruction& instruction) {
  for (const x86::Operand& operand : instruction.info->operands) {
    if (operand.width == Width::OpSizeY || operand.width == Width::OpSize) return true;
  }
  return instruction.info->implicit_read != 0;  // vpcmpestri: lengths in EAX and EDX
}

bool has_register_immediate(const Instruction& instruction) {
  for (const x86::Operand& operand : instruction.info->operands) {
    if (operand.kind == OperandKind::VectorImm) return true;
  }
  return false;
}

bool needs_operand_size_prefix(const Instruction& instruction) {
  if (instruction.mandatory == MandatoryPrefix::P66) return true;
  for (const x86::Operand& operand : instruction.info->operands) {
    if (operand.width == Width::Environment || operand.width == Width::OpSize)
      return instruction.operand_size == 2;
  }
  return false;
}

void append_legacy(const Instruction& instruction, EncodedInstruction& encoded) {
  if (needs_operand_size_prefix(instruction)) encoded.append(0x66);
  if (instruction.mandatory == MandatoryPrefix::PF3) encoded.append(0xf3);
  if (instruction.mandatory == MandatoryPrefix::PF2) encoded.append(0xf2);
  if (instruction.rex != 0) {
    constexpr u8 kIndexAndBase = 3;  // REX.X and REX.B belong to the memory operand
    const bool memory = instruction.is_memory;
    encoded.append(static_cast<u8>(instruction.rex & (memory ? ~kIndexAndBase : 0xff)));
  }
  if (instruction.map != Map::Primary) encoded.append(0x0f);
  if (instruction.map == Map::Map0F38) encoded.append(0x38);
  if (instruction.map == Map::Map0F3A) encoded.append(0x3a);
}

void append_vex(const Instruction& instruction, const Fields& fields, bool w, EncodedInstruction& encoded) {
  const bool extend_rm = !instruction.is_memory && (fields.rm & 8) != 0;
  const unsigned r = (fields.reg & 8) != 0 ? 0 : 0x80;
  const unsigned b = extend_rm ? 0 : 0x20;
  const unsigned vvvv = (~unsigned{fields.vvvv} & 0xf) << 3;
  const unsigned l = instruction.vector_length == 32 ? 4 : 0;
  encoded.append(0xc4);
  encoded.append(static_cast<u8>(r | 0x40 | b | static_cast<unsigned>(instruction.map)));
  encoded.append(static_cast<u8>((w ? 0x80 : 0) | vvvv | l | static_cast<unsigned>(instruction.mandatory)));
}

bool append_evex(const Instruction& instruction, bool long_mode, bool w, EncodedInstruction& encoded) {
  if (instruction.modrm_offset < 5) return false;
  const u8* prefix = instruction.bytes + instruction.modrm_offset - 5;  // 62, P0, P1, P2, opcode, ModRM
  unsigned p0 = prefix[1];
  unsigned p1 = prefix[2];
  unsigned p2 = prefix[3];
  if (!long_mode) {  // no registers above 7: the bits that would name them are ignored there
    p0 |= 0xf0;
    p1 |= 0x40;
    p2 |= 0x08;
  }
  if (instruction.is_memory) p0 |= 0x60;  // X and B, inverted: base is RDI
  p1 = (p1 & 0x7f) | (w ? 0x80u : 0u);
  encoded.append(0x62);
  encoded.append(static_cast<u8>(p0));
  encoded.append(static_cast<u8>(p1));
  encoded.append(static_cast<u8>(p2));
  return true;
}

u8 modrm_byte(const Instruction& instruction, const Fields& fields) {
  const unsigned reg = fields.reg == instruction.reg ? instruction.modrm & 0x38u : (fields.reg & 7u) << 3;
  if (instruction.is_memory) return static_cast<u8>(reg | x86::RDI);
  const unsigned rm = fields.rm == instruction.rm ? instruction.modrm & 7u : fields.rm & 7u;
  return static_cast<u8>(0xc0 | reg | rm);
}

bool uses_mask_register(const Instruction& instruction) {
  for (const x86::Operand& operand : instruction.info->operands) {
    const bool mask = operand.kind == OperandKind::MaskReg || operand.kind == OperandKind::MaskRm ||
                      operand.kind == OperandKind::MaskVvvv;
    if (mask) return true;
  }
  return false;
}

u64 used_components(const Instruction& instruction) {
  using cpu::Xcr0;
  constexpr u64 kLegacy = Xcr0::x87 | Xcr0::SSE;
  constexpr u64 kVex = kLegacy | Xcr0::AVX | Xcr0::ZMM_Hi256;  // zeroes its destination up to the top
  constexpr u64 kAll = kVex | Xcr0::opmask | Xcr0::Hi16_ZMM;
  if (instruction.encoding == Encoding::Legacy) return kLegacy;
  if (instruction.encoding == Encoding::Evex) return kAll;
  if (instruction.info->operation == x86::Operation::Vzeroupper ||
      instruction.info->operation == x86::Operation::Vzeroall) {
    return kAll;
  }
  return uses_mask_register(instruction) ? kVex | Xcr0::opmask : kVex;
}

}  // namespace

bool encode_for_stub(const Instruction& instruction, bool long_mode, EncodedInstruction& encoded) {
  if (uses_high_byte(instruction)) return false;
  Fields fields{instruction.reg, instruction.rm, instruction.vvvv};
  replace_registers(instruction, fields, encoded);

  encoded.components = used_components(instruction);
  const bool w = instruction.w && (long_mode || !w_sizes_gpr(instruction));
  switch (instruction.encoding) {
    case Encoding::Legacy:
      append_legacy(instruction, encoded);
      break;
    case Encoding::Vex:
      append_vex(instruction, fields, w, encoded);
      break;
    case Encoding::Evex:
      if (!append_evex(instruction, long_mode, w, encoded)) return false;
      break;
  }
  encoded.append(instruction.opcode);
  if (instruction.has_modrm) encoded.append(modrm_byte(instruction, fields));
  if (instruction.immediate_offset != 0) {
    // A register number in an immediate has three bits outside 64-bit mode.
    const u8 mask = !long_mode && has_register_immediate(instruction) ? 0x7f : 0xff;
    for (unsigned i = instruction.immediate_offset; i < instruction.length; ++i) {
      encoded.append(instruction.bytes[i] & mask);
    }
  }
  return true;
}

}  // namespace nacre::interp
