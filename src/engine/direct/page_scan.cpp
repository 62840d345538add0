#include "engine/direct/page_scan.hpp"

#include <cstring>

namespace nacre::direct {

namespace {

// After 0F 01.
bool refused_group7(u8 modrm, bool umip) {
  if (modrm == 0xd0 || modrm == 0xee || modrm == 0xef) return true;  // XGETBV, RDPKRU, WRPKRU
  if (umip) return false;
  if (modrm >= 0xc0) return (modrm & 0x38) == 0x20;
  const unsigned reg = (modrm >> 3) & 7;
  return reg == 0 || reg == 1 || reg == 4;  // SGDT, SIDT, SMSW
}

}  // namespace

bool holds_refused(std::span<const u8> bytes, bool umip) {
  const u8* at = bytes.data();
  const u8* const end = at + bytes.size();
  while (at + 1 < end) {
    at = static_cast<const u8*>(std::memchr(at, 0x0f, static_cast<usize>(end - at)));
    if (at == nullptr || at + 1 >= end) return false;
    const u8 opcode = at[1];
    if (opcode == 0xa2 || opcode == 0x34) return true;  // CPUID, SYSENTER
    if (at + 2 < end) {
      if (opcode == 0x01 && refused_group7(at[2], umip)) return true;
      if (opcode == 0xc7 && at[2] >= 0xf8) return true;  // RDPID (and RDSEED: the prefix may be anywhere)
    }
    at++;
  }
  return false;
}

}  // namespace nacre::direct
