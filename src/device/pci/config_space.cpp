#include "device/pci/config_space.hpp"

#include "base/check.hpp"
#include "base/copy.hpp"

namespace nacre::device::pci {

void ConfigSpace::set_header(u16 vendor, u16 device, u32 class_revision) {
  set(Offset::vendor, 2, vendor);
  set(Offset::device, 2, device);
  set(Offset::command, 2, 0, Command::kWritable);
  set(Offset::status, 2, StatusBit::capabilities_list);
  set(Offset::revision, 4, class_revision);
  set(Offset::cache_line_size, 1, 0, 0xff);
  set(Offset::interrupt_line, 1, 0, 0xff);
}

u16 ConfigSpace::add_express(u16 flags) {
  const u16 at = add_capability(CapabilityId::express, kExpressBytes);
  set(static_cast<u16>(at + ExpressOffset::flags), 2, flags);
  set(static_cast<u16>(at + ExpressOffset::device_capabilities), 4, kExpressRoleBasedErrors);
  // Accepted, without effect.
  set(static_cast<u16>(at + ExpressOffset::device_control), 2, 0, kDeviceControlWritable);
  return at;
}

u16 ConfigSpace::add_capability(u8 id, u8 bytes) {
  const u16 at = next_capability_;
  NACRE_CHECK(at + bytes <= kBytes);
  set(last_link_, 1, at);
  set(at, 1, id);
  last_link_ = static_cast<u16>(at + 1);
  next_capability_ = static_cast<u16>((at + bytes + 3) & ~3);
  return at;
}

void ConfigSpace::set(u16 offset, unsigned size, u32 value, u32 writable) {
  NACRE_CHECK(offset + size <= kBytes);
  for (unsigned i = 0; i < size; ++i) {
    bytes_[offset + i] = initial_[offset + i] = static_cast<u8>(value >> (8 * i));
    writable_[offset + i] = static_cast<u8>(writable >> (8 * i));
  }
}

u32 ConfigSpace::read(u16 offset, unsigned size) const {
  u32 value = 0;
  for (unsigned i = 0; i < size && offset + i < kBytes; ++i) value |= u32{bytes_[offset + i]} << (8 * i);
  return value;
}

void ConfigSpace::write(u16 offset, unsigned size, u32 value) {
  for (unsigned i = 0; i < size && offset + i < kBytes; ++i) {
    u8& byte = bytes_[offset + i];
    const u8 writable = writable_[offset + i];
    byte = static_cast<u8>((byte & ~writable) | (value >> (8 * i) & writable));
  }
}

void ConfigSpace::put(u16 offset, unsigned size, u32 value) {
  for (unsigned i = 0; i < size && offset + i < kBytes; ++i)
    bytes_[offset + i] = static_cast<u8>(value >> (8 * i));
}

void ConfigSpace::reset() {
  copy_bytes(bytes_, initial_, sizeof bytes_);
}

void ConfigSpace::save(u8 (&to)[kBytes]) const {
  copy_bytes(to, bytes_, sizeof bytes_);
}

void ConfigSpace::load(const u8 (&from)[kBytes]) {
  for (u16 i = 0; i < kBytes; ++i)
    bytes_[i] = static_cast<u8>((initial_[i] & ~writable_[i]) | (from[i] & writable_[i]));
}

}  // namespace nacre::device::pci
