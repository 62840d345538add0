// A small x86-64 assembler: writes host instructions into a buffer that will run at another address
// (the executable view of the same memory). It knows only the forms that the translator needs.
// SDM vol. 2, chapter 2.
#pragma once

#include <initializer_list>
#include <vector>

#include "base/check.hpp"
#include "base/types.hpp"
#include "engine/soft/context.hpp"
#include "x86/instruction.hpp"
#include "x86/registers.hpp"

namespace nacre::soft {

using x86::Gpr;

// A host memory operand. `offset` in the named constructors is from the start of Context, which host RSP
// points into.
struct HostMemory {
  u8 base = x86::kNoRegister;
  u8 index = x86::kNoRegister;
  u8 scale = 0;
  i32 displacement = 0;

  static constexpr HostMemory context(usize offset) {
    return {x86::RSP, x86::kNoRegister, 0, static_cast<i32>(offset) - static_cast<i32>(kContextBase)};
  }
  static constexpr HostMemory context_indexed(usize offset, Gpr index, u8 scale) {
    return {x86::RSP, index, scale, static_cast<i32>(offset) - static_cast<i32>(kContextBase)};
  }
  static constexpr HostMemory sum(Gpr base, Gpr index) { return {base, index, 0, 0}; }
  static constexpr HostMemory at(Gpr base, i32 displacement = 0) {
    return {base, x86::kNoRegister, 0, displacement};
  }
};

// A field of code that is another one where the same code stands elsewhere, or is made for another linear address.
struct Fixup {
  enum class Kind : u8 {
    Stub,        // rel32 to a routine of the code cache
    Cell,        // rel32 to one of the block's link cells
    ExitNumber,  // imm32
    Linear,      // imm64: a guest address that moves with the block's
  };
  u16 at = 0;  // offset in the block
  Kind kind = Kind::Stub;
  constexpr bool operator==(const Fixup&) const = default;
};

class Emitter {
 public:
  // Writes to `to`, for code that will run at `runs_at`. Overflow is sticky: check overflowed() at the end. `fixups`:
  // where they are added; null: nobody wants them.
  Emitter(u8* to, u64 runs_at, usize capacity, std::vector<Fixup>* fixups = nullptr)
      : start_(to), at_(to), end_(to + capacity), runs_at_(runs_at), fixups_(fixups) {}

  [[nodiscard]] usize size() const { return static_cast<usize>(at_ - start_); }
  [[nodiscard]] u64 here() const { return runs_at_ + size(); }
  [[nodiscard]] u64 runs_at() const { return runs_at_; }
  [[nodiscard]] bool overflowed() const { return overflowed_; }

  void byte(u8 value) {
    if (at_ == end_) {
      overflowed_ = true;
      return;
    }
    *at_++ = value;
  }
  void bytes(std::initializer_list<u8> values) {
    for (const u8 value : values) byte(value);
  }
  void word32(u32 value) {
    for (unsigned i = 0; i < 4; i++) byte(static_cast<u8>(value >> (8 * i)));
  }
  void word64(u64 value) {
    for (unsigned i = 0; i < 8; i++) byte(static_cast<u8>(value >> (8 * i)));
  }

  // ModRM, SIB and displacement for a register field and a memory operand. No prefixes.
  // EVEX scales an 8-bit displacement (SDM vol. 2, 2.7.5), so such an instruction takes the 32-bit one.
  enum class ShortDisplacement : u8 { Allowed, Avoided };
  void modrm_memory(u8 reg, const HostMemory& memory,
                    ShortDisplacement short_displacement = ShortDisplacement::Allowed);
  void modrm_register(u8 reg, u8 rm) { byte(static_cast<u8>(0xc0 | ((reg & 7) << 3) | (rm & 7))); }
  // One-byte-opcode instruction with a 64-bit (or 32-bit) operand.
  void op_memory(u8 opcode, u8 reg, const HostMemory& memory, bool wide = true);
  void op_register(u8 opcode, u8 reg, u8 rm, bool wide = true);

  void mov(Gpr to, Gpr from) { op_register(0x89, from, to); }
  void load(Gpr to, const HostMemory& from) { op_memory(0x8b, to, from); }
  void store(const HostMemory& to, Gpr from) { op_memory(0x89, from, to); }
  void store_imm32(const HostMemory& to, i32 value);
  void store_dword_imm(const HostMemory& to, u32 value);
  void mov_imm(Gpr to, u64 value);  // shortest form
  void mov_linear(Gpr to, u64 value);  // the same of a guest address that moves with the block
  void lea(Gpr to, const HostMemory& from) { op_memory(0x8d, to, from); }
  void lea32(Gpr to, const HostMemory& from) { op_memory(0x8d, to, from, false); }
  void add(Gpr to, const HostMemory& from) { op_memory(0x03, to, from); }
  void sub(Gpr to, const HostMemory& from) { op_memory(0x2b, to, from); }
  void not_(Gpr reg) { op_register(0xf7, 2, reg); }
  void and32_imm(Gpr to, u32 mask);
  void cmp_imm(Gpr reg, i32 value);
  void cmp(Gpr a, Gpr b) { op_register(0x39, b, a); }
  void cmp_dword_imm8(const HostMemory& memory, i8 value);
  void rorx(Gpr to, Gpr from, u8 count);
  void movzx8(Gpr to, const HostMemory& from);  // 32-bit result
  void load_word(Gpr to, const HostMemory& from);  // 16 bits, the rest of the register cleared
  void movzx16(Gpr to, Gpr from);
  void pdep(Gpr to, Gpr from, const HostMemory& mask);
  void pext(Gpr to, Gpr from, const HostMemory& mask);

  // Jumps. rel32 forms return the offset in the buffer of their displacement, for patch().
  usize jmp();
  usize jcc(u8 condition);
  usize call();
  void jmp_to(u64 target);
  void call_to(u64 target);
  void jcc_to(u8 condition, u64 target);
  void jmp_memory(const HostMemory& memory) { branch_memory(4, memory); }
  void call_memory(const HostMemory& memory) { branch_memory(2, memory); }
  void jmp_rip(u64 cell) { branch_rip(4, cell); }  // jmp qword [rip + x]
  void call_rip(u64 cell) { branch_rip(2, cell); }
  usize jrcxz();  // rel8; returns the offset of its displacement
  void ret() { byte(0xc3); }

  void repeat(usize from, usize to);  // what stands at these offsets, again

  // What was emitted depends on the linear address in a way that no fixup describes.
  void tie() { tied_ = true; }
  [[nodiscard]] bool tied() const { return tied_; }
  // The last bytes are such a field.
  void fix_last(usize bytes, Fixup::Kind kind) {
    if (fixups_ != nullptr) fixups_->push_back({static_cast<u16>(size() - bytes), kind});
  }

  void patch32(usize displacement_at, usize target_offset);
  void patch8(usize displacement_at, usize target_offset);

 private:
  void branch_memory(u8 extension, const HostMemory& memory);
  void branch_rip(u8 extension, u64 cell);
  void rex(bool w, u8 reg, const HostMemory& memory);
  void vex3(u8 map, u8 pp, bool w, u8 reg, u8 vvvv, const HostMemory* memory, u8 rm);
  static bool high(u8 reg) { return reg != x86::kNoRegister && (reg & 8) != 0; }

  u8* start_;
  u8* at_;
  u8* end_;
  u64 runs_at_;
  bool overflowed_ = false;
  bool tied_ = false;
  std::vector<Fixup>* fixups_;
};

constexpr bool fits_i32(i64 value) {
  return value == static_cast<i32>(value);
}
constexpr bool fits_i32(u64 value) {
  return fits_i32(static_cast<i64>(value));
}

}  // namespace nacre::soft
