// RFLAGS after arithmetic. SDM vol. 1, 3.4.3.1 and appendix A. Values may have rubbish above `size`
// bytes on entry; results are masked. Freestanding; any thread.
#pragma once

#include "base/bits.hpp"
#include "x86/registers.hpp"

namespace nacre::interp {

using x86::Rflags;

constexpr u64 sign_bit(unsigned size) {
  return u64{1} << (8 * size - 1);
}

// SF, ZF and PF as a result sets them.
constexpr u64 result_flags(u64 result, unsigned size) {
  u64 flags = 0;
  if ((result & low_bytes_mask(size)) == 0) flags |= Rflags::ZF;
  if ((result & sign_bit(size)) != 0) flags |= Rflags::SF;
  if (__builtin_parity(static_cast<unsigned>(result & 0xff)) == 0) flags |= Rflags::PF;
  return flags;
}

constexpr void replace_flags(u64& rflags, u64 mask, u64 values) {
  rflags = (rflags & ~mask) | (values & mask);
}

constexpr u64 add_with_flags(u64& rflags, u64 a, u64 b, bool carry, unsigned size) {
  const u64 mask = low_bytes_mask(size);
  a &= mask;
  b &= mask;
  const u64 result = (a + b + (carry ? 1 : 0)) & mask;
  u64 flags = result_flags(result, size);
  if (result < a || (carry && result == a)) flags |= Rflags::CF;
  if (((a ^ b ^ result) & 0x10) != 0) flags |= Rflags::AF;
  if (((a ^ result) & (b ^ result) & sign_bit(size)) != 0) flags |= Rflags::OF;
  replace_flags(rflags, Rflags::arithmetic, flags);
  return result;
}

constexpr u64 subtract_with_flags(u64& rflags, u64 a, u64 b, bool borrow, unsigned size) {
  const u64 mask = low_bytes_mask(size);
  a &= mask;
  b &= mask;
  const u64 result = (a - b - (borrow ? 1 : 0)) & mask;
  u64 flags = result_flags(result, size);
  if (a < b || (borrow && a == b)) flags |= Rflags::CF;
  if (((a ^ b ^ result) & 0x10) != 0) flags |= Rflags::AF;
  if (((a ^ b) & (a ^ result) & sign_bit(size)) != 0) flags |= Rflags::OF;
  replace_flags(rflags, Rflags::arithmetic, flags);
  return result;
}

// And, or, xor, test. AF is undefined; processors clear it.
constexpr u64 logic_with_flags(u64& rflags, u64 result, unsigned size) {
  replace_flags(rflags, Rflags::arithmetic, result_flags(result, size));
  return result & low_bytes_mask(size);
}

// The condition in the low four bits of jcc, setcc and cmovcc. SDM vol. 1, appendix B.
constexpr bool condition_holds(u64 rflags, unsigned condition) {
  const bool cf = (rflags & Rflags::CF) != 0, zf = (rflags & Rflags::ZF) != 0,
             sf = (rflags & Rflags::SF) != 0, of = (rflags & Rflags::OF) != 0,
             pf = (rflags & Rflags::PF) != 0;
  bool holds = false;
  switch (condition >> 1 & 7) {
    case 0:
      holds = of;
      break;
    case 1:
      holds = cf;
      break;
    case 2:
      holds = zf;
      break;
    case 3:
      holds = cf || zf;
      break;
    case 4:
      holds = sf;
      break;
    case 5:
      holds = pf;
      break;
    case 6:
      holds = sf != of;
      break;
    default:
      holds = zf || sf != of;
      break;
  }
  return holds != ((condition & 1) != 0);
}

}  // namespace nacre::interp
