// Bit tests, bit counts, CRC32, BMI. SDM vol. 2.
#include "interp/flags.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

// bt and its kin. A register bit offset reaches beyond a memory operand, in both directions.
template <typename Change>
bool bit_test(Core& core, const Instruction& i, bool writes, Change change) {
  u64 offset = 0;
  if (!read_operand(core, i, 1, offset)) return false;
  const unsigned size = operand_size(i, 0);
  const unsigned bits = 8 * size;
  const u64 selected = u64{1} << (offset & (bits - 1));
  const auto apply = [&](u64 value) {
    core.set_flag(Rflags::CF, (value & selected) != 0);
    return change(value, selected);
  };
  if (!is_memory_operand(i, 0)) {
    const u64 value = core.gpr(i.rm, size);
    const u64 result = apply(value);
    if (writes) core.set_gpr(i.rm, size, result);
    return true;
  }
  u64 address = core.effective_address(i);
  if (i.info->operands[1].kind != x86::OperandKind::Immediate) {
    const auto distance = static_cast<i64>(sign_extend(offset, bits)) >> (size == 8 ? 6 : size == 4 ? 5 : 4);
    address = (address + static_cast<u64>(distance) * size) & low_bytes_mask(i.address_size);
  }
  if (writes) return core.modify(i.effective_segment(), address, size, i.lock, apply);
  u64 value = 0;
  if (!core.load(i.effective_segment(), address, size, value)) return false;
  apply(value);
  return true;
}

// One source, one destination.
template <typename Compute>
bool unary(Core& core, const Instruction& i, Compute compute) {
  u64 source = 0;
  if (!read_operand(core, i, 1, source)) return false;
  return write_operand(core, i, 0, compute(source, operand_size(i, 0)));
}

unsigned count_trailing(u64 value, unsigned size) {
  return value == 0 ? 8 * size : static_cast<unsigned>(__builtin_ctzll(value));
}
unsigned count_leading(u64 value, unsigned size) {
  return value == 0 ? 8 * size : static_cast<unsigned>(__builtin_clzll(value)) - (64 - 8 * size);
}

// tzcnt and lzcnt: CF for no bit set, ZF for a result of zero; the rest is undefined.
u64 finish_count(Core& core, u64 source, u64 count) {
  core.set_flag(Rflags::CF, source == 0);
  core.set_flag(Rflags::ZF, count == 0);
  return count;
}

// bsf and bsr leave the destination alone when no bit is set, as processors do.
template <typename Scan>
bool bit_scan(Core& core, const Instruction& i, Scan scan) {
  u64 source = 0;
  if (!read_operand(core, i, 1, source)) return false;
  core.set_flag(Rflags::ZF, source == 0);
  if (source == 0) return true;
  return write_operand(core, i, 0, scan(source));
}

// CRC-32C, least significant bit first.
u32 crc32c(u32 crc, u64 data, unsigned bytes) {
  for (unsigned n = 0; n < bytes; ++n) {
    crc ^= static_cast<u32>(data >> (8 * n) & 0xff);
    for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ ((crc & 1) != 0 ? 0x82f63b78u : 0);
  }
  return crc;
}

u64 deposit(u64 source, u64 mask) {
  u64 result = 0;
  for (; mask != 0; mask &= mask - 1, source >>= 1) {
    if ((source & 1) != 0) result |= mask & -mask;
  }
  return result;
}

u64 gather_bits(u64 source, u64 mask) {
  u64 result = 0;
  for (unsigned n = 0; mask != 0; mask &= mask - 1, ++n) {
    if ((source & mask & -mask) != 0) result |= u64{1} << n;
  }
  return result;
}

// BMI1 results: SF and ZF from the result, OF clear, CF as given.
u64 bmi_result(Core& core, u64 result, unsigned size, bool carry) {
  const u64 cut = logic_with_flags(core.state->rflags, result, size);
  core.set_flag(Rflags::CF, carry);
  return cut;
}

}  // namespace

bool bt(Core& core, const Instruction& i) {
  return bit_test(core, i, false, [](u64 value, u64) { return value; });
}
bool bts(Core& core, const Instruction& i) {
  return bit_test(core, i, true, [](u64 value, u64 bit) { return value | bit; });
}
bool btr(Core& core, const Instruction& i) {
  return bit_test(core, i, true, [](u64 value, u64 bit) { return value & ~bit; });
}
bool btc(Core& core, const Instruction& i) {
  return bit_test(core, i, true, [](u64 value, u64 bit) { return value ^ bit; });
}

bool bsf(Core& core, const Instruction& i) {
  return bit_scan(core, i, [](u64 value) { return static_cast<u64>(__builtin_ctzll(value)); });
}
bool bsr(Core& core, const Instruction& i) {
  return bit_scan(core, i, [](u64 value) { return static_cast<u64>(63 - __builtin_clzll(value)); });
}

bool tzcnt(Core& core, const Instruction& i) {
  return unary(core, i, [&](u64 value, unsigned size) {
    return finish_count(core, value, count_trailing(value, size));
  });
}
bool lzcnt(Core& core, const Instruction& i) {
  return unary(core, i, [&](u64 value, unsigned size) {
    return finish_count(core, value, count_leading(value, size));
  });
}

bool popcnt(Core& core, const Instruction& i) {
  return unary(core, i, [&](u64 value, unsigned) {
    u64 count = 0;
    for (u64 rest = value; rest != 0; rest &= rest - 1) ++count;
    replace_flags(core.state->rflags, Rflags::arithmetic, value == 0 ? Rflags::ZF : 0);
    return count;
  });
}

bool crc32(Core& core, const Instruction& i) {
  u64 data = 0;
  if (!read_operand(core, i, 1, data)) return false;
  const auto crc = static_cast<u32>(core.state->gpr[i.reg & 15]);
  return write_operand(core, i, 0, crc32c(crc, data, operand_size(i, 1)));
}

bool andn(Core& core, const Instruction& i) {
  u64 a = 0, b = 0;
  if (!read_operand(core, i, 1, a) || !read_operand(core, i, 2, b)) return false;
  return write_operand(core, i, 0, bmi_result(core, ~a & b, operand_size(i, 0), false));
}

bool bextr(Core& core, const Instruction& i) {
  u64 value = 0, control = 0;
  if (!read_operand(core, i, 1, value) || !read_operand(core, i, 2, control)) return false;
  const u64 start = control & 0xff, length = control >> 8 & 0xff;
  u64 result = start < 64 ? value >> start : 0;
  if (length < 64) result &= (u64{1} << length) - 1;
  return write_operand(core, i, 0, bmi_result(core, result, operand_size(i, 0), false));
}

bool blsi(Core& core, const Instruction& i) {
  return unary(core, i,
               [&](u64 value, unsigned size) { return bmi_result(core, value & -value, size, value != 0); });
}
bool blsmsk(Core& core, const Instruction& i) {
  return unary(core, i, [&](u64 value, unsigned size) {
    return bmi_result(core, value ^ (value - 1), size, value == 0);
  });
}
bool blsr(Core& core, const Instruction& i) {
  return unary(core, i, [&](u64 value, unsigned size) {
    return bmi_result(core, value & (value - 1), size, value == 0);
  });
}

bool bzhi(Core& core, const Instruction& i) {
  u64 value = 0, index = 0;
  if (!read_operand(core, i, 1, value) || !read_operand(core, i, 2, index)) return false;
  const unsigned size = operand_size(i, 0);
  const u64 keep = index & 0xff;
  const bool beyond = keep >= 8 * size;
  if (!beyond) value &= (u64{1} << keep) - 1;
  return write_operand(core, i, 0, bmi_result(core, value, size, beyond));
}

bool pdep(Core& core, const Instruction& i) {
  u64 source = 0, mask = 0;
  if (!read_operand(core, i, 1, source) || !read_operand(core, i, 2, mask)) return false;
  return write_operand(core, i, 0, deposit(source, mask));
}
bool pext(Core& core, const Instruction& i) {
  u64 source = 0, mask = 0;
  if (!read_operand(core, i, 1, source) || !read_operand(core, i, 2, mask)) return false;
  return write_operand(core, i, 0, gather_bits(source, mask));
}

}  // namespace nacre::interp::handlers
