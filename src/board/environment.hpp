// Environment: what a board needs from the program around it. Everything that differs from run to run
// (time, randomness, input) and everything that leaves the machine goes through here, so that a test
// states it. Freestanding.
// The board calls these from within its own functions, thus under whatever lock its owner holds: an
// implementation must not call back into the board, and should be short.
#pragma once

#include "base/clock.hpp"
#include "base/types.hpp"

namespace nacre::board {

using time::kNever;  // a deadline that will not come

// Why the machine stops, or wants to.
struct PowerEvent {
  enum class Kind : u8 {
    PowerOff,   // ACPI S5
    Reset,      // port 0xcf9, the ACPI reset register, keyboard controller, or port 0x92
    Sleep,      // ACPI S1 to S4 (none of them is offered, so a guest that asks is mistaken)
    Panic,      // the guest's kernel says that it has panicked (pvpanic)
    DebugExit,  // a write to the debug-exit port: code is what was written
  };
  Kind kind = Kind::PowerOff;
  u32 code = 0;
};

class Environment {
 public:
  // Nanoseconds since the machine was powered on. Monotonic. Must not pass while the machine is paused.
  virtual u64 now() = 0;
  // Seconds and nanoseconds since 1970-01-01 00:00 UTC, in nanoseconds: for RTC and paravirtual clock.
  virtual u64 wall_clock() = 0;
  // The time stamp counter all processors share, running at Options::tsc_hz in step with now().
  virtual u64 tsc() = 0;
  // Both at the same instant.
  virtual time::Instant instant() = 0;
  virtual u64 random() = 0;

  // Something became pending for this processor: it should leave guest code (and wake if it sleeps) and
  // ask interrupt_pending() again.
  virtual void kick(unsigned processor) = 0;
  // Signals that are not vectors. The owner applies them to cpu::State on the processor's own thread, and
  // kicks it for that. start_up: only heeded in WaitForSipi. SDM vol. 3, 8.4.4.
  virtual void non_maskable(unsigned processor) = 0;
  virtual void init(unsigned processor) = 0;
  virtual void start_up(unsigned processor, u8 page) = 0;
  // What a processor waits for in HLT has come, though it is no interrupt: it leaves HLT, or the next one
  // that it comes to, whatever its IF. Not for one that does not exist.
  virtual void unhalt(unsigned processor) = 0;
  // next_deadline(processor) is now earlier than it was: whoever sleeps until it should ask again.
  virtual void deadline_moved(unsigned processor) = 0;

  // The machine wants to stop. The processor that did it goes on until its owner stops it.
  virtual void power_event(PowerEvent event) = 0;

  virtual void serial_output(unsigned port, u8 byte) = 0;  // port 0 (COM1) or 1 (COM2) transmits
  virtual void serial_input_room(unsigned port) = 0;       // it can take input again after having been full
  virtual void debug_output(unsigned which, u8 byte) = 0;  // the port that is Options::debug_ports[which]
  virtual void post_code(u8 code) = 0;                     // at Options::post_port

 protected:
  ~Environment() = default;
};

}  // namespace nacre::board
