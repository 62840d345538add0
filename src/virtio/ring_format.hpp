// The layout of both kinds of rings in guest RAM. Virtio 1.2, 2.7 (split) and 2.8 (packed). And how a word of
// theirs is loaded and stored: once, whole, with its order. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::virtio {

struct DescriptorFlag {  // 2.7.5, 2.8.13
  static constexpr u16 next = 1, write = 2, indirect = 4, available = 1 << 7, used = 1 << 15;
};

struct SplitRing {  // 2.7.6, 2.7.8
  static constexpr usize flags = 0, index = 2, ring = 4;
  static constexpr u16 no_interrupt = 1;  // the driver's flags
  static constexpr u16 no_doorbell = 1;   // the device's
  static constexpr u64 driver_bytes(u16 size) { return 6 + 2 * u64{size}; }
  static constexpr u64 device_bytes(u16 size) { return 6 + 8 * u64{size}; }
  static constexpr usize used_event(u16 size) { return 4 + 2 * usize{size}; }       // in the driver's area
  static constexpr usize available_event(u16 size) { return 4 + 8 * usize{size}; }  // in the device's
};

struct PackedEvent {  // 2.8.14
  static constexpr usize offset_and_wrap = 0, flags = 2;
  static constexpr u64 bytes = 4;
  static constexpr u16 enable = 0, disable = 1, descriptor = 2;
};

inline u16 load16(const u8* from) {
  return __atomic_load_n(reinterpret_cast<const u16*>(from), __ATOMIC_RELAXED);
}
inline u16 load16_acquire(const u8* from) {
  return __atomic_load_n(reinterpret_cast<const u16*>(from), __ATOMIC_ACQUIRE);
}
inline u32 load32(const u8* from) {
  return __atomic_load_n(reinterpret_cast<const u32*>(from), __ATOMIC_RELAXED);
}
inline u64 load64(const u8* from) {
  return __atomic_load_n(reinterpret_cast<const u64*>(from), __ATOMIC_RELAXED);
}
inline void store16(u8* to, u16 value) {
  __atomic_store_n(reinterpret_cast<u16*>(to), value, __ATOMIC_RELAXED);
}
inline void store16_release(u8* to, u16 value) {
  __atomic_store_n(reinterpret_cast<u16*>(to), value, __ATOMIC_RELEASE);
}
inline void store32(u8* to, u32 value) {
  __atomic_store_n(reinterpret_cast<u32*>(to), value, __ATOMIC_RELAXED);
}
// Between what one side says of itself and the look at what the other says.
inline void full_fence() {
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

}  // namespace nacre::virtio
