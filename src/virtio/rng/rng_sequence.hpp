// Any sequence of accesses against the entropy device; shared by fuzz target and random test.
#pragma once

#include "virtio/rng/device.hpp"
#include "virtio/testing.hpp"

namespace nacre::virtio::rng {

struct CountingEntropy final : Entropy {
  u8 next = 0;
  void fill(u8* to, usize bytes) override {
    for (usize i = 0; i < bytes; ++i) to[i] = ++next;
  }
};

inline void rng_sequence(nacre::testing::ByteSource bytes) {
  CountingEntropy entropy;
  testing::virtio_sequence(
      bytes,
      [&](testing::Guest& guest) { return std::make_unique<Rng>(guest.space, guest.ports(), entropy); },
      [](Rng&, testing::Driver&, nacre::testing::ByteSource&) {});
}

}  // namespace nacre::virtio::rng
