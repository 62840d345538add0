// Decimal adjustment; gone in 64-bit mode. SDM vol. 2: AAA, AAD, AAM, AAS, DAA, DAS.
#include "interp/flags.hpp"
#include "interp/handlers.hpp"

namespace nacre::interp::handlers {
namespace {

u64 low_byte(const Core& core) {
  return core.gpr(x86::RAX, 1);
}

void set_result_flags(Core& core, u64 result) {
  replace_flags(core.state->rflags, Rflags::SF | Rflags::ZF | Rflags::PF, result_flags(result, 1));
}

// aaa and aas: AX plus or minus 106H when the low digit is not one.
bool ascii_adjust(Core& core, bool add_form) {
  const bool adjust = (low_byte(core) & 0xf) > 9 || core.has_flag(Rflags::AF);
  u64 ax = core.gpr(x86::RAX, 2);
  if (adjust) ax = add_form ? ax + 0x106 : ax - 0x106;
  core.set_gpr(x86::RAX, 2, ax & 0xff0f);
  core.set_flag(Rflags::AF, adjust);
  core.set_flag(Rflags::CF, adjust);
  return true;
}

bool decimal_adjust(Core& core, bool add_form) {
  const u64 old = low_byte(core);
  const bool old_carry = core.has_flag(Rflags::CF);
  const bool low = (old & 0xf) > 9 || core.has_flag(Rflags::AF);
  const bool high = old > 0x99 || old_carry;
  u64 value = old;
  bool carry = false;
  if (low) {
    value = add_form ? value + 6 : value - 6;
    carry = old_carry || value > 0xff;
    value &= 0xff;
  }
  if (high) {
    value = add_form ? value + 0x60 : value - 0x60;
    carry = true;
  } else if (add_form) {
    carry = false;
  }
  core.set_gpr(x86::RAX, 1, value);
  core.set_flag(Rflags::AF, low);
  core.set_flag(Rflags::CF, carry);
  set_result_flags(core, value);
  return true;
}

}  // namespace

bool aaa(Core& core, const Instruction&) {
  return ascii_adjust(core, true);
}
bool aas(Core& core, const Instruction&) {
  return ascii_adjust(core, false);
}
bool daa(Core& core, const Instruction&) {
  return decimal_adjust(core, true);
}
bool das(Core& core, const Instruction&) {
  return decimal_adjust(core, false);
}

bool aam(Core& core, const Instruction& i) {
  const u64 base = i.immediate & 0xff;
  if (base == 0) return core.raise(Vector::DE);
  const u64 value = low_byte(core);
  core.set_gpr(x86::RAX, 2, (value / base) << 8 | value % base);
  set_result_flags(core, value % base);
  return true;
}

bool aad(Core& core, const Instruction& i) {
  const u64 ax = core.gpr(x86::RAX, 2);
  const u64 value = ((ax & 0xff) + (ax >> 8) * (i.immediate & 0xff)) & 0xff;
  core.set_gpr(x86::RAX, 2, value);
  set_result_flags(core, value);
  return true;
}

}  // namespace nacre::interp::handlers
