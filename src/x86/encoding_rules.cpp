// Encodings that a row admits by its prefixes and ModRM but that are #UD: LOCK where it has no business,
// registers that do not exist, vvvv, masks and rounding where the instruction has none. SDM vol. 2, 2.2
// to 2.8.
#include "x86/encoding_rules.hpp"

namespace nacre::x86 {
namespace {

using A = OpcodeAttribute;

class Rules {
 public:
  Rules(Instruction& instruction, const Extension& extension) : i_(instruction), e_(extension) {}

  bool apply() {
    const u32 attributes = i_.info->attributes;
    if (i_.lock && !((attributes & A::lockable) != 0 && i_.is_memory)) return false;
    if (i_.encoding != Encoding::Legacy) {
      if ((attributes & A::vvvv_unused) != 0 && (i_.vvvv & 15) != 0) return false;
      // Only where vvvv names a register is its top bit ignored.
      if (i_.code_size != CodeSize::Bits64) i_.vvvv &= 7;
      if (!vector_allowed()) return false;
    }
    return (attributes & A::restricted_registers) == 0 || registers_exist();
  }

 private:
  bool vector_allowed() {
    const bool vsib = (i_.info->attributes & A::has_vsib) != 0;
    if (vsib && !vsib_allowed()) return false;
    if (i_.encoding == Encoding::Vex) return true;
    // V' is the top bit of vvvv, or of a vector index.
    if (!vsib && (i_.info->attributes & A::vvvv_unused) != 0 && i_.vvvv != 0) return false;
    return evex_allowed();
  }

  bool registers_exist() {
    for (const Operand& operand : i_.info->operands) {
      switch (operand.kind) {
        case OperandKind::None:
          return true;
        case OperandKind::SegmentReg:
          i_.reg &= 7;  // REX.R is ignored
          if (i_.reg > GS || (i_.reg == CS && operand.access == Access::Write)) return false;
          break;
        case OperandKind::ControlReg:
          if (i_.reg != 0 && i_.reg != 2 && i_.reg != 3 && i_.reg != 4 && i_.reg != 8) return false;
          break;
        case OperandKind::DebugReg:
        case OperandKind::MaskReg:
          if (i_.reg > 7) return false;
          break;
        case OperandKind::MaskRm:
          i_.rm &= 7;  // VEX.B is ignored
          break;
        case OperandKind::MaskVvvv:
          if (i_.vvvv > 7) return false;
          break;
        default:
          break;
      }
    }
    return true;
  }

  // Gathers and scatters: index, destination and (VEX) mask are different registers. 2.3.12, 2.7.
  [[nodiscard]] bool vsib_allowed() const {
    if (i_.encoding == Encoding::Vex) return i_.reg != i_.index && i_.reg != i_.vvvv && i_.index != i_.vvvv;
    return i_.info->operation != Operation::Gather || i_.reg != i_.index;
  }

  bool evex_allowed() {
    const u32 attributes = i_.info->attributes;
    // R' cannot make a general register of 16 and more. 2.7.3.
    if (i_.reg > R15 && i_.info->operands[0].kind == OperandKind::GprReg) return false;
    if (i_.mask != 0 && (attributes & A::mask_allowed) == 0) return false;
    if (i_.mask == 0 && (attributes & A::mask_required) != 0) return false;
    if (i_.zeroing && !zeroing_allowed()) return false;
    if (i_.broadcast) {
      const u32 allowed = i_.is_memory ? A::broadcast_allowed : A::rounding_allowed | A::suppress_allowed;
      if ((attributes & allowed) == 0) return false;
    }
    if (e_.length == 3) return false;
    extend_rm();
    return true;
  }
  // 2.7.3: in a register form EVEX.X is the top bit of a vector register's number.
  void extend_rm() {
    if (i_.is_memory || e_.x == 0) return;
    for (const Operand& operand : i_.info->operands) {
      if (operand.kind == OperandKind::VectorRm) i_.rm |= 16;
    }
  }
  // Elements can be zeroed in a vector register only.
  [[nodiscard]] bool zeroing_allowed() const {
    if (i_.mask == 0 || (i_.info->attributes & A::mask_required) != 0) return false;
    const OperandKind kind = i_.info->operands[0].kind;
    return kind == OperandKind::VectorReg || kind == OperandKind::VectorVvvv ||
           (kind == OperandKind::VectorRm && !i_.is_memory);
  }

  Instruction& i_;
  const Extension& e_;
};

}  // namespace

bool apply_encoding_rules(Instruction& instruction, const Extension& extension) {
  return Rules(instruction, extension).apply();
}

}  // namespace nacre::x86
