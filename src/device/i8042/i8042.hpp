// The keyboard controller, ports 60h and 64h, with no keyboard plugged in and no auxiliary (mouse) port.
// IBM PS/2 Technical Reference, "Keyboard and Auxiliary Device Controller". Every command that has an
// answer gets it at once: a driver that probes waits half a second for each answer that does not come.
// A byte for the absent keyboard is answered by FEh with the time-out bit, as a real controller does.
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

  // Status register.
  static constexpr u8 kOutputFull = 1 << 0, kSystemFlag = 1 << 2, kCommandLast = 1 << 3, kNotLocked = 1 << 4,
                      kAuxData = 1 << 5, kTimeout = 1 << 6;

  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u8 ram[kRamBytes] = {};  // byte 0 is the command byte
    u8 output_port = 0;
    u8 pending_command = 0;  // waits for its data byte at port 60h; 0: none
    u8 last_was_command = 0;
    u8 head = 0, length = 0;  // of the queue behind port 60h
    u8 spare[3] = {};
    u8 data[kQueueBytes] = {};
    u8 flags[kQueueBytes] = {};  // status bits that go with each byte: kAuxData, kTimeout
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
  void push(u8 byte, u8 flags);
  void execute(u8 command);
  void complete(u8 command, u8 data);
  void write_output_port(u8 value);
  void update();

  Ports ports_;
  State state_;
};

}  // namespace nacre::device
