// The opcode tables as the decoder sees them: per map, the rows of an opcode are found by index and told
// apart by a key of the prefixes, ModRM and mode. Freestanding; constant, any thread.
#pragma once

#include "x86/instruction.hpp"

namespace nacre::x86 {

// What distinguishes the rows of one opcode, as bits.
struct Key {
  static constexpr u32 prefix_mask = 3;
  static constexpr u32 reg_mask = 7 << 2;
  static constexpr u32 register_form = 1 << 5;  // ModRM.mod is 3
  static constexpr u32 rm_mask = 7 << 6;
  static constexpr u32 w = 1 << 9;
  static constexpr u32 length_mask = 3 << 10;
  static constexpr u32 mode_64 = 1 << 12;
  static constexpr u32 rex_b = 1 << 13;
  static constexpr u32 wide = 1 << 14;  // vector length above 16 bytes

  static constexpr u32 prefix(MandatoryPrefix p) { return static_cast<u32>(p); }
  static constexpr u32 reg(unsigned value) { return value << 2; }
  static constexpr u32 rm(unsigned value) { return value << 6; }
  static constexpr u32 length(unsigned value) { return value << 10; }
  // reg, rm and register_form of a ModRM byte.
  static constexpr u32 modrm(u8 byte) {
    return reg((byte >> 3) & 7u) | rm(byte & 7u) | (byte >= 0xc0 ? register_form : 0);
  }
};

struct Cell {
  u16 first = 0;  // index into OpcodeMap::match
  u8 count = 0;   // 0: undefined opcode
  bool has_modrm = false;
};

struct Match {
  u32 mask = 0, value = 0;
  u16 info = 0;
};

struct OpcodeMap {
  const Cell* cells = nullptr;  // 256
  const Match* match = nullptr;
  const OpcodeInfo* info = nullptr;
  usize rows = 0;

  [[nodiscard]] const OpcodeInfo* find(Cell cell, u32 key) const {
    for (const Match *m = match + cell.first, *end = m + cell.count; m != end; ++m) {
      if ((key & m->mask) == m->value) return info + m->info;
    }
    return nullptr;
  }
};

extern const OpcodeMap kPrimaryMap;  // without D8..DF
extern const OpcodeMap kX87Map;      // D8..DF
// The 0F maps in legacy encoding: general instructions, and MMX and SSE.
extern const OpcodeMap kGeneral0F, kGeneral0F38;
extern const OpcodeMap kSse0F, kSse0F38, kSse0F3A;
extern const OpcodeMap kVex0F, kVex0F38, kVex0F3A;
extern const OpcodeMap kEvex0F, kEvex0F38, kEvex0F3A;

}  // namespace nacre::x86
