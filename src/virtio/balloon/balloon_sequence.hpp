// Any sequence of accesses against the memory balloon; shared by fuzz target and random test.
#pragma once

#include "virtio/balloon/device.hpp"
#include "virtio/testing.hpp"

namespace nacre::virtio::balloon {

struct RecordedBallast final : Ballast {
  std::vector<std::pair<u64, u64>> released;
  unsigned reports = 0;
  void release(u64 guest, u8* host, u64 bytes) override {
    NACRE_CHECK(guest % kPageSize == 0 && bytes % kPageSize == 0 && bytes != 0);
    NACRE_CHECK(guest < testing::Guest::kRam && bytes <= testing::Guest::kRam - guest && host != nullptr);
    released.emplace_back(guest, bytes);
  }
  void statistics() override { ++reports; }
};

inline void balloon_sequence(nacre::testing::ByteSource bytes) {
  RecordedBallast ballast;
  testing::virtio_sequence(
      bytes,
      [&](testing::Guest& guest) { return std::make_unique<Balloon>(guest.space, guest.ports(), ballast); },
      [&](Balloon& balloon, testing::Driver& driver, nacre::testing::ByteSource& more) {
        ballast.released.clear();
        if (more.take<u8>() % 4 == 0) balloon.request_statistics();
        if (more.take<u8>() % 8 == 0) balloon.set_target(more.take<u32>());
        const unsigned queue = more.take<u8>() % 4;
        if (driver.place(queue).size == 0 || driver.room(queue) < 2) return;
        for (unsigned i = 0; i < 4; ++i) driver.guest().store<u32>(0x3000 + 4 * i, more.take<u32>() % 2048);
        driver.add(queue, {{0x3000, 1 + more.take<u8>() % 64u}},
                   {{more.take<u16>() * 16u, 1 + more.take<u16>() % 20000u}});
        balloon.ring(queue);
        balloon.run();
      });
}

}  // namespace nacre::virtio::balloon
