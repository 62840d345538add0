// Shifts and rotates. SDM vol. 2. A masked count of zero changes nothing, flags included. Undefined OF
// (counts above 1) is computed as for a count of 1 from the last step, as processors do.
#include "interp/flags.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

constexpr u64 kCarryOverflow = Rflags::CF | Rflags::OF;

// Shift with `compute(value, count, size, flags)`; the count is already masked and not zero.
template <typename Compute>
bool shift(Core& core, const Instruction& i, Compute compute) {
  u64 count = 0;
  if (!read_operand(core, i, 1, count)) return false;
  const unsigned size = operand_size(i, 0);
  const unsigned masked = static_cast<unsigned>(count) & (size == 8 ? 63 : 31);
  const u64 before = core.state->rflags;
  return modify_operand(core, i, 0, [&](u64 value) {
    core.state->rflags = before;
    return masked == 0 ? value : compute(value, masked, size, core.state->rflags);
  });
}

u64 flag_if(bool condition, u64 flag) {
  return condition ? flag : 0;
}
bool top_bit(u64 value, unsigned size) {
  return (value & sign_bit(size)) != 0;
}

u64 rotate_left(u64 value, unsigned count, unsigned size) {
  const unsigned bits = 8 * size;
  count %= bits;
  if (count == 0) return value;
  return (value << count | value >> (bits - count)) & low_bytes_mask(size);
}

void set_shift_flags(u64& flags, u64 result, unsigned size, bool carry, bool overflow) {
  replace_flags(flags, Rflags::arithmetic,
                result_flags(result, size) | flag_if(carry, Rflags::CF) | flag_if(overflow, Rflags::OF));
}

// Bit `count - 1` from the end that leaves first; counts may exceed the size for bytes and words.
bool bit_at(u64 value, unsigned position) {
  return position < 64 && (value >> position & 1) != 0;
}

// Rotates through CF: a number of bits+1 bits, one step at a time.
u64 rotate_carry(u64 value, unsigned count, unsigned size, u64& flags, bool left) {
  const unsigned bits = 8 * size;
  count %= bits + 1;
  if (count == 0) return value;
  bool carry = (flags & Rflags::CF) != 0;
  for (unsigned step = 0; step < count; ++step) {
    const bool out = left ? top_bit(value, size) : (value & 1) != 0;
    value = left ? (value << 1 | (carry ? 1 : 0)) & low_bytes_mask(size)
                 : value >> 1 | (carry ? sign_bit(size) : 0);
    carry = out;
  }
  const bool overflow =
      left ? top_bit(value, size) != carry : top_bit(value, size) != bit_at(value, bits - 2);
  replace_flags(flags, kCarryOverflow, flag_if(carry, Rflags::CF) | flag_if(overflow, Rflags::OF));
  return value;
}

// shld and shrd: operands are destination, filler, count.
template <typename Compute>
bool double_shift(Core& core, const Instruction& i, Compute compute) {
  u64 filler = 0, count = 0;
  if (!read_operand(core, i, 1, filler) || !read_operand(core, i, 2, count)) return false;
  const unsigned size = operand_size(i, 0);
  const unsigned masked = static_cast<unsigned>(count) & (size == 8 ? 63 : 31);
  return modify_operand(core, i, 0, [&](u64 value) {
    if (masked == 0) return value;
    return compute(value, filler & low_bytes_mask(size), masked, size);
  });
}

// BMI2 shifts: no flags; operands are destination, source, count.
template <typename Compute>
bool flagless(Core& core, const Instruction& i, Compute compute) {
  u64 value = 0, count = 0;
  if (!read_operand(core, i, 1, value) || !read_operand(core, i, 2, count)) return false;
  const unsigned size = operand_size(i, 0);
  return write_operand(core, i, 0, compute(value, static_cast<unsigned>(count) & (8 * size - 1), size));
}

u64 shift_right_signed(u64 value, unsigned count, unsigned size) {
  const auto extended = static_cast<i64>(sign_extend(value, 8 * size));
  return static_cast<u64>(extended >> (count > 63 ? 63 : count)) & low_bytes_mask(size);
}

}  // namespace

bool rol(Core& core, const Instruction& i) {
  return shift(core, i, [](u64 value, unsigned count, unsigned size, u64& flags) {
    const u64 result = rotate_left(value, count, size);
    const bool carry = (result & 1) != 0;
    replace_flags(flags, kCarryOverflow,
                  flag_if(carry, Rflags::CF) | flag_if(top_bit(result, size) != carry, Rflags::OF));
    return result;
  });
}

bool ror(Core& core, const Instruction& i) {
  return shift(core, i, [](u64 value, unsigned count, unsigned size, u64& flags) {
    const unsigned bits = 8 * size;
    const u64 result = rotate_left(value, bits - count % bits, size);
    const bool overflow = top_bit(result, size) != bit_at(result, bits - 2);
    replace_flags(flags, kCarryOverflow,
                  flag_if(top_bit(result, size), Rflags::CF) | flag_if(overflow, Rflags::OF));
    return result;
  });
}

bool rcl(Core& core, const Instruction& i) {
  return shift(core, i, [](u64 value, unsigned count, unsigned size, u64& flags) {
    return rotate_carry(value, count, size, flags, true);
  });
}

bool rcr(Core& core, const Instruction& i) {
  return shift(core, i, [](u64 value, unsigned count, unsigned size, u64& flags) {
    return rotate_carry(value, count, size, flags, false);
  });
}

bool shl(Core& core, const Instruction& i) {
  return shift(core, i, [](u64 value, unsigned count, unsigned size, u64& flags) {
    const unsigned bits = 8 * size;
    const u64 result = count < bits ? value << count & low_bytes_mask(size) : 0;
    const bool carry = count <= bits && bit_at(value, bits - count);
    set_shift_flags(flags, result, size, carry, top_bit(result, size) != carry);
    return result;
  });
}

bool shr(Core& core, const Instruction& i) {
  return shift(core, i, [](u64 value, unsigned count, unsigned size, u64& flags) {
    const u64 result = value >> count;
    // The top bit before the last step: for a count of 1, the operand's own.
    const bool overflow = count == 1 && top_bit(value, size);
    set_shift_flags(flags, result, size, bit_at(value, count - 1), overflow);
    return result;
  });
}

bool sar(Core& core, const Instruction& i) {
  return shift(core, i, [](u64 value, unsigned count, unsigned size, u64& flags) {
    const u64 result = shift_right_signed(value, count, size);
    const bool carry = bit_at(sign_extend(value, 8 * size), count - 1);
    set_shift_flags(flags, result, size, carry, false);
    return result;
  });
}

bool shld(Core& core, const Instruction& i) {
  return double_shift(core, i, [&](u64 value, u64 filler, unsigned count, unsigned size) {
    const unsigned bits = 8 * size;
    u128 wide = u128{value} << bits | filler;
    // With 16 bits and counts above 16 the filler comes round again; the manual leaves it undefined.
    if (size == 2) wide = u128{value} << 32 | filler << 16 | value;
    const unsigned width = size == 2 ? 48 : 2 * bits;
    const u64 result = static_cast<u64>(wide >> (width - bits - count)) & low_bytes_mask(size);
    const bool carry = (wide >> (width - count) & 1) != 0;
    set_shift_flags(core.state->rflags, result, size, carry, top_bit(result, size) != top_bit(value, size));
    return result;
  });
}

bool shrd(Core& core, const Instruction& i) {
  return double_shift(core, i, [&](u64 value, u64 filler, unsigned count, unsigned size) {
    const unsigned bits = 8 * size;
    u128 wide = u128{filler} << bits | value;
    if (size == 2) wide |= u128{value} << 32;
    const u64 result = static_cast<u64>(wide >> count) & low_bytes_mask(size);
    const bool carry = (wide >> (count - 1) & 1) != 0;
    set_shift_flags(core.state->rflags, result, size, carry, top_bit(result, size) != top_bit(value, size));
    return result;
  });
}

bool rorx(Core& core, const Instruction& i) {
  return flagless(core, i, [](u64 value, unsigned count, unsigned size) {
    return rotate_left(value, 8 * size - count, size);
  });
}
bool sarx(Core& core, const Instruction& i) {
  return flagless(core, i, shift_right_signed);
}
bool shlx(Core& core, const Instruction& i) {
  return flagless(core, i, [](u64 value, unsigned count, unsigned) { return value << count; });
}
bool shrx(Core& core, const Instruction& i) {
  return flagless(core, i, [](u64 value, unsigned count, unsigned) { return value >> count; });
}

}  // namespace nacre::interp::handlers
