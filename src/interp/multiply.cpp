// Multiplication and division. SDM vol. 2. A quotient that does not fit is the guest's #DE.
#include "interp/flags.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

// rDX:rAX (AX for bytes) as one number, and back.
u128 read_wide(const Core& core, unsigned size) {
  if (size == 1) return core.gpr(x86::RAX, 2);
  return u128{core.gpr(x86::RDX, size)} << (8 * size) | core.gpr(x86::RAX, size);
}

void write_wide(Core& core, unsigned size, u64 low, u64 high) {
  if (size == 1) {
    core.set_gpr(x86::RAX, 2, (low & 0xff) | (high & 0xff) << 8);
    return;
  }
  core.set_gpr(x86::RAX, size, low);
  core.set_gpr(x86::RDX, size, high);
}

// CF and OF say that the upper half means something. The others are undefined: set as the low half says.
void set_product_flags(Core& core, bool significant, u64 low, unsigned size) {
  u64 flags = significant ? Rflags::CF | Rflags::OF : 0;
  flags |= result_flags(low, size) & (Rflags::SF | Rflags::PF);
  replace_flags(core.state->rflags, Rflags::arithmetic, flags);
}

i128 signed_product(u64 a, u64 b, unsigned size) {
  return i128{static_cast<i64>(sign_extend(a, 8 * size))} * static_cast<i64>(sign_extend(b, 8 * size));
}

bool fits_signed(i128 value, unsigned size) {
  return value == static_cast<i64>(sign_extend(static_cast<u64>(value), 8 * size));
}

bool imul_one(Core& core, u64 factor, unsigned size) {
  const i128 product = signed_product(core.gpr(x86::RAX, size), factor, size);
  const u64 low = static_cast<u64>(product);
  write_wide(core, size, low, static_cast<u64>(product >> (8 * size)));
  set_product_flags(core, !fits_signed(product, size), low, size);
  return true;
}

// Sign-extends the 2*size-byte number in `value`.
i128 extend_wide(u128 value, unsigned size) {
  const unsigned shift = 128 - 16 * size;
  return static_cast<i128>(value << shift) >> shift;
}

u128 magnitude(i128 value) {
  return value < 0 ? -static_cast<u128>(value) : static_cast<u128>(value);
}

struct Division {
  u64 quotient = 0;
  u64 remainder = 0;
  bool overflow = false;
};

// Long division with a 128-bit dividend that has no library behind it in a freestanding build. Overflow
// when the quotient does not fit 64 bits.
Division divide(u128 dividend, u64 divisor) {
  const u64 high = static_cast<u64>(dividend >> 64);
  if (divisor == 0 || high >= divisor) return {0, 0, true};
  u64 quotient = 0, remainder = 0;
  asm("divq %4"
      : "=a"(quotient), "=d"(remainder)
      : "a"(static_cast<u64>(dividend)), "d"(high), "r"(divisor)
      : "cc");
  return {quotient, remainder, false};
}

}  // namespace

bool mul(Core& core, const Instruction& i) {
  u64 factor = 0;
  if (!read_operand(core, i, 0, factor)) return false;
  const unsigned size = operand_size(i, 0);
  const u128 product = u128{core.gpr(x86::RAX, size)} * factor;
  const u64 high = static_cast<u64>(product >> (8 * size)) & low_bytes_mask(size);
  write_wide(core, size, static_cast<u64>(product), high);
  set_product_flags(core, high != 0, static_cast<u64>(product), size);
  return true;
}

bool imul(Core& core, const Instruction& i) {
  using x86::OperandKind;
  const unsigned size = operand_size(i, 0);
  const bool has_two = i.info->operands[1].kind != OperandKind::None;
  const bool has_three = i.info->operands[2].kind != OperandKind::None;
  u64 a = 0, b = 0;
  if (!has_two) return read_operand(core, i, 0, a) && imul_one(core, a, size);
  if (!read_operand(core, i, has_three ? 1 : 0, a) || !read_operand(core, i, has_three ? 2 : 1, b))
    return false;
  const i128 product = signed_product(a, b, size);
  set_product_flags(core, !fits_signed(product, size), static_cast<u64>(product), size);
  return write_operand(core, i, 0, static_cast<u64>(product));
}

// Flags are undefined after a division: left alone, as processors do.
bool div(Core& core, const Instruction& i) {
  u64 divisor = 0;
  if (!read_operand(core, i, 0, divisor)) return false;
  const unsigned size = operand_size(i, 0);
  const Division result = divide(read_wide(core, size), divisor);
  if (result.overflow || result.quotient > low_bytes_mask(size)) return core.raise(Vector::DE);
  write_wide(core, size, result.quotient, result.remainder);
  return true;
}

bool idiv(Core& core, const Instruction& i) {
  u64 operand = 0;
  if (!read_operand(core, i, 0, operand)) return false;
  const unsigned size = operand_size(i, 0);
  const i128 dividend = extend_wide(read_wide(core, size), size);
  const i64 divisor = static_cast<i64>(sign_extend(operand, 8 * size));
  const Division result = divide(magnitude(dividend), static_cast<u64>(magnitude(divisor)));
  if (result.overflow) return core.raise(Vector::DE);
  const bool negative = (dividend < 0) != (divisor < 0);
  const u64 most = sign_bit(size) - (negative ? 0 : 1);
  if (result.quotient > most) return core.raise(Vector::DE);
  write_wide(core, size, negative ? -result.quotient : result.quotient,
             dividend < 0 ? -result.remainder : result.remainder);
  return true;
}

// mulx high, low, r/m: flags untouched; the high half wins when both are one register.
bool mulx(Core& core, const Instruction& i) {
  u64 factor = 0;
  if (!read_operand(core, i, 2, factor)) return false;
  const unsigned size = operand_size(i, 0);
  const u128 product = u128{core.gpr(x86::RDX, size)} * factor;
  return write_operand(core, i, 1, static_cast<u64>(product)) &&
         write_operand(core, i, 0, static_cast<u64>(product >> (8 * size)));
}

}  // namespace nacre::interp::handlers
