// Any sequence of MSR accesses against the paravirtual clock; shared by fuzz target and random test.
#pragma once

#include "base/check.hpp"
#include "irq/testing/byte_source.hpp"
#include "time/pvclock/pvclock.hpp"

namespace nacre::time {

// One page of guest RAM at 0x1000 that remembers every write.
struct RecordedMemory final : GuestWriter, GuestTsc {
  u8 bytes[4096] = {};
  std::vector<u32> versions;  // first word of every write at `watched`
  u64 watched = 0x1000;
  u64 tsc = 0;
  const nacre::testing::ManualClock* clock = nullptr;
  Instant instant() override { return {tsc, clock == nullptr ? 0 : clock->now}; }
  bool write(GuestPhysical address, const void* from, usize n) override {
    const u64 at = address.value() - 0x1000;
    if (at >= sizeof bytes || n > sizeof bytes - at) return false;
    std::memcpy(bytes + at, from, n);
    if (address.value() == watched) std::memcpy(&versions.emplace_back(), from, sizeof(u32));
    return true;
  }
};

inline void pvclock_sequence(nacre::testing::ByteSource bytes) {
  nacre::testing::ManualClock clock;
  RecordedMemory memory;
  memory.clock = &clock;
  PvClock pvclock({clock, clock, memory, memory}, bytes.take<u32>() | 1u, PvClock::Stability::Stable);
  while (!bytes.empty()) {
    u64 value = 0;
    switch (bytes.take<u8>() % 6) {
      case 0:
        pvclock.msr_write(PvClock::kWallClockMsr + (bytes.take<u8>() & 3), bytes.take<u64>());
        break;
      case 1:
        pvclock.msr_write(PvClock::kSystemTimeMsr, 0x1000 + (bytes.take<u16>() & 0x1fff));
        break;
      case 2:
        pvclock.msr_read(PvClock::kWallClockMsr + (bytes.take<u8>() & 3), value);
        break;
      case 3:
        pvclock.refresh();
        break;
      case 4:
        clock.now += bytes.take<u32>();
        break;
      default: {
        PvClock::State state = pvclock.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u8>() % sizeof state] = bytes.take<u8>();
        if (pvclock.load(state).ok()) NACRE_CHECK(pvclock.state().sequence % 2 == 0);
        break;
      }
    }
  }
}

}  // namespace nacre::time
