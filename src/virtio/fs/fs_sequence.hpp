// A file server that answers late and in another order, and any sequence of accesses against the file system
// device; shared by fuzz target and random test.
#pragma once

#include <utility>

#include "virtio/fs/device.hpp"
#include "virtio/testing.hpp"

namespace nacre::virtio::fs {

struct EchoServer final : FileServer {
  Fs* device = nullptr;
  bool at_once = false;
  bool holds = false;  // dispatch() completes nothing
  unsigned resets = 0;
  std::vector<FileRequest*> waiting;
  std::vector<std::string> asked;

  bool submit(FileRequest& request) override {
    asked.push_back(bytes_of(request));
    if (at_once) answer(request);
    if (!at_once) waiting.push_back(&request);
    return at_once;
  }
  void dispatch() override {
    if (holds) return;
    for (auto list = std::exchange(waiting, {}); !list.empty(); list.pop_back()) {
      answer(*list.back());
      device->completed(*list.back());
    }
  }
  void reset() override {
    ++resets;
    holds = false;
  }
  static std::string bytes_of(const FileRequest& request) {
    std::string bytes;
    for (unsigned i = 0; i < request.readable; ++i)
      bytes.append(reinterpret_cast<const char*>(request.segments[i].host), request.segments[i].bytes);
    return bytes;
  }
  // What was asked, as far as there is room for it.
  static void answer(FileRequest& request) {
    const std::string bytes = bytes_of(request);
    usize done = 0;
    for (unsigned i = request.readable; i < request.total && done < bytes.size(); ++i) {
      const usize piece = std::min<usize>(request.segments[i].bytes, bytes.size() - done);
      std::memcpy(request.segments[i].host, bytes.data() + done, piece);
      done += piece;
    }
    request.written = static_cast<u32>(done);
  }
};

inline void fs_sequence(nacre::testing::ByteSource bytes) {
  EchoServer server;
  testing::virtio_sequence(
      bytes,
      [&](testing::Guest& guest) {
        auto fs = std::make_unique<Fs>(guest.space, guest.ports(), server, "fuzz");
        server.device = fs.get();
        return fs;
      },
      [&](Fs& fs, testing::Driver& driver, nacre::testing::ByteSource& more) {
        server.holds = more.take<u8>() % 4 == 0;
        server.at_once = more.take<u8>() % 4 == 0;
        server.asked.clear();
        const unsigned queue = more.take<u8>() % 2;
        if (driver.place(queue).size == 0 || driver.room(queue) < 2) return;
        driver.add(queue, {{0x3000, 1u + more.take<u8>()}}, {{0x5000, 1u + more.take<u16>() % 8192}});
        fs.ring(queue);
        fs.run();
      });
  server.holds = false;
}

}  // namespace nacre::virtio::fs
