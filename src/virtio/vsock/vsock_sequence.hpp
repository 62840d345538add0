// Sockets that are two lists, and any sequence of accesses against the socket device; shared by fuzz target
// and random test.
#pragma once

#include <deque>

#include "virtio/testing.hpp"
#include "virtio/vsock/device.hpp"

namespace nacre::virtio::vsock {

struct ListSockets final : Sockets {
  std::vector<std::pair<PacketHeader, std::string>> sent;
  std::deque<std::pair<PacketHeader, std::string>> waiting;
  bool takes = true;
  unsigned resets = 0;

  bool send(const PacketHeader& header, const Segment* pieces, unsigned count) override {
    if (!takes) return false;
    std::string bytes;
    for (unsigned i = 0; i < count; ++i)
      bytes.append(reinterpret_cast<const char*>(pieces[i].host), pieces[i].bytes);
    NACRE_CHECK(bytes.size() == header.bytes);
    sent.emplace_back(header, bytes);
    return true;
  }
  bool receive(PacketHeader& header, u8* to, u32 most) override {
    if (waiting.empty()) return false;
    header = waiting.front().first;
    NACRE_CHECK(waiting.front().second.size() <= most);
    header.bytes = static_cast<u32>(waiting.front().second.size());
    std::memcpy(to, waiting.front().second.data(), header.bytes);
    waiting.pop_front();
    return true;
  }
  void reset() override { ++resets; }
};

inline void vsock_sequence(nacre::testing::ByteSource bytes) {
  ListSockets sockets;
  testing::virtio_sequence(
      bytes,
      [&](testing::Guest& guest) { return std::make_unique<Vsock>(guest.space, guest.ports(), sockets, 3); },
      [&](Vsock& vsock, testing::Driver& driver, nacre::testing::ByteSource& more) {
        sockets.takes = more.take<u8>() % 4 != 0;
        sockets.sent.clear();
        if (more.take<u8>() % 2 == 0)
          sockets.waiting.emplace_back(PacketHeader{}, std::string(more.take<u16>() % 5000, 'x'));
        const unsigned queue = more.take<u8>() % 3;
        if (driver.place(queue).size == 0 || driver.room(queue) < 2) return;
        PacketHeader header = {.source_cid = 3, .target_cid = 2, .bytes = more.take<u8>(), .type = 1};
        header.type = static_cast<u16>(1 + more.take<u8>() % 8 / 7);
        header.operation = more.take<u8>() % 9;
        driver.guest().store(0x3000, header);
        const u32 length = 1 + more.take<u8>() + more.take<u8>() % 2 * 200u;
        if (queue == 1) {
          driver.add(queue, {{0x3000, 44}, {0x3100, length}}, {});
        } else {
          driver.add(queue, {}, {{0x5000, length}});
        }
        vsock.ring(queue);
        vsock.run();
      });
}

}  // namespace nacre::virtio::vsock
