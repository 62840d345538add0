// A network of two lists, and any sequence of accesses against the network device; shared by fuzz target and
// random test.
#pragma once

#include <deque>

#include "virtio/net/device.hpp"
#include "virtio/testing.hpp"

namespace nacre::virtio::net {

struct ListNetwork final : Network {
  std::vector<std::pair<Header, std::string>> sent;
  std::deque<std::pair<Header, std::string>> waiting;
  bool takes = true;
  Offloads offloads;

  unsigned last_pair = kAnyPair;  // of what was sent
  unsigned next_pair = kAnyPair;  // for what waits

  bool send(const Header& header, const Segment* pieces, unsigned count, unsigned pair) override {
    if (!takes) return false;
    last_pair = pair;
    std::string packet;
    for (unsigned i = 0; i < count; ++i)
      packet.append(reinterpret_cast<const char*>(pieces[i].host), pieces[i].bytes);
    sent.emplace_back(header, packet);
    return true;
  }
  usize receive(u8* to, Header& header, unsigned& pair) override {
    if (waiting.empty()) return 0;
    pair = next_pair;
    const auto [first, packet] = waiting.front();
    waiting.pop_front();
    header = first;
    std::memcpy(to, packet.data(), packet.size());
    return packet.size();
  }
  void set_offloads(const Offloads& value) override { offloads = value; }
};

inline void net_sequence(nacre::testing::ByteSource bytes) {
  ListNetwork network;
  const NetOptions options = {.mac = {2, 0, 0, 0, 0, 1}, .pairs = 2, .mtu = 1500};
  testing::virtio_sequence(
      bytes,
      [&](testing::Guest& guest) {
        return std::make_unique<Net>(guest.space, guest.ports(), network, options);
      },
      [&](Net& net, testing::Driver& driver, nacre::testing::ByteSource& more) {
        network.takes = more.take<u8>() % 4 != 0;
        network.sent.clear();
        if (more.take<u8>() % 2 == 0) {
          const u8 pair = more.take<u8>();
          network.next_pair = pair % 4 == 0 ? Network::kAnyPair : pair;
          network.waiting.emplace_back(Header{}, std::string(1 + more.take<u16>() % 5000, 'x'));
        }
        const unsigned queue = more.take<u8>() % 5;
        if (driver.place(queue).size == 0 || driver.room(queue) < 2) return;
        testing::Guest& guest = driver.guest();
        for (unsigned i = 0; i < 3; ++i) guest.store<u32>(0x3000 + 4 * i, more.take<u32>());
        const u32 length = 1 + more.take<u16>() % 3000;
        if (queue % 2 == 0 && queue != 4) {
          driver.add(queue, {}, {{0x5000, length}});
        } else {
          driver.add(queue, {{0x3000, length}}, {{0x4000, 1}});
        }
        net.ring(queue);
        net.run();
        if (more.take<u8>() % 8 == 0) net.announce();
      });
}

}  // namespace nacre::virtio::net
