// Plain instructions: the guest's own instruction with its registers renamed and its memory operand
// replaced by a checked host address. docs/soft-engine.md, "A plain instruction".
#include <algorithm>
#include <iterator>

#include "engine/soft/translator.hpp"

namespace nacre::soft {

using x86::Access;
using x86::Encoding;
using x86::Gpr;
using x86::Instruction;
using x86::kNoRegister;
using x86::Map;
using x86::OperandKind;
using x86::Operation;
using x86::R14;
using x86::R15;
using x86::Width;

namespace {

constexpr usize gpr_slot(u8 guest) {
  return offsetof(Context, state) + offsetof(cpu::State, gpr) + 8 * guest;
}

// How one register field of the encoding is used.
struct FieldUse {
  bool is_gpr = false;
  bool read = false;
  bool written = false;
  bool partial = false;    // a write that keeps part of the old value
  bool high_byte = false;  // AH, CH, DH, BH
  u8 guest = 0;

  [[nodiscard]] bool homeless() const { return is_gpr && !high_byte && host_register(guest) == kNoRegister; }
  [[nodiscard]] u8 renamed() const { return is_gpr && !high_byte ? host_register(guest) : guest; }
};

struct Uses {
  FieldUse reg, rm, vvvv, opcode_reg;
};

void note(FieldUse& use, const Instruction& insn, const x86::Operand& operand, u8 number) {
  use.is_gpr = true;
  use.guest = number;
  const unsigned bytes = x86::operand_bytes(insn, operand.width);
  use.read |= operand.access == Access::Read || operand.access == Access::ReadWrite;
  use.written |= operand.access == Access::Write || operand.access == Access::ReadWrite;
  use.partial |= bytes < 4 || insn.info->operation == Operation::Cmovcc;
  if (bytes == 1 && insn.encoding == Encoding::Legacy && insn.rex == 0 && number >= 4 && number < 8) {
    use.high_byte = true;
  }
}

Uses find_uses(const Instruction& insn) {
  Uses uses;
  uses.reg.guest = static_cast<u8>(insn.has_modrm ? insn.reg : 0);
  uses.rm.guest = insn.rm;
  uses.vvvv.guest = insn.vvvv;
  for (const x86::Operand& operand : insn.info->operands) {
    switch (operand.kind) {
      case OperandKind::GprReg:
        note(uses.reg, insn, operand, insn.reg);
        break;
      case OperandKind::GprRm:
      case OperandKind::GprRmOnly:
        if (!insn.is_memory) note(uses.rm, insn, operand, insn.rm);
        break;
      case OperandKind::GprVvvv:
        note(uses.vvvv, insn, operand, insn.vvvv);
        break;
      case OperandKind::GprOpcode:
        note(uses.opcode_reg, insn, operand, static_cast<u8>((insn.opcode & 7) | ((insn.rex & 1) << 3)));
        break;
      default:
        break;
    }
  }
  return uses;
}

}  // namespace

u16 written_registers(const Instruction& insn) {
  const Uses uses = find_uses(insn);
  u16 mask = insn.info->implicit_written;
  for (const FieldUse* use : {&uses.reg, &uses.rm, &uses.vvvv, &uses.opcode_reg}) {
    if (!use->is_gpr || !use->written) continue;
    mask = static_cast<u16>(mask | 1 << (use->high_byte ? use->guest & 3 : use->guest & 15));
  }
  for (const x86::Operand& operand : insn.info->operands) {
    if (operand.kind == OperandKind::Accumulator) mask |= 1;
  }
  return mask;
}

// What cannot be copied although it is of a plain class: implicit memory operands, element-wise memory
// semantics, system flags, addresses that depend on data.
bool needs_interpreter(const Instruction& insn) {
  if ((insn.info->flags_written & ~x86::Rflags::arithmetic) != 0) return true;
  if (((insn.info->implicit_read | insn.info->implicit_written) & 0xe010) != 0) return true;  // RSP, R13-R15
  switch (insn.info->operation) {
    case Operation::Xlat:
    case Operation::Maskmov:
    case Operation::Gather:
    case Operation::Scatter:
    case Operation::GatherPrefetch:
    case Operation::VectorCompress:
    case Operation::VectorExpand:
    case Operation::Movdir64b:
    case Operation::Fldenv:
    case Operation::Fnstenv:
    case Operation::Fnsave:
    case Operation::Frstor:
    case Operation::Rdpid:
    case Operation::Rdrand:
    case Operation::Rdseed:
      return true;
    case Operation::Bt:
    case Operation::Bts:
    case Operation::Btr:
    case Operation::Btc:
      return insn.is_memory && insn.immediate_size == 0;
    default:
      break;
  }
  for (const x86::Operand& operand : insn.info->operands) {
    switch (operand.kind) {
      case OperandKind::MemoryOffset:
      case OperandKind::Vsib:
      case OperandKind::StringSource:
      case OperandKind::StringDestination:
      case OperandKind::SegmentReg:
      case OperandKind::SegmentFixed:
        return true;
      default:
        if (operand.width == Width::Environment) return true;
    }
  }
  return false;
}

namespace {

// Whether a homeless register in ModRM.rm may be replaced by its memory slot.
bool rm_may_be_slot(const Instruction& insn, const FieldUse& rm) {
  switch (insn.info->operation) {
    case Operation::Bt:
    case Operation::Bts:
    case Operation::Btr:
    case Operation::Btc:
      return insn.immediate_size != 0 && (insn.operand_size == 8 || !rm.written);
    case Operation::Xchg:
    case Operation::Xadd:
    case Operation::Cmpxchg:
      return false;
    default:
      break;
  }
  for (const x86::Operand& operand : insn.info->operands) {
    if (operand.kind == OperandKind::GprRmOnly) return false;
    if (operand.kind != OperandKind::GprRm) continue;
    const unsigned bytes = x86::operand_bytes(insn, operand.width);
    // A 32-bit write clears the upper half of a register, not of memory.
    return !rm.written || bytes != 4;
  }
  return false;
}

}  // namespace

// Writes `insn` with other register numbers and, when `memory` is given, that memory operand.
void Translator::encode(const Instruction& insn, const Fields& fields, const HostMemory* memory) {
  const bool high_index = memory != nullptr && memory->index != kNoRegister && memory->index >= 8;
  const u8 base = memory != nullptr ? memory->base : insn.has_modrm ? fields.rm : fields.opcode_reg;
  const bool high_base = base != kNoRegister && (base & 8) != 0;
  const bool high_reg = insn.has_modrm && (fields.reg & 8) != 0;
  if (insn.encoding == Encoding::Vex) {
    e_->byte(0xc4);
    e_->byte(static_cast<u8>((high_reg ? 0 : 0x80) | (high_index ? 0 : 0x40) | (high_base ? 0 : 0x20) |
                             static_cast<u8>(insn.map)));
    e_->byte(static_cast<u8>((insn.w ? 0x80 : 0) | ((~fields.vvvv & 15) << 3) |
                             (insn.vector_length == 32 ? 4 : 0) | static_cast<u8>(insn.mandatory)));
  } else if (insn.encoding == Encoding::Evex) {
    // SDM vol. 2, 2.7.1. A register in ModRM.rm has its bit 4 where an index would have its bit 3.
    const bool x = memory != nullptr ? high_index : (fields.rm & 16) != 0;
    const u8 length = insn.broadcast && memory == nullptr ? insn.rounding
                      : insn.vector_length == 64          ? 2
                      : insn.vector_length == 32          ? 1
                                                          : 0;
    e_->byte(0x62);
    e_->byte(static_cast<u8>((high_reg ? 0 : 0x80) | (x ? 0 : 0x40) | (high_base ? 0 : 0x20) |
                             ((fields.reg & 16) != 0 ? 0 : 0x10) | static_cast<u8>(insn.map)));
    e_->byte(static_cast<u8>((insn.w ? 0x80 : 0) | ((~fields.vvvv & 15) << 3) | 4 |
                             static_cast<u8>(insn.mandatory)));
    e_->byte(static_cast<u8>((insn.zeroing ? 0x80 : 0) | (length << 5) | (insn.broadcast ? 0x10 : 0) |
                             ((fields.vvvv & 16) != 0 ? 0 : 8) | insn.mask));
  } else {
    if (insn.lock) e_->byte(0xf0);
    if (insn.operand_size_prefix) e_->byte(0x66);
    if (insn.mandatory == x86::MandatoryPrefix::PF3) e_->byte(0xf3);
    if (insn.mandatory == x86::MandatoryPrefix::PF2) e_->byte(0xf2);
    const u8 rex = static_cast<u8>(0x40 | (insn.w ? 8 : 0) | (high_reg ? 4 : 0) | (high_index ? 2 : 0) |
                                   (high_base ? 1 : 0));
    // An empty REX still matters: it turns AH into SPL.
    if (rex != 0x40 || insn.rex != 0) e_->byte(rex);
    if (insn.map != Map::Primary) e_->byte(0x0f);
    if (insn.map == Map::Map0F38) e_->byte(0x38);
    if (insn.map == Map::Map0F3A) e_->byte(0x3a);
  }
  if (insn.has_modrm) {
    e_->byte(insn.opcode);
    if (memory != nullptr) {
      e_->modrm_memory(fields.reg, *memory,
                       insn.encoding == Encoding::Evex ? Emitter::ShortDisplacement::Avoided
                                                       : Emitter::ShortDisplacement::Allowed);
    } else {
      e_->modrm_register(fields.reg, fields.rm);
    }
  } else if (code32() && insn.map == Map::Primary && insn.opcode >= 0x40 && insn.opcode < 0x50) {
    // INC and DEC whose opcodes are REX in 64-bit code.
    e_->byte(0xff);
    e_->modrm_register(insn.opcode >> 3 & 1, fields.opcode_reg);
  } else if (fields.opcode_reg != kNoRegister) {
    e_->byte(static_cast<u8>((insn.opcode & 0xf8) | (fields.opcode_reg & 7)));
  } else {
    e_->byte(insn.opcode);
  }
  // Immediates come last; extrq and insertq have two.
  if (insn.immediate_size == 0) return;
  for (unsigned i = insn.immediate_offset; i < insn.length; i++) e_->byte(insn.bytes[i]);
}

// Of 32-bit code: what is encoded and means the same in 64-bit code, or is looked after.
bool Translator::is_for_translation(const Instruction& insn) const {
  if (!code32()) return true;
  // FS and GS may have limits, and nothing is written through CS.
  const bool other_segment = insn.segment == x86::FS || insn.segment == x86::GS || insn.segment == x86::CS;
  if (insn.is_memory && (insn.address_size != 4 || (other_segment && insn.info->operation != Operation::Lea))) return false;
  if (insn.encoding != Encoding::Legacy) {
    // W, and bit 7 of a register's number in an immediate, may be ignored, and are not in 64-bit code; XMM8 to XMM15 are left alone.
    const auto names_register = [](const x86::Operand& operand) { return operand.kind == OperandKind::VectorImm; };
    return !insn.w && insn.info->operation != Operation::Vzeroupper && insn.info->operation != Operation::Vzeroall &&
           std::none_of(std::begin(insn.info->operands), std::end(insn.info->operands), names_register);
  }
  if (insn.map != Map::Primary) return true;
  switch (insn.opcode) {
    case 0x27:  // DAA
    case 0x2f:  // DAS
    case 0x37:  // AAA
    case 0x3f:  // AAS
    case 0x60:  // PUSHA
    case 0x61:  // POPA
    case 0x62:  // BOUND
    case 0x63:  // ARPL
    case 0x82:  // as 80H
    case 0xc4:  // LES
    case 0xc5:  // LDS
    case 0xce:  // INTO
    case 0xd4:  // AAM
    case 0xd5:  // AAD
    case 0xd6:  // SALC
      return false;
    default:
      return true;
  }
}

// MOV of the accumulator and an address in the instruction, which 64-bit code has with 64 bits.
bool Translator::translate_absolute(const Item& item) {
  const Instruction& insn = item.insn;
  if (insn.address_size != 4 || insn.segment == x86::FS || insn.segment == x86::GS || insn.segment == x86::CS) return false;
  const bool write = (insn.opcode & 2) != 0;
  const unsigned bytes = (insn.opcode & 1) == 0 ? 1 : insn.operand_size;
  const std::optional<HostMemory> host = checked_operand(item, write, bytes);
  if (!host) return false;
  commit();
  if (bytes == 2) e_->byte(0x66);
  e_->op_memory(static_cast<u8>((write ? 0x88 : 0x8a) | (insn.opcode & 1)), x86::RAX, *host, false);
  wrote(item);
  return true;
}

bool Translator::translate_plain(const Item& item) {
  const Instruction& insn = item.insn;
  const x86::OpcodeInfo& info = *insn.info;
  if (info.operation == Operation::Nop || info.operation == Operation::Prefetch ||
      info.operation == Operation::Endbr) {
    return true;
  }
  if (code32() && insn.encoding == Encoding::Legacy && insn.map == Map::Primary && insn.opcode >= 0xa0 && insn.opcode <= 0xa3)
    return translate_absolute(item);
  if (needs_interpreter(insn)) {
    const bool bit_string = insn.is_memory && insn.immediate_size == 0 && insn.encoding == Encoding::Legacy &&
                            (info.operation == Operation::Bt || info.operation == Operation::Bts ||
                             info.operation == Operation::Btr || info.operation == Operation::Btc);
    return bit_string ? translate_bit_string(item) : translate_special(item);
  }
  const Uses uses = find_uses(insn);
  const bool high_byte = uses.reg.high_byte || uses.rm.high_byte || uses.opcode_reg.high_byte;
  const FieldUse* const all[] = {&uses.reg, &uses.rm, &uses.vvvv, &uses.opcode_reg};

  Fields fields{uses.reg.renamed(), uses.rm.renamed(), uses.vvvv.renamed(),
                uses.opcode_reg.is_gpr ? uses.opcode_reg.renamed() : kNoRegister};
  if (high_byte) {
    // No REX is possible, so nothing may be renamed to a high register.
    for (const FieldUse* use : all) {
      if (use->is_gpr && !use->high_byte && (use->homeless() || (use->renamed() & 8) != 0)) return false;
    }
    if (insn.is_memory) return false;
  }

  const x86::Operand* memory = x86::memory_operand(insn);
  if (memory == nullptr || memory->access == Access::Address) {
    if (info.operation == Operation::Lea) {
      if (insn.operand_size == 2) return false;
      Instruction plain = insn;
      plain.segment = x86::kNoSegment;
      if (!address(plain, item.rip + insn.length)) return false;
      if (insn.operand_size == 4) e_->op_register(0x89, R14, R14, false);
      commit();
      store_guest(insn.reg, R14);
      return true;
    }
    if (memory != nullptr) return false;

    // A homeless register in ModRM.rm can be its memory slot.
    if (uses.rm.homeless() && !uses.reg.homeless() && !uses.vvvv.homeless() &&
        rm_may_be_slot(insn, uses.rm)) {
      const HostMemory slot = HostMemory::context(gpr_slot(uses.rm.guest));
      commit();
      encode(insn, fields, &slot);
      return true;
    }
    // Otherwise borrow the scratch registers.
    u8 borrowed[2] = {kNoRegister, kNoRegister};
    bool load[2] = {}, store[2] = {};
    u8* const renamed[] = {&fields.reg, &fields.rm, &fields.vvvv, &fields.opcode_reg};
    for (unsigned i = 0; i < 4; i++) {
      if (!all[i]->homeless()) continue;
      unsigned slot = 0;
      while (slot < 2 && borrowed[slot] != kNoRegister && borrowed[slot] != all[i]->guest) slot++;
      if (slot == 2) return false;
      borrowed[slot] = all[i]->guest;
      load[slot] |= all[i]->read || all[i]->partial;
      store[slot] |= all[i]->written;
      *renamed[i] = static_cast<u8>(R14 + slot);
    }
    if (borrowed[1] != kNoRegister) addend_in_r15_ = kNone;
    for (unsigned i = 0; i < 2; i++) {
      if (load[i]) load_guest(static_cast<Gpr>(R14 + i), borrowed[i]);
    }
    commit();
    encode(insn, fields, nullptr);
    for (unsigned i = 0; i < 2; i++) {
      if (store[i]) store_guest(borrowed[i], static_cast<Gpr>(R14 + i));
    }
    return true;
  }

  const unsigned bytes = x86::operand_bytes(insn, memory->width);
  if (bytes == 0 || bytes > 64) return false;
  // One homeless register at most beside the memory operand.
  u8 guest = kNoRegister;
  bool read = false, written = false;
  for (const FieldUse* use : {&uses.reg, &uses.vvvv}) {
    if (!use->homeless()) continue;
    if (guest != kNoRegister && guest != use->guest) return false;
    guest = use->guest;
    read |= use->read || use->partial;
    written |= use->written;
  }
  HostMemory host = HostMemory::sum(R14, R15);
  if (item.group != kNone) {
    host = group_operand(item);
  } else {
    const bool write = memory->access == Access::Write || memory->access == Access::ReadWrite;
    const std::optional<HostMemory> checked = checked_operand(item, write, bytes);
    if (!checked) return false;
    host = *checked;
  }
  Gpr data = R14;
  if (guest != kNoRegister) {
    if (read) {
      e_->lea(R14, host);
      host = HostMemory::at(R14);
      data = R15;
      addend_in_r15_ = kNone;
      load_guest(data, guest);
    }
    if (uses.reg.homeless()) fields.reg = data;
    if (uses.vvvv.homeless()) fields.vvvv = data;
  }
  commit();
  encode(insn, fields, &host);
  wrote(item);
  if (guest != kNoRegister && written) store_guest(guest, data);
  return true;
}

}  // namespace nacre::soft
