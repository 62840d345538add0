#include "board/pci_host.hpp"

#include "base/bits.hpp"
#include "base/check.hpp"

namespace nacre::board {
namespace {

constexpr u32 kEnable = u32{1} << 31;

// The host bridge's registers that are not zero, all read-only. The identity is one that other virtual
// machine monitors use for a bridge with nothing behind it to configure; drivers leave it alone.
u32 bridge_register(u16 offset) {
  switch (offset) {
    case 0x00:
      return 0x0d57'8086;  // device, vendor
    case 0x04:
      return 0x0000'0006;  // status; command: memory, bus master
    case 0x08:
      return 0x0600'0000;  // class: bridge, host; revision
    default:
      return 0;
  }
}

// The size of the parts that reach a function.
unsigned piece_of(u64 offset, unsigned size) {
  if ((offset & 3) + size <= 4) return size;
  return (offset & 3) == 0 ? 4 : 1;
}

}  // namespace

u32 PciHost::Bridge::config_read(u16 offset, unsigned size) {
  return bridge_register(offset & 0xffc) >> (8 * (offset & 3)) & static_cast<u32>(low_bytes_mask(size));
}

void PciHost::Bridge::config_write(u16, unsigned, u32) {}

PciHost::PciHost() {
  functions_[0] = &bridge_;
}

void PciHost::attach(unsigned device, unsigned function, PciFunction& target) {
  NACRE_CHECK(device < 32 && function < 8 && functions_[device << 3 | function] == nullptr);
  NACRE_CHECK(attached_count_ < kMaxFunctions);
  functions_[device << 3 | function] = &target;
  attached_[attached_count_++] = &target;
}

u8 PciHost::last_bus() const {
  constexpr u8 kWithPorts = 15;
  for (unsigned i = 0; i < attached_count_; ++i) {
    if (attached_[i]->leads_on()) return kWithPorts;
  }
  return 0;
}

// Of two bridges that claim one bus, the first has it.
PciFunction* PciHost::find(u32 bdf) const {
  if (bdf < 256) return functions_[bdf];
  for (unsigned i = 0; i < attached_count_; ++i) {
    if (PciFunction* function = attached_[i]->behind(bdf)) return function;
  }
  return nullptr;
}

void PciHost::reset() {
  address_ = 0;
  u64 next = kPciWindowBase;
  for (unsigned i = 0; i < attached_count_; ++i) attached_[i]->reset(next);
  NACRE_CHECK(next <= kEcamBase);
}

bool PciHost::ring(GuestPhysical address) const {
  if (address.value() < kPciWindowBase || address.value() >= kIoApicBase) return false;
  for (unsigned i = 0; i < attached_count_; ++i) {
    if (attached_[i]->ring(address)) return true;
  }
  return false;
}

u64 PciHost::Memory::read(u64 offset, unsigned size) {
  u64 value = 0;
  for (unsigned i = 0; i < host_.attached_count_; ++i) {
    if (host_.attached_[i]->memory_read(GuestPhysical(base_ + offset), size, value)) return value;
  }
  return low_bytes_mask(size);
}

void PciHost::Memory::write(u64 offset, unsigned size, u64 value) {
  for (unsigned i = 0; i < host_.attached_count_; ++i) {
    if (host_.attached_[i]->memory_write(GuestPhysical(base_ + offset), size, value)) return;
  }
}

u32 PciHost::read_data(u16 offset, unsigned size) {
  PciFunction* function = (address_ & kEnable) != 0 ? find(address_ >> 8 & 0xffff) : nullptr;
  if (function == nullptr) return ~u32{0};
  return function->config_read(static_cast<u16>((address_ & 0xfc) + offset), size);
}

void PciHost::write_data(u16 offset, unsigned size, u32 value) {
  PciFunction* function = (address_ & kEnable) != 0 ? find(address_ >> 8 & 0xffff) : nullptr;
  if (function != nullptr) function->config_write(static_cast<u16>((address_ & 0xfc) + offset), size, value);
}

// Accesses that cross a doubleword are not promised to work by the specification; here an aligned quadword
// is two doublewords, and anything else its bytes.
u64 PciHost::read(u64 offset, unsigned size) {
  if (const unsigned piece = piece_of(offset, size); piece != size) {
    u64 value = 0;
    for (unsigned i = 0; i < size; i += piece) value |= read(offset + i, piece) << (8 * i);
    return value;
  }
  PciFunction* function = find(static_cast<u32>(offset >> 12));
  return function == nullptr ? low_bytes_mask(size) : function->config_read(offset & 0xfff, size);
}

void PciHost::write(u64 offset, unsigned size, u64 value) {
  if (const unsigned piece = piece_of(offset, size); piece != size) {
    for (unsigned i = 0; i < size; i += piece)
      write(offset + i, piece, value >> (8 * i) & low_bytes_mask(piece));
    return;
  }
  PciFunction* function = find(static_cast<u32>(offset >> 12));
  if (function != nullptr) function->config_write(offset & 0xfff, size, static_cast<u32>(value));
}

}  // namespace nacre::board
