// decode(): bytes to Instruction. One pass: prefixes, opcode, ModRM; the row by table lookup; then what the
// row says follows (SIB, displacement, immediates); last the checks that make an encoding #UD. SDM vol. 2,
// chapter 2.
#include "x86/encoding_rules.hpp"
#include "x86/instruction.hpp"
#include "x86/opcode_table.hpp"

namespace nacre::x86 {
namespace {

using A = OpcodeAttribute;

constexpr OpcodeInfo invalid_info() {
  OpcodeInfo info;
  info.name = "(undefined)";
  return info;
}
constexpr OpcodeInfo kInvalidInfo = invalid_info();

class Decoder {
 public:
  Decoder(const u8* bytes, usize available, CodeSize code_size, Instruction& instruction)
      : bytes_(bytes),
        limit_(static_cast<u8>(available < kMaxInstructionLength ? available : kMaxInstructionLength)),
        mode64_(code_size == CodeSize::Bits64),
        i_(instruction) {
    i_ = Instruction{};
    i_.code_size = code_size;
    i_.info = &kInvalidInfo;
  }

  DecodeStatus run() {
    const DecodeStatus status = parse();
    i_.length = at_;
    // The second bound holds anyway; without it the optimiser, which cannot see why, warns.
    for (unsigned n = 0; n < at_ && n < kMaxInstructionLength; ++n) i_.bytes[n] = bytes_[n];
    if (status != DecodeStatus::Ok) i_.info = &kInvalidInfo;
    return status;
  }

 private:
  [[nodiscard]] bool has(unsigned count) const { return at_ + count <= limit_; }
  [[nodiscard]] DecodeStatus out_of_bytes() const {
    return limit_ == kMaxInstructionLength ? DecodeStatus::TooLong : DecodeStatus::NeedMoreBytes;
  }
  // Little-endian; the caller has checked has(size).
  u64 take(unsigned size) {
    u64 value = 0;
    for (unsigned n = 0; n < size; ++n) value |= u64{bytes_[at_ + n]} << (8 * n);
    at_ = static_cast<u8>(at_ + size);
    return value;
  }

  DecodeStatus parse() {
    if (!prefixes()) return out_of_bytes();
    i_.opcode_offset = at_;
    const DecodeStatus opcode_status = opcode();
    if (opcode_status != DecodeStatus::Ok) return opcode_status;
    const DecodeStatus row_status = find_row();
    if (row_status != DecodeStatus::Ok) return row_status;
    sizes();
    if (i_.is_memory) {
      const DecodeStatus status = i_.address_size == 2 ? memory16() : memory();
      if (status != DecodeStatus::Ok) return status;
    }
    if ((i_.info->attributes & A::has_immediate) != 0 && !immediates()) return out_of_bytes();
    return apply_encoding_rules(i_, extension_) ? DecodeStatus::Ok : DecodeStatus::Invalid;
  }

  // 2.1.1, 2.2.1. False: ran out of bytes. Leaves at_ on the first byte that is no prefix.
  bool prefixes() {
    for (; at_ < limit_; ++at_) {
      const u8 byte = bytes_[at_];
      u8 rex = 0;
      switch (byte) {
        case 0x26:
          segment(ES);
          break;
        case 0x2e:
          segment(CS);
          break;
        case 0x36:
          segment(SS);
          break;
        case 0x3e:
          segment(DS);
          break;
        case 0x64:
          i_.segment = FS;
          break;
        case 0x65:
          i_.segment = GS;
          break;
        case 0x66:
          i_.operand_size_prefix = true;
          break;
        case 0x67:
          i_.address_size_prefix = true;
          break;
        case 0xf0:
          i_.lock = true;
          break;
        case 0xf2:
          i_.repne = true, i_.rep = false;
          break;
        case 0xf3:
          i_.rep = true, i_.repne = false;
          break;
        default:
          if (!mode64_ || (byte & 0xf0) != 0x40) return true;
          rex = byte;
      }
      i_.rex = rex;  // counts only directly before the opcode
    }
    return false;
  }
  void segment(SegmentIndex index) {
    if (!mode64_) i_.segment = index;
  }

  DecodeStatus opcode() {
    const u8 byte = bytes_[at_];
    if (byte == 0x62 || byte == 0xc4 || byte == 0xc5) {
      if (!has(2)) return out_of_bytes();
      // Outside 64-bit mode these are BOUND, LES, LDS with a memory operand.
      if (mode64_ || bytes_[at_ + 1] >= 0xc0) return byte == 0x62 ? evex() : vex(byte);
    }
    ++at_;
    extension_.r = (i_.rex & 4) != 0 ? 8 : 0;
    extension_.x = (i_.rex & 2) != 0 ? 8 : 0;
    extension_.b = (i_.rex & 1) != 0 ? 8 : 0;
    i_.w = (i_.rex & 8) != 0;
    i_.vector_length = 16;
    i_.mandatory = i_.rep                   ? MandatoryPrefix::PF3
                   : i_.repne               ? MandatoryPrefix::PF2
                   : i_.operand_size_prefix ? MandatoryPrefix::P66
                                            : MandatoryPrefix::None;
    i_.opcode = byte;
    if (byte != 0x0f) return DecodeStatus::Ok;
    if (!has(1)) return out_of_bytes();
    i_.opcode = bytes_[at_++];
    i_.map = Map::Map0F;
    if (i_.opcode != 0x38 && i_.opcode != 0x3a) return DecodeStatus::Ok;
    i_.map = i_.opcode == 0x38 ? Map::Map0F38 : Map::Map0F3A;
    if (!has(1)) return out_of_bytes();
    i_.opcode = bytes_[at_++];
    return DecodeStatus::Ok;
  }

  // 2.3.5: VEX. 66, F2, F3, LOCK or REX before it is #UD.
  [[nodiscard]] bool prefix_forbidden() const {
    return i_.operand_size_prefix || i_.rep || i_.repne || i_.lock || i_.rex != 0;
  }
  DecodeStatus vex(u8 first) {
    const unsigned bytes = first == 0xc5 ? 2 : 3;
    if (prefix_forbidden()) return DecodeStatus::Invalid;
    if (!has(bytes + 1)) return out_of_bytes();
    const u8 payload0 = bytes_[at_ + 1];
    const u8 payload1 = bytes_[at_ + bytes - 1];
    i_.encoding = Encoding::Vex;
    extension_.r = (payload0 & 0x80) != 0 ? 0 : 8;
    if (bytes == 3) {
      extension_.x = (payload0 & 0x40) != 0 ? 0 : 8;
      extension_.b = (payload0 & 0x20) != 0 ? 0 : 8;
      extension_.maps = payload0 & 0x1f;
      i_.w = (payload1 & 0x80) != 0;
    }
    i_.vvvv = (~payload1 >> 3) & 15;
    extension_.length = (payload1 >> 2) & 1;
    i_.vector_length = static_cast<u8>(16 << extension_.length);
    i_.mandatory = static_cast<MandatoryPrefix>(payload1 & 3);
    return after_vector_prefix(bytes);
  }

  // 2.7: EVEX.
  DecodeStatus evex() {
    if (prefix_forbidden()) return DecodeStatus::Invalid;
    if (!has(5)) return out_of_bytes();
    const u8 p0 = bytes_[at_ + 1], p1 = bytes_[at_ + 2], p2 = bytes_[at_ + 3];
    i_.encoding = Encoding::Evex;
    if ((p0 & 0x08) != 0 || (p1 & 0x04) == 0) return DecodeStatus::Invalid;
    extension_.r = (p0 & 0x80) != 0 ? 0 : 8;
    extension_.x = (p0 & 0x40) != 0 ? 0 : 8;
    extension_.b = (p0 & 0x20) != 0 ? 0 : 8;
    extension_.r2 = (p0 & 0x10) != 0 ? 0 : 16;
    extension_.maps = p0 & 7;
    i_.w = (p1 & 0x80) != 0;
    extension_.v2 = (p2 & 0x08) != 0 ? 0 : 16;
    i_.vvvv = static_cast<u8>(((~p1 >> 3) & 15) | extension_.v2);
    i_.mandatory = static_cast<MandatoryPrefix>(p1 & 3);
    i_.zeroing = (p2 & 0x80) != 0;
    extension_.length = (p2 >> 5) & 3;
    i_.vector_length = static_cast<u8>(extension_.length < 3 ? 16 << extension_.length : 64);
    i_.broadcast = (p2 & 0x10) != 0;
    i_.mask = p2 & 7;
    return after_vector_prefix(4);
  }

  DecodeStatus after_vector_prefix(unsigned bytes) {
    at_ = static_cast<u8>(at_ + bytes);
    i_.opcode = bytes_[at_++];
    if (!mode64_) {  // eight registers: most bits that would extend their numbers are ignored
      if (extension_.v2 != 0) return DecodeStatus::Invalid;
      extension_.r = extension_.x = extension_.b = extension_.r2 = 0;
    }
    if (extension_.maps < 1 || extension_.maps > 3) return DecodeStatus::Invalid;
    i_.map = static_cast<Map>(extension_.maps);
    return DecodeStatus::Ok;
  }

  // The one or two tables that hold this map.
  struct Tables {
    const OpcodeMap* first;
    const OpcodeMap* second;
  };
  [[nodiscard]] Tables tables() const {
    static constexpr const OpcodeMap* kVex[] = {nullptr, &kVex0F, &kVex0F38, &kVex0F3A};
    static constexpr const OpcodeMap* kEvex[] = {nullptr, &kEvex0F, &kEvex0F38, &kEvex0F3A};
    const auto map = static_cast<unsigned>(i_.map);
    if (i_.encoding == Encoding::Vex) return {kVex[map], nullptr};
    if (i_.encoding == Encoding::Evex) return {kEvex[map], nullptr};
    switch (i_.map) {
      case Map::Primary:
        break;
      case Map::Map0F:
        return {&kGeneral0F, &kSse0F};
      case Map::Map0F38:
        return {&kSse0F38, &kGeneral0F38};
      case Map::Map0F3A:
        return {&kSse0F3A, nullptr};
    }
    return {(i_.opcode & 0xf8) == 0xd8 ? &kX87Map : &kPrimaryMap, nullptr};
  }

  DecodeStatus find_row() {
    const Tables in = tables();
    const Cell first = in.first->cells[i_.opcode];
    const Cell second = in.second != nullptr ? in.second->cells[i_.opcode] : Cell{};
    u32 key = Key::prefix(i_.mandatory) | (i_.w ? Key::w : 0) | (mode64_ ? Key::mode_64 : 0) |
              (extension_.b != 0 ? Key::rex_b : 0);
    i_.has_modrm = first.has_modrm || second.has_modrm;
    if (i_.has_modrm) {
      if (!has(1)) return out_of_bytes();
      i_.modrm_offset = at_;
      i_.modrm = bytes_[at_++];
      key |= Key::modrm(i_.modrm);
      i_.is_memory = i_.modrm < 0xc0;
      i_.reg = static_cast<u8>(((i_.modrm >> 3) & 7) | extension_.r | extension_.r2);
      i_.rm = static_cast<u8>((i_.modrm & 7) | extension_.b);
      if (i_.encoding == Encoding::Evex && !i_.is_memory) static_rounding();
    } else {
      i_.rm = static_cast<u8>((i_.opcode & 7) | extension_.b);
    }
    key |= Key::length(extension_.length) | (extension_.length != 0 ? Key::wide : 0);
    const OpcodeInfo* info = in.first->find(first, key);
    if (info == nullptr && in.second != nullptr) info = in.second->find(second, key);
    if (info == nullptr) return DecodeStatus::Invalid;
    i_.info = info;
    if ((info->attributes & A::mod_ignored) != 0) i_.is_memory = false;
    return DecodeStatus::Ok;
  }

  // 2.7.12, 2.7.13: EVEX.b in a register form takes L'L for a rounding mode; the vectors are 512 bits.
  void static_rounding() {
    if (!i_.broadcast) return;
    i_.rounding = extension_.length;
    extension_.length = 2;
    i_.vector_length = 64;
  }

  void sizes() {
    const u32 attributes = i_.info->attributes;
    const bool bits16 = i_.code_size == CodeSize::Bits16;
    if (mode64_) {
      i_.address_size = i_.address_size_prefix ? 4 : 8;
      const bool narrow = i_.operand_size_prefix;
      if (i_.w || (attributes & A::force_64) != 0) {
        i_.operand_size = 8;
      } else if (narrow) {
        i_.operand_size = 2;
      } else {
        i_.operand_size = (attributes & A::default_64) != 0 ? 8 : 4;
      }
    } else {
      i_.address_size = bits16 != i_.address_size_prefix ? 2 : 4;
      i_.operand_size = i_.encoding == Encoding::Legacy && bits16 != i_.operand_size_prefix ? 2 : 4;
    }
  }

  // Table 2-1.
  DecodeStatus memory16() {
    static constexpr u8 kBase[] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
    static constexpr u8 kIndex[] = {RSI, RDI, RSI, RDI, kNoRegister, kNoRegister, kNoRegister, kNoRegister};
    if ((i_.info->attributes & A::has_vsib) != 0) return DecodeStatus::Invalid;
    const unsigned mod = i_.modrm >> 6, rm = i_.modrm & 7;
    if (mod == 0 && rm == 6) return displacement(2);
    i_.base = kBase[rm];
    i_.index = kIndex[rm];
    return displacement(mod);
  }

  // Tables 2-2, 2-3, 2-7.
  DecodeStatus memory() {
    const unsigned mod = i_.modrm >> 6, rm = i_.modrm & 7;
    const bool vsib = (i_.info->attributes & A::has_vsib) != 0;
    if (rm == 4) {
      if (!has(1)) return out_of_bytes();
      const u8 sib = bytes_[at_++];
      i_.scale = sib >> 6;
      const u8 index = static_cast<u8>(((sib >> 3) & 7) | extension_.x);
      if (vsib) {
        i_.index = index | extension_.v2;
      } else if (index != 4) {
        i_.index = index;
      }
      if ((sib & 7) == 5 && mod == 0) return displacement(4);
      i_.base = static_cast<u8>((sib & 7) | extension_.b);
    } else {
      if (vsib) return DecodeStatus::Invalid;
      if (rm == 5 && mod == 0) {
        if (mode64_) i_.base = kRipBase;
        return displacement(4);
      }
      i_.base = static_cast<u8>(rm | extension_.b);
    }
    return displacement(mod == 2 ? 4 : mod);
  }

  DecodeStatus displacement(unsigned size) {
    i_.displacement_size = static_cast<u8>(size);
    if (size == 0) return DecodeStatus::Ok;
    if (!has(size)) return out_of_bytes();
    i_.displacement_offset = at_;
    i_.displacement = static_cast<i64>(sign_extend(take(size), 8 * size));
    if (size == 1 && i_.encoding == Encoding::Evex) i_.displacement *= displacement_scale();
    return DecodeStatus::Ok;
  }
  // disp8*N: table 2-34. N is what the operand has in memory, or one element of it.
  [[nodiscard]] unsigned displacement_scale() const {
    if ((i_.info->attributes & A::element_displacement) != 0) return i_.info->element;
    const unsigned bytes = memory_bytes(i_);
    return bytes != 0 ? bytes : 1;
  }

  bool immediates() {
    bool second = false;
    for (const Operand& operand : i_.info->operands) {
      switch (operand.kind) {
        case OperandKind::None:
          return true;
        case OperandKind::Immediate:
        case OperandKind::VectorImm:
          if (!immediate(operand, second)) return false;
          second = true;
          break;
        case OperandKind::Relative:
          if (!relative(operand)) return false;
          break;
        case OperandKind::FarPointer:
          if (!far_pointer()) return false;
          break;
        case OperandKind::MemoryOffset:
          if (!has(i_.address_size)) return false;
          i_.displacement_offset = at_;
          i_.displacement_size = i_.address_size;
          i_.displacement = static_cast<i64>(take(i_.address_size));
          break;
        default:
          break;
      }
    }
    return true;
  }
  bool immediate(const Operand& operand, bool second) {
    const unsigned size = operand.kind == OperandKind::VectorImm ? 1 : operand_bytes(i_, operand.width);
    if (!has(size)) return false;
    const u8 offset = at_;
    const u64 value = take(size);
    if (second) {
      i_.immediate2 = static_cast<u16>(value);
      return true;
    }
    i_.immediate_offset = offset;
    i_.immediate_size = static_cast<u8>(size);
    const bool extend = (i_.info->attributes & A::sign_extended_immediate) != 0;
    i_.immediate = extend ? sign_extend(value, 8 * size) : value;
    return true;
  }
  bool relative(const Operand& operand) {
    const unsigned size = operand_bytes(i_, operand.width);
    if (!has(size)) return false;
    i_.immediate_offset = at_;
    i_.immediate_size = static_cast<u8>(size);
    i_.immediate = sign_extend(take(size), 8 * size);
    return true;
  }
  bool far_pointer() {
    const unsigned size = i_.operand_size;
    if (!has(size + 2)) return false;
    i_.immediate_offset = at_;
    i_.immediate_size = static_cast<u8>(size);
    i_.immediate = take(size);
    i_.immediate2 = static_cast<u16>(take(2));
    return true;
  }

  const u8* bytes_;
  u8 limit_;
  u8 at_ = 0;
  bool mode64_;
  Extension extension_;
  Instruction& i_;
};

}  // namespace

DecodeStatus decode(const u8* bytes, usize available, CodeSize code_size, Instruction& instruction) {
  return Decoder(bytes, available, code_size, instruction).run();
}

}  // namespace nacre::x86
