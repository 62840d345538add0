// The keyboard controller, ports 60h and 64h, with no keyboard and no mouse plugged in. IBM PS/2
// Technical Reference, "Keyboard and Auxiliary Device Controller". Every command answers at once, so
// that a driver's probing finds nothing to wait for.
// Freestanding; all calls under the board's lock.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"
#include "device/ports.hpp"
#include "irq/line.hpp"

namespace nacre::device {

class I8042 {
 public:
  static constexpr unsigned kRamBytes = 32, kQueueBytes = 8;

  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u8 ram[kRamBytes] = {};  // byte 0 is the command byte
    u8 output_port = 0;
    u8 pending_command = 0;  // waits for its data byte at port 60h; 0: none
    u8 last_was_command = 0;
    u8 head = 0, length = 0;
    u8 data[kQueueBytes] = {};
    u8 from_aux[kQueueBytes] = {};
    u8 spare[3] = {};
    constexpr bool operator==(const State&) const = default;
  };

  struct Ports {
    irq::Line& irq1;
    irq::Line& irq12;
    PowerSink& power;
  };
  explicit I8042(const Ports& ports) : ports_(ports) { reset(); }

  void reset();
  u8 read_data();
  void write_data(u8 value);
  [[nodiscard]] u8 read_status() const;
  void write_command(u8 value);

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  void push(u8 byte, bool aux);
  void write_output_port(u8 value);
  void keyboard_command(u8 value);
  void update();

  Ports ports_;
  State state_;
};

}  // namespace nacre::device
