// A terminal that is two texts, and any sequence of accesses against the console device; shared by fuzz
// target and random test.
#pragma once

#include <string>

#include "virtio/console/device.hpp"
#include "virtio/testing.hpp"

namespace nacre::virtio::console {

struct TextTerminal final : Terminal {
  std::string shown, typed;
  usize room = ~usize{0};

  u32 write(const u8* from, u32 bytes) override {
    const u32 taken = bytes < room ? bytes : static_cast<u32>(room);
    shown.append(reinterpret_cast<const char*>(from), taken);
    room -= taken;
    return taken;
  }
  u32 read(u8* to, u32 most) override {
    const u32 taken = typed.size() < most ? static_cast<u32>(typed.size()) : most;
    std::memcpy(to, typed.data(), taken);
    typed.erase(0, taken);
    return taken;
  }
};

inline void console_sequence(nacre::testing::ByteSource bytes) {
  TextTerminal terminal;
  testing::virtio_sequence(
      bytes,
      [&](testing::Guest& guest) { return std::make_unique<Console>(guest.space, guest.ports(), terminal); },
      [&](Console& console, testing::Driver& driver, nacre::testing::ByteSource& more) {
        terminal.room = more.take<u8>() % 4 == 0 ? more.take<u8>() : ~usize{0};
        terminal.shown.clear();
        terminal.typed.resize(more.take<u16>() % 300, 'x');
        const unsigned queue = more.take<u8>() % 2;
        if (driver.place(queue).size == 0 || driver.room(queue) < 2) return;
        const u32 length = 1 + more.take<u8>();
        if (queue == 1) {
          driver.add(queue, {{0x3000, length}, {0x3100, 7}}, {});
        } else {
          driver.add(queue, {}, {{0x5000, length}, {0x5100, 7}});
        }
        if (more.take<u8>() % 8 == 0) static_cast<void>(console.resize(more.take<u8>(), more.take<u8>()));
        console.ring(queue);
        console.run();
      });
}

}  // namespace nacre::virtio::console
