// Ports for tests and for people who debug a boot: exit with a status (f4h), a console without
// registers (e9h, 402h), power-on self-test codes (80h). Conventions of emulators, not of hardware, except 80h.
// Freestanding; all calls under the board's lock.
#pragma once

#include "base/types.hpp"
#include "device/ports.hpp"

namespace nacre::device {

// Writing v ends the machine; its process ends with debug_exit_status(v).
class DebugExit {
 public:
  explicit DebugExit(PowerSink& power) : power_(power) {}
  [[nodiscard]] u32 read() const { return 0; }
  void write(u32 value) { power_.debug_exit(value); }

 private:
  PowerSink& power_;
};

// Reading gives e9h, whatever the port: the guest sees that the console is there.
class DebugConsole {
 public:
  explicit DebugConsole(ByteSink& output) : output_(output) {}
  [[nodiscard]] u8 read() const { return 0xe9; }
  void write(u8 value) { output_.put(value); }

 private:
  ByteSink& output_;
};

// Power-on self-test codes: remembers the last. At 80h, where Linux uses it as a delay, or wherever a ROM wants it.
class PostPort {
 public:
  [[nodiscard]] u8 read() const { return code_; }
  void write(u8 value) { code_ = value; }

 private:
  u8 code_ = 0;
};

}  // namespace nacre::device
