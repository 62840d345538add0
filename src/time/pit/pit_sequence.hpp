// Any sequence of accesses and times against the PIT; shared by fuzz target and random test.
#pragma once

#include "base/check.hpp"
#include "irq/testing/byte_source.hpp"
#include "time/pit/pit.hpp"

namespace nacre::time {

inline void pit_sequence(nacre::testing::ByteSource bytes) {
  nacre::testing::ManualClock clock;
  nacre::testing::RecordedLine irq0;
  Pit pit(clock, irq0);
  while (!bytes.empty()) {
    switch (bytes.take<u8>() % 8) {
      case 0:
        pit.write(3, bytes.take<u8>());
        break;
      case 1:
        pit.write(bytes.take<u8>(), bytes.take<u8>());
        break;
      case 2:
        pit.read(bytes.take<u8>());
        break;
      case 3:
        pit.write_port61(bytes.take<u8>());
        break;
      case 4:
        pit.read_port61();
        break;
      case 5:
      case 6:
        clock.now += bytes.take<u64>() >> (16 + (bytes.take<u8>() & 47));
        pit.advance(clock.now);
        NACRE_CHECK(pit.next_deadline() > clock.now);
        break;
      default: {
        Pit::State state = pit.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u8>() % sizeof state] = bytes.take<u8>();
        if (pit.load(state).ok()) {
          const Pit::State kept = pit.state();
          NACRE_CHECK(pit.load(kept).ok() && pit.state() == kept);
        }
        break;
      }
    }
  }
}

}  // namespace nacre::time
