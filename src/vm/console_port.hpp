// ConsolePort: bytes between the virtio console's device thread and the thread that does input and output, as
// the serial ports' rings in HostedEnvironment are for those.
#pragma once

#include <algorithm>

#include "virtio/console/device.hpp"
#include "vm/device_thread.hpp"
#include "vm/hosted_environment.hpp"

namespace nacre::vm {

class ConsolePort final : public virtio::console::Terminal {
 public:
  ConsolePort(HostedEnvironment& environment, DeviceThread& thread)
      : environment_(environment), thread_(thread) {}

  // --- the device's thread ---
  u32 write(const u8* from, u32 bytes) override {
    u32 taken = 0;
    while (taken < bytes) {
      if (output_.put(from[taken])) {
        ++taken;
      } else if (!room_wanted_.exchange(true)) {
        continue;  // first said, then looked again: no room is missed
      } else {
        break;
      }
    }
    environment_.call_input_output();
    return taken;
  }
  u32 read(u8* to, u32 most) override {
    const auto waiting = input_.front();
    const usize taken = std::min<usize>(waiting.size(), most);
    std::copy_n(waiting.data(), taken, to);
    input_.take(taken);
    if (taken != 0) environment_.tell_input_space();
    return static_cast<u32>(taken);
  }

  // --- the I/O thread ---
  [[nodiscard]] std::span<const u8> output() const { return output_.front(); }
  void output_taken(usize count) {
    output_.take(count);
    if (room_wanted_.load() && room_wanted_.exchange(false)) thread_.raise();
  }
  usize input(std::span<const u8> bytes) {
    usize taken = 0;
    for (bool asked = false; taken < bytes.size();) {
      if (input_.put(bytes[taken])) {
        ++taken;
      } else if (!asked) {
        environment_.want_input_space();
        asked = true;
      } else {
        break;
      }
    }
    if (taken != 0) thread_.raise();
    return taken;
  }

 private:
  HostedEnvironment& environment_;
  DeviceThread& thread_;
  HostedEnvironment::OutputRing output_;
  HostedEnvironment::InputRing input_;
  std::atomic<bool> room_wanted_ = false;
};

}  // namespace nacre::vm
