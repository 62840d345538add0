#include "engine/soft/emitter.hpp"

namespace nacre::soft {

using x86::kNoRegister;

void Emitter::modrm_memory(u8 reg, const HostMemory& memory, ShortDisplacement short_displacement) {
  const u8 reg_field = static_cast<u8>((reg & 7) << 3);
  if (memory.base == kNoRegister) {
    // No base: SIB with base 101b and mod 00 is [index * scale + disp32].
    byte(reg_field | 4);
    const u8 index = memory.index == kNoRegister ? 4 : memory.index & 7;
    byte(static_cast<u8>((memory.scale << 6) | (index << 3) | 5));
    word32(static_cast<u32>(memory.displacement));
    return;
  }
  // rBP and R13 as a base have no form without displacement.
  const bool zero = memory.displacement == 0 && (memory.base & 7) != 5;
  const bool fits = memory.displacement >= -128 && memory.displacement <= 127;
  const bool small = fits && short_displacement == ShortDisplacement::Allowed;
  const u8 mod = zero ? 0x00 : small ? 0x40 : 0x80;
  if (memory.index != kNoRegister || (memory.base & 7) == 4) {
    byte(mod | reg_field | 4);
    const u8 index = memory.index == kNoRegister ? 4 : memory.index & 7;
    byte(static_cast<u8>((memory.scale << 6) | (index << 3) | (memory.base & 7)));
  } else {
    byte(mod | reg_field | (memory.base & 7));
  }
  if (mod == 0x40) byte(static_cast<u8>(memory.displacement));
  if (mod == 0x80) word32(static_cast<u32>(memory.displacement));
}

void Emitter::rex(bool w, u8 reg, const HostMemory& memory) {
  const u8 value = static_cast<u8>(0x40 | (w ? 8 : 0) | (high(reg) ? 4 : 0) | (high(memory.index) ? 2 : 0) |
                                   (high(memory.base) ? 1 : 0));
  if (value != 0x40) byte(value);
}

void Emitter::op_memory(u8 opcode, u8 reg, const HostMemory& memory, bool wide) {
  rex(wide, reg, memory);
  byte(opcode);
  modrm_memory(reg, memory);
}

void Emitter::op_register(u8 opcode, u8 reg, u8 rm, bool wide) {
  const u8 value = static_cast<u8>(0x40 | (wide ? 8 : 0) | (high(reg) ? 4 : 0) | (high(rm) ? 1 : 0));
  if (value != 0x40) byte(value);
  byte(opcode);
  modrm_register(reg, rm);
}

void Emitter::store_imm32(const HostMemory& to, i32 value) {
  op_memory(0xc7, 0, to);
  word32(static_cast<u32>(value));
}

void Emitter::store_dword_imm(const HostMemory& to, u32 value) {
  op_memory(0xc7, 0, to, false);
  word32(value);
}

void Emitter::mov_imm(Gpr to, u64 value) {
  if (value <= 0xffff'ffff) {
    if (high(to)) byte(0x41);
    byte(static_cast<u8>(0xb8 | (to & 7)));
    word32(static_cast<u32>(value));
  } else if (fits_i32(value)) {
    op_register(0xc7, 0, to);
    word32(static_cast<u32>(value));
  } else {
    byte(high(to) ? 0x49 : 0x48);
    byte(static_cast<u8>(0xb8 | (to & 7)));
    word64(value);
  }
}

void Emitter::mov_linear(Gpr to, u64 value) {
  mov_imm(to, value);
  if (value <= 0xffff'ffff || fits_i32(value)) {
    tie();
  } else {
    fix_last(8, Fixup::Kind::Linear);
  }
}

void Emitter::and32_imm(Gpr to, u32 mask) {
  op_register(0x81, 4, to, false);
  word32(mask);
}

void Emitter::cmp_imm(Gpr reg, i32 value) {
  op_register(0x81, 7, reg);
  word32(static_cast<u32>(value));
}

void Emitter::cmp_dword_imm8(const HostMemory& memory, i8 value) {
  op_memory(0x83, 7, memory, false);
  byte(static_cast<u8>(value));
}

void Emitter::vex3(u8 map, u8 pp, bool w, u8 reg, u8 vvvv, const HostMemory* memory, u8 rm) {
  const bool x = memory != nullptr && high(memory->index);
  const bool b = memory != nullptr ? high(memory->base) : high(rm);
  byte(0xc4);
  byte(static_cast<u8>((high(reg) ? 0 : 0x80) | (x ? 0 : 0x40) | (b ? 0 : 0x20) | map));
  byte(static_cast<u8>((w ? 0x80 : 0) | ((~vvvv & 15) << 3) | pp));
}

void Emitter::rorx(Gpr to, Gpr from, u8 count) {
  vex3(3, 3, true, to, 0, nullptr, from);
  byte(0xf0);
  modrm_register(to, from);
  byte(count);
}

void Emitter::movzx8(Gpr to, const HostMemory& from) {
  rex(false, to, from);
  bytes({0x0f, 0xb6});
  modrm_memory(to, from);
}

void Emitter::load_word(Gpr to, const HostMemory& from) {
  rex(false, to, from);
  bytes({0x0f, 0xb7});
  modrm_memory(to, from);
}

void Emitter::movzx16(Gpr to, Gpr from) {
  const u8 value = static_cast<u8>(0x40 | (high(to) ? 4 : 0) | (high(from) ? 1 : 0));
  if (value != 0x40) byte(value);
  bytes({0x0f, 0xb7});
  modrm_register(to, from);
}

void Emitter::pdep(Gpr to, Gpr from, const HostMemory& mask) {
  vex3(2, 3, true, to, from, &mask, 0);
  byte(0xf5);
  modrm_memory(to, mask);
}

void Emitter::pext(Gpr to, Gpr from, const HostMemory& mask) {
  vex3(2, 2, true, to, from, &mask, 0);
  byte(0xf5);
  modrm_memory(to, mask);
}

usize Emitter::jmp() {
  byte(0xe9);
  word32(0);
  return size() - 4;
}
usize Emitter::jcc(u8 condition) {
  bytes({0x0f, static_cast<u8>(0x80 | condition)});
  word32(0);
  return size() - 4;
}
usize Emitter::call() {
  byte(0xe8);
  word32(0);
  return size() - 4;
}
usize Emitter::jrcxz() {
  bytes({0xe3, 0});
  return size() - 1;
}
void Emitter::jmp_to(u64 target) {
  byte(0xe9);
  word32(static_cast<u32>(target - (here() + 4)));
  fix_last(4, Fixup::Kind::Stub);
}
void Emitter::call_to(u64 target) {
  byte(0xe8);
  word32(static_cast<u32>(target - (here() + 4)));
  fix_last(4, Fixup::Kind::Stub);
}
void Emitter::jcc_to(u8 condition, u64 target) {
  bytes({0x0f, static_cast<u8>(0x80 | condition)});
  word32(static_cast<u32>(target - (here() + 4)));
  fix_last(4, Fixup::Kind::Stub);
}

void Emitter::branch_memory(u8 extension, const HostMemory& memory) {
  rex(false, 0, memory);
  byte(0xff);
  modrm_memory(extension, memory);
}
void Emitter::branch_rip(u8 extension, u64 cell) {
  byte(0xff);
  byte(static_cast<u8>((extension << 3) | 5));
  word32(static_cast<u32>(cell - (here() + 4)));
  fix_last(4, Fixup::Kind::Cell);
}

void Emitter::repeat(usize from, usize to) {
  const usize moved = size() - from;
  for (usize i = 0, count = fixups_ == nullptr ? 0 : fixups_->size(); i < count; i++) {
    const Fixup fixup = (*fixups_)[i];
    if (fixup.at >= from && fixup.at < to) fixups_->push_back({static_cast<u16>(fixup.at + moved), fixup.kind});
  }
  for (usize i = from; i < to; i++) byte(start_[i]);
}

void Emitter::patch32(usize displacement_at, usize target_offset) {
  if (overflowed_) return;
  const u32 value = static_cast<u32>(target_offset - (displacement_at + 4));
  for (unsigned i = 0; i < 4; i++) start_[displacement_at + i] = static_cast<u8>(value >> (8 * i));
}
void Emitter::patch8(usize displacement_at, usize target_offset) {
  if (overflowed_) return;
  const i64 distance = static_cast<i64>(target_offset) - static_cast<i64>(displacement_at + 1);
  NACRE_CHECK(distance >= -128 && distance <= 127);
  start_[displacement_at] = static_cast<u8>(distance);
}

}  // namespace nacre::soft
