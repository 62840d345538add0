// Any sequence of accesses and times against the RTC; shared by fuzz target and random test.
#pragma once

#include "base/check.hpp"
#include "irq/testing/byte_source.hpp"
#include "time/rtc/rtc.hpp"

namespace nacre::time {

inline void rtc_sequence(nacre::testing::ByteSource bytes) {
  nacre::testing::ManualClock clock;
  nacre::testing::RecordedLine irq8;
  Rtc rtc(clock, clock, irq8);
  while (!bytes.empty()) {
    switch (bytes.take<u8>() % 8) {
      case 0:
        rtc.write(0, bytes.take<u8>() % 14);
        break;
      case 1:
        rtc.write(0, bytes.take<u8>());
        break;
      case 2:
      case 3:
        rtc.write(1, bytes.take<u8>());
        break;
      case 4:
        rtc.read(bytes.take<u8>());
        break;
      case 5:
        clock.wall_offset = bytes.take<u64>();
        break;
      case 6:
        clock.now += bytes.take<u64>() >> (16 + (bytes.take<u8>() & 47));
        rtc.advance(clock.now);
        NACRE_CHECK(rtc.next_deadline() > clock.now);
        break;
      default: {
        Rtc::State state = rtc.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u8>() % sizeof state] = bytes.take<u8>();
        if (rtc.load(state).ok()) {
          const Rtc::State kept = rtc.state();
          NACRE_CHECK(rtc.load(kept).ok() && rtc.state() == kept);
        }
        break;
      }
    }
  }
}

}  // namespace nacre::time
