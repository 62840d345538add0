#include "x86/format.hpp"

namespace nacre::x86 {
namespace {

constexpr const char* kConditions[] = {"o", "no", "b", "nb", "z", "nz", "be", "nbe",
                                       "s", "ns", "p", "np", "l", "nl", "le", "nle"};
constexpr const char* kSegments[] = {"es", "cs", "ss", "ds", "fs", "gs"};
constexpr const char* kGprs[] = {"ax", "cx", "dx", "bx", "sp", "bp", "si", "di"};
constexpr const char* kHighBytes[] = {"ah", "ch", "dh", "bh"};
constexpr const char* kRounding[] = {"{rn-sae}", "{rd-sae}", "{ru-sae}", "{rz-sae}"};

class Writer {
 public:
  Writer(char* text, usize capacity)
      : start_(text), at_(text), end_(text + (capacity == 0 ? 0 : capacity - 1)) {
    if (capacity != 0) *at_ = 0;
  }

  Writer& put(char c) {
    if (at_ != end_) {
      *at_++ = c;
      *at_ = 0;
    }
    return *this;
  }
  Writer& put(const char* text) {
    while (*text != 0) put(*text++);
    return *this;
  }
  Writer& decimal(unsigned value) {
    if (value >= 10) decimal(value / 10);
    return put(static_cast<char>('0' + value % 10));
  }
  Writer& hex(u64 value) {
    put("0x");
    unsigned shift = 60;
    while (shift != 0 && value >> shift == 0) shift -= 4;
    for (;; shift -= 4) {
      put("0123456789abcdef"[value >> shift & 15]);
      if (shift == 0) return *this;
    }
  }
  [[nodiscard]] usize length() const { return static_cast<usize>(at_ - start_); }

 private:
  char* start_;
  char* at_;
  char* end_;
};

class Formatter {
 public:
  Formatter(const Instruction& instruction, u64 rip, Writer& writer)
      : i_(instruction), rip_(rip), out_(writer) {}

  void run() {
    if (i_.info->kind == Class::Invalid) return undefined();
    prefixes();
    mnemonic();
    const char* separator = " ";
    for (const Operand& o : i_.info->operands) {
      if (o.kind == OperandKind::None) break;
      out_.put(separator);
      operand(o);
      if (&o == i_.info->operands) mask();
      separator = ", ";
    }
    if (i_.broadcast && !i_.is_memory) out_.put(", ").put(rounding());
  }

 private:
  void undefined() {
    out_.put(i_.info->name);
    for (unsigned n = 0; n < i_.length; ++n) {
      out_.put(' ').put("0123456789abcdef"[i_.bytes[n] >> 4]).put("0123456789abcdef"[i_.bytes[n] & 15]);
    }
  }

  void prefixes() {
    if (i_.lock) out_.put("lock ");
    if ((i_.info->attributes & OpcodeAttribute::rep_allowed) == 0) return;
    const bool compares = (i_.info->attributes & OpcodeAttribute::repne_allowed) != 0;
    if (i_.rep) out_.put(compares ? "repe " : "rep ");
    if (i_.repne) out_.put("repne ");
  }

  void mnemonic() {
    switch (i_.info->operation) {
      case Operation::Jcc:
        out_.put('j').put(kConditions[i_.opcode & 15]);
        return;
      case Operation::Setcc:
        out_.put("set").put(kConditions[i_.opcode & 15]);
        return;
      case Operation::Cmovcc:
        out_.put("cmov").put(kConditions[i_.opcode & 15]);
        return;
      case Operation::Cbw:
        out_.put(by_size("cbw", "cwde", "cdqe"));
        return;
      case Operation::Cwd:
        out_.put(by_size("cwd", "cdq", "cqo"));
        return;
      case Operation::Jrcxz:
        out_.put(i_.address_size == 2 ? "jcxz" : i_.address_size == 4 ? "jecxz" : "jrcxz");
        return;
      case Operation::Cmpxchg8b16b:
        out_.put(i_.info->name);
        return;
      default:
        break;
    }
    out_.put(i_.info->name);
    if (i_.info->kind == Class::String || i_.info->kind == Class::PortIo) string_suffix();
  }
  [[nodiscard]] const char* by_size(const char* word, const char* doubleword, const char* quadword) const {
    return i_.operand_size == 2 ? word : i_.operand_size == 4 ? doubleword : quadword;
  }
  // movs becomes movsb … movsq.
  void string_suffix() {
    for (const Operand& o : i_.info->operands) {
      if (o.kind != OperandKind::StringSource && o.kind != OperandKind::StringDestination) continue;
      const unsigned bytes = operand_bytes(i_, o.width);
      out_.put(bytes == 1 ? 'b' : bytes == 2 ? 'w' : bytes == 4 ? 'd' : 'q');
      return;
    }
  }

  void operand(const Operand& o) {
    switch (o.kind) {
      case OperandKind::None:
        break;
      case OperandKind::GprReg:
        gpr(i_.reg, o.width);
        break;
      case OperandKind::GprRm:
        register_or_memory(o, [&] { gpr(i_.rm, o.width); });
        break;
      case OperandKind::GprRmOnly:
      case OperandKind::GprOpcode:
        gpr(i_.rm, o.width);
        break;
      case OperandKind::MemoryOnly:
      case OperandKind::Vsib:
      case OperandKind::MemoryOffset:
        memory(o);
        break;
      case OperandKind::GprVvvv:
        gpr(i_.vvvv, o.width);
        break;
      case OperandKind::Accumulator:
        gpr(RAX, o.width);
        break;
      case OperandKind::FixedCl:
        out_.put("cl");
        break;
      case OperandKind::FixedDx:
        out_.put("dx");
        break;
      case OperandKind::FixedOne:
        out_.put('1');
        break;
      case OperandKind::Immediate:
        immediate(o);
        break;
      case OperandKind::Relative:
        out_.hex(branch_target());
        break;
      case OperandKind::FarPointer:
        out_.hex(i_.immediate2).put(':').hex(i_.immediate);
        break;
      case OperandKind::StringSource:
        string_memory("si", i_.segment == kNoSegment ? u8{DS} : i_.segment);
        break;
      case OperandKind::StringDestination:
        string_memory("di", ES);
        break;
      case OperandKind::SegmentReg:
        out_.put(kSegments[i_.reg % 6]);
        break;
      case OperandKind::SegmentFixed:
        out_.put(kSegments[i_.info->fixed % 6]);
        break;
      case OperandKind::ControlReg:
        numbered("cr", i_.reg);
        break;
      case OperandKind::DebugReg:
        numbered("dr", i_.reg);
        break;
      case OperandKind::MmxReg:
        numbered("mm", i_.reg & 7u);
        break;
      case OperandKind::MmxRm:
        register_or_memory(o, [&] { numbered("mm", i_.rm & 7u); });
        break;
      case OperandKind::VectorReg:
        vector(i_.reg, o.width);
        break;
      case OperandKind::VectorRm:
        register_or_memory(o, [&] { vector(i_.rm, o.width); });
        break;
      case OperandKind::VectorVvvv:
        vector(i_.vvvv, o.width);
        break;
      case OperandKind::VectorImm:
        vector(static_cast<unsigned>(i_.immediate >> 4 & 15), o.width);
        break;
      case OperandKind::MaskReg:
        numbered("k", i_.reg);
        break;
      case OperandKind::MaskRm:
        register_or_memory(o, [&] { numbered("k", i_.rm); });
        break;
      case OperandKind::MaskVvvv:
        numbered("k", i_.vvvv);
        break;
      case OperandKind::X87:
        out_.put("st(").decimal(i_.modrm & 7u).put(')');
        break;
    }
  }
  template <typename Register>
  void register_or_memory(const Operand& o, Register&& as_register) {
    if (i_.is_memory) {
      memory(o);
    } else {
      as_register();
    }
  }

  void numbered(const char* name, unsigned number) { out_.put(name).decimal(number); }
  void vector(unsigned number, Width width) {
    const unsigned bytes = operand_bytes(i_, width);
    numbered(bytes == 64 ? "zmm" : bytes == 32 ? "ymm" : "xmm", number);
  }
  void gpr(u8 number, Width width) {
    if (width != Width::B) return gpr_of_size(number, operand_bytes(i_, width));
    const ByteRegister byte = byte_register(i_, number);
    if (byte.high) {
      out_.put(kHighBytes[byte.index & 3]);
    } else {
      gpr_of_size(number, 1);
    }
  }
  void gpr_of_size(unsigned number, unsigned bytes) {
    if (number >= 8) {
      numbered("r", number);
      out_.put(bytes == 1 ? "b" : bytes == 2 ? "w" : bytes == 4 ? "d" : "");
      return;
    }
    if (bytes == 1) {  // al … bl, spl …
      if (number < 4) {
        out_.put(kGprs[number][0]).put('l');
      } else {
        out_.put(kGprs[number]).put('l');
      }
      return;
    }
    out_.put(bytes == 8 ? "r" : bytes == 4 ? "e" : "").put(kGprs[number]);
  }

  void immediate(const Operand& o) {
    const bool second = &o != i_.info->operands && (&o)[-1].kind == OperandKind::Immediate;
    if (second) {
      out_.hex(i_.immediate2);
      return;
    }
    const bool extended = (i_.info->attributes & OpcodeAttribute::sign_extended_immediate) != 0;
    out_.hex(extended ? i_.immediate & low_bytes_mask(i_.operand_size) : i_.immediate);
  }
  [[nodiscard]] u64 branch_target() const {
    const u64 target = rip_ + i_.length + i_.immediate;
    if (i_.code_size == CodeSize::Bits64) return target;
    return target & low_bytes_mask(i_.operand_size);
  }

  void string_memory(const char* base, u8 segment) {
    out_.put(kSegments[segment % 6])
        .put(":[")
        .put(i_.address_size == 8   ? "r"
             : i_.address_size == 4 ? "e"
                                    : "");
    out_.put(base).put(']');
  }
  void memory(const Operand& o) {
    if (o.access != Access::Address) out_.put(size_name(memory_bytes(i_)));
    if (i_.segment != kNoSegment) out_.put(kSegments[i_.segment % 6]).put(':');
    out_.put('[');
    const u64 mask = low_bytes_mask(i_.address_size);
    if (i_.base == kRipBase) {
      out_.put("rel ").hex((rip_ + i_.length + static_cast<u64>(i_.displacement)) & mask);
    } else {
      address(o.kind == OperandKind::Vsib, mask);
    }
    out_.put(']');
    if (i_.broadcast) out_.put("{1to").decimal(broadcast_count()).put('}');
  }
  void address(bool vsib, u64 mask) {
    const bool has_base = i_.base != kNoRegister, has_index = i_.index != kNoRegister;
    if (has_base) gpr_of_size(i_.base, i_.address_size);
    if (has_index) {
      if (has_base) out_.put('+');
      if (vsib) {
        numbered(i_.vector_length == 64 ? "zmm" : i_.vector_length == 32 ? "ymm" : "xmm", i_.index);
      } else {
        gpr_of_size(i_.index, i_.address_size);
      }
      if (i_.scale != 0) out_.put('*').decimal(1u << i_.scale);
    }
    if (!has_base && !has_index) {
      out_.hex(static_cast<u64>(i_.displacement) & mask);
    } else if (i_.displacement != 0) {
      const bool negative = i_.displacement < 0;
      out_.put(negative ? '-' : '+')
          .hex(negative ? u64{0} - static_cast<u64>(i_.displacement) : static_cast<u64>(i_.displacement));
    }
  }
  static const char* size_name(unsigned bytes) {
    switch (bytes) {
      case 1:
        return "byte ptr ";
      case 2:
        return "word ptr ";
      case 4:
        return "dword ptr ";
      case 6:
        return "fword ptr ";
      case 8:
        return "qword ptr ";
      case 10:
        return "tbyte ptr ";
      case 16:
        return "xmmword ptr ";
      case 32:
        return "ymmword ptr ";
      case 64:
        return "zmmword ptr ";
      default:
        return "";
    }
  }
  // Elements that one broadcast element fills: those of the operand as its width would have it.
  [[nodiscard]] unsigned broadcast_count() const {
    const Operand* o = memory_operand(i_);
    return o == nullptr ? 0 : operand_bytes(i_, o->width) / memory_bytes(i_);
  }

  void mask() {
    if (i_.mask == 0) return;
    out_.put("{k").decimal(i_.mask).put('}');
    if (i_.zeroing) out_.put("{z}");
  }
  [[nodiscard]] const char* rounding() const {
    const bool rounds = (i_.info->attributes & OpcodeAttribute::rounding_allowed) != 0;
    return rounds ? kRounding[i_.rounding & 3] : "{sae}";
  }

  const Instruction& i_;
  u64 rip_;
  Writer& out_;
};

}  // namespace

usize format(const Instruction& instruction, u64 rip, char* text, usize capacity) {
  Writer writer(text, capacity);
  if (capacity == 0) return 0;
  Formatter(instruction, rip, writer).run();
  return writer.length();
}

}  // namespace nacre::x86
