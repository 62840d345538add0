// Vector and mask registers as they lie in State::xsave, for the few instructions that are carried out
// element by element. Freestanding; owned by the vCPU's thread.
#pragma once

#include "cpu/state.hpp"
#include "cpu/xsave_layout.hpp"

namespace nacre::interp {

class VectorRegisters {
 public:
  VectorRegisters(cpu::State& state, const cpu::XsaveLayout& layout) : xsave_(state.xsave), layout_(layout) {}

  // Byte `byte` (0..63) of vector register `number` (0..31); zero where this host has no such part.
  [[nodiscard]] u8 byte(unsigned number, unsigned byte) const;
  void set_byte(unsigned number, unsigned byte, u8 value);
  // A little-endian element of 4 or 8 bytes, `index` elements from the register's low end.
  [[nodiscard]] u64 element(unsigned number, unsigned index, unsigned bytes) const;
  void set_element(unsigned number, unsigned index, unsigned bytes, u64 value);
  // Zeroes the register's bytes from `first` up.
  void clear_from(unsigned number, unsigned first);

  [[nodiscard]] u64 mask(unsigned number) const;
  void set_mask(unsigned number, u64 value);

  // Notes that everything that was changed is no longer in its initial configuration.
  void mark_in_use();

 private:
  // Where byte `byte` of register `number` lies, or null.
  [[nodiscard]] u8* at(unsigned number, unsigned byte) const;

  u8* xsave_;
  const cpu::XsaveLayout& layout_;
};

}  // namespace nacre::interp
