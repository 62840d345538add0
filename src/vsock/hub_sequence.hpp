// Any packets of a guest, in any order, while programs of the host come, write, read and go; shared by fuzz
// target and random test.
#pragma once

#include <fcntl.h>
#include <sys/socket.h>

#include <cstring>
#include <string>

#include "irq/testing/byte_source.hpp"
#include "vsock/hub.hpp"

namespace nacre::vsock::testing {

// Both ends of a stream; neither blocks.
inline std::pair<host::UniqueFd, host::UniqueFd> stream_pair() {
  int ends[2];
  NACRE_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
  return {host::UniqueFd(ends[0]), host::UniqueFd(ends[1])};
}

// Answers at once: at even ports somebody listens. The programs' ends are in `reached`.
class Directory final : public Connector {
 public:
  explicit Directory(std::vector<host::UniqueFd>& reached) : reached_(reached) {
    auto [near, far] = stream_pair();
    bell_ = std::move(near);
    ring_ = std::move(far);
  }
  bool ask(u32 port) override {
    if (asked_.size() == 8) return false;
    asked_.push_back(port);
    return write(ring_.number(), "x", 1) == 1;
  }
  bool answer(host::UniqueFd& socket) override {
    socket = host::UniqueFd();
    if (asked_.empty()) return false;
    char byte;
    NACRE_CHECK(read(bell_.number(), &byte, 1) == 1);
    if (asked_.front() % 2 == 0) {
      auto [near, far] = stream_pair();
      socket = std::move(near);
      reached_.push_back(std::move(far));
    }
    asked_.pop_front();
    return true;
  }
  int descriptor() const override { return bell_.number(); }

 private:
  std::vector<host::UniqueFd>& reached_;
  host::UniqueFd bell_, ring_;
  std::deque<u32> asked_;
};

inline void hub_sequence(nacre::testing::ByteSource bytes) {
  std::vector<host::UniqueFd> programs;
  auto hub = Hub::create({}, std::make_unique<Directory>(programs)).take();
  static std::vector<u8> payload(virtio::vsock::kMostPayload, 'x');
  std::vector<std::pair<u32, u32>> seen = {{2, 5}, {3, 5}};  // (host, guest) ports that were heard of
  const auto some = [&](auto& list) -> auto& {
    return list[bytes.take<u8>() % list.size()];
  };
  while (!bytes.empty()) {
    const u8 what = bytes.take<u8>();
    if (what < 120) {
      virtio::vsock::PacketHeader header = {.source_cid = 3, .target_cid = 2, .type = 1};
      const auto ports = some(seen);
      header.target_port = ports.first;
      header.source_port = ports.second;
      header.operation = bytes.take<u8>() % 9;
      header.flags = bytes.take<u8>() % 5;
      header.buffer_bytes = bytes.take<u8>() % 4 == 0 ? bytes.take<u8>() : 70'000;
      header.forwarded = bytes.take<u8>() % 8 == 0 ? bytes.take<u32>() : 0;
      if (header.operation == static_cast<u16>(virtio::vsock::Operation::ReadWrite))
        header.bytes = bytes.take<u16>();
      const u32 first = header.bytes / 3;
      const virtio::Segment pieces[2] = {{payload.data(), 0, first},
                                         {payload.data() + first, first, header.bytes - first}};
      static_cast<void>(hub->send(header, pieces, 2));
    } else if (what < 160) {
      auto [near, far] = stream_pair();
      if (hub->adopt(std::move(near))) programs.push_back(std::move(far));
      const std::string line = "CONNECT " + std::to_string(bytes.take<u8>()) + "\n";
      if (!programs.empty()) static_cast<void>(write(programs.back().number(), line.data(), line.size()) < 0);
    } else if (what < 180 && !programs.empty()) {
      static_cast<void>(::send(some(programs).number(), payload.data(), bytes.take<u16>(), MSG_NOSIGNAL) < 0);
    } else if (what < 190 && !programs.empty()) {
      u8 taken[4096];
      static_cast<void>(read(some(programs).number(), taken, sizeof taken) < 0);
    } else if (what < 196 && !programs.empty()) {
      some(programs) = host::UniqueFd();
    } else if (what < 202 && !programs.empty()) {
      shutdown(some(programs).number(), SHUT_WR);
    } else if (what == 203) {
      hub->reset();
    } else if (what < 230) {
      hub->dispatch();
    } else {
      virtio::vsock::PacketHeader header;
      u8 to[8192];
      if (hub->receive(header, to, sizeof to)) {
        NACRE_CHECK(header.bytes <= sizeof to);
        if (seen.size() < 200) seen.emplace_back(u32{header.source_port}, u32{header.target_port});
      }
    }
    NACRE_CHECK(hub->connections() <= kMostConnections);
  }
}

}  // namespace nacre::vsock::testing
