// Any sequence of accesses and wires against the 8259 pair; shared by fuzz target and random test.
#pragma once

#include "base/check.hpp"
#include "irq/pic/pic.hpp"
#include "irq/testing/byte_source.hpp"

namespace nacre::irq {

inline void pic_sequence(nacre::testing::ByteSource bytes) {
  nacre::testing::RecordedLine output;
  Pic pic(output);
  while (!bytes.empty()) {
    switch (bytes.take<u8>() % 8) {
      case 0:
      case 1:
        pic.write(bytes.take<u8>(), bytes.take<u8>() & 1, bytes.take<u8>());
        break;
      case 2:
        pic.read(bytes.take<u8>(), bytes.take<u8>());
        break;
      case 3:
      case 4:
        pic.set_input(bytes.take<u8>() % 20, (bytes.take<u8>() & 1) != 0);
        break;
      case 5:
        pic.acknowledge();
        break;
      case 6:
        pic.write_elcr(bytes.take<u8>(), bytes.take<u8>());
        break;
      default: {
        Pic::State state = pic.state();
        reinterpret_cast<u8*>(&state)[bytes.take<u8>() % sizeof state] = bytes.take<u8>();
        if (pic.load(state).ok()) {
          const Pic::State kept = pic.state();
          NACRE_CHECK(pic.load(kept).ok() && pic.state() == kept);
        }
        break;
      }
    }
    NACRE_CHECK(output.level == pic.interrupt_pending());
  }
}

}  // namespace nacre::irq
