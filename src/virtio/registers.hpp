// Small helps for devices' configuration spaces, which are structures that a guest reads by bytes.
// Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::virtio {

// Some of a structure's bytes, as a register of 1 to 8 bytes; zeros behind its end.
inline u64 config_bytes(const void* structure, usize length, u64 offset, unsigned size) {
  u64 value = 0;
  for (unsigned i = 0; i < size && offset + i < length; ++i) {
    value |= u64{static_cast<const u8*>(structure)[offset + i]} << (8 * i);
  }
  return value;
}

}  // namespace nacre::virtio
