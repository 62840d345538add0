#include "interp/vector_registers.hpp"

namespace nacre::interp {

using cpu::XsaveLayout;

u8* VectorRegisters::at(unsigned number, unsigned byte) const {
  if (number >= 32 || byte >= 64) return nullptr;
  const auto has = [this](unsigned component) { return (layout_.components >> component & 1) != 0; };
  if (number >= 16) {
    if (!has(XsaveLayout::kHi16Zmm)) return nullptr;
    return xsave_ + layout_.offset[XsaveLayout::kHi16Zmm] + 64 * (number - 16) + byte;
  }
  if (byte < 16) return xsave_ + XsaveLayout::kXmm + 16 * number + byte;
  if (byte < 32) {
    if (!has(XsaveLayout::kYmmHigh)) return nullptr;
    return xsave_ + layout_.offset[XsaveLayout::kYmmHigh] + 16 * number + (byte - 16);
  }
  if (!has(XsaveLayout::kZmmHigh)) return nullptr;
  return xsave_ + layout_.offset[XsaveLayout::kZmmHigh] + 32 * number + (byte - 32);
}

u8 VectorRegisters::byte(unsigned number, unsigned byte) const {
  const u8* where = at(number, byte);
  return where == nullptr ? u8{0} : *where;
}

void VectorRegisters::set_byte(unsigned number, unsigned byte, u8 value) {
  if (u8* where = at(number, byte)) *where = value;
}

u64 VectorRegisters::element(unsigned number, unsigned index, unsigned bytes) const {
  u64 value = 0;
  for (unsigned i = 0; i < bytes; ++i) value |= u64{byte(number, index * bytes + i)} << (8 * i);
  return value;
}

void VectorRegisters::set_element(unsigned number, unsigned index, unsigned bytes, u64 value) {
  for (unsigned i = 0; i < bytes; ++i) set_byte(number, index * bytes + i, static_cast<u8>(value >> (8 * i)));
}

void VectorRegisters::clear_from(unsigned number, unsigned first) {
  for (unsigned i = first; i < 64; ++i) set_byte(number, i, 0);
}

u64 VectorRegisters::mask(unsigned number) const {
  if ((layout_.components >> XsaveLayout::kOpmask & 1) == 0 || number >= 8) return 0;
  u64 value = 0;
  __builtin_memcpy(&value, xsave_ + layout_.offset[XsaveLayout::kOpmask] + 8 * number, sizeof value);
  return value;
}

void VectorRegisters::set_mask(unsigned number, u64 value) {
  if ((layout_.components >> XsaveLayout::kOpmask & 1) == 0 || number >= 8) return;
  __builtin_memcpy(xsave_ + layout_.offset[XsaveLayout::kOpmask] + 8 * number, &value, sizeof value);
}

void VectorRegisters::mark_in_use() {
  u64 bv = 0;
  __builtin_memcpy(&bv, xsave_ + XsaveLayout::kXstateBv, sizeof bv);
  bv |= layout_.components & ~u64{cpu::Xcr0::PKRU | cpu::Xcr0::x87};
  __builtin_memcpy(xsave_ + XsaveLayout::kXstateBv, &bv, sizeof bv);
}

}  // namespace nacre::interp
