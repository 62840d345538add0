// Any sequence of uses of the steal time; shared by fuzz target and random test.
#pragma once

#include <cstring>

#include "base/check.hpp"
#include "irq/testing/byte_source.hpp"
#include "time/steal_time/steal_time.hpp"

namespace nacre::time {

// One page of guest RAM at 0x1000.
struct StealMemory final : GuestWriter, GuestByte {
  u8 bytes[4096] = {};
  static u64 offset(GuestPhysical address) { return address.value() - 0x1000; }
  bool write(GuestPhysical address, const void* from, usize n) override {
    const u64 at = offset(address);
    if (at >= sizeof bytes || n > sizeof bytes - at) return false;
    std::memcpy(bytes + at, from, n);
    return true;
  }
  bool exchange(GuestPhysical address, u8 desired, u8& before) override {
    const u64 at = offset(address);
    if (at >= sizeof bytes) return false;
    before = bytes[at];
    bytes[at] = desired;
    return true;
  }
};

inline void steal_time_sequence(nacre::testing::ByteSource bytes) {
  StealMemory memory;
  StealTime steal({memory, memory});
  while (!bytes.empty()) {
    switch (bytes.take<u8>() % 5) {
      case 0:
        steal.msr_write(bytes.take<u64>());
        break;
      case 1:
        steal.msr_write(0xfc0 + (bytes.take<u16>() & 0x10ff));
        break;
      case 2:
        steal.leaves();
        break;
      case 3:
        if (steal.comes_back(bytes.take<u32>())) NACRE_CHECK((steal.msr_read() & 1) != 0);
        break;
      default: {
        StealTime::State state = steal.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u8>() % sizeof state] = bytes.take<u8>();
        if (steal.load(state).ok()) NACRE_CHECK(steal.state().sequence % 2 == 0);
        break;
      }
    }
  }
}

}  // namespace nacre::time
