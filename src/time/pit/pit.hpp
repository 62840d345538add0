// The 8254 programmable interval timer and port 61h, which gates its third counter and the speaker.
// Intel 8254 data sheet (231164-005); port 61h: Intel ICH data sheets, "NMI status and control".
//
// Nothing ticks: a counter is a start instant and a count, everything else is computed when asked.
// Counter 0's output is a wire; only its rising edges make this device ask to be called.
// Freestanding; all calls under the board's lock.
#pragma once

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/types.hpp"
#include "irq/line.hpp"

namespace nacre::time {

class Pit {
 public:
  static constexpr u64 kHz = 1'193'182;

  struct Counter {
    u64 start = 0;        // tick at which `count` was loaded, or will be
    u64 frozen = 0;       // ticks counted so far while the gate holds the counter
    u32 count = 0x10000;  // ticks of the count in force
    u32 next_count = 0;   // replaces count when the period ends; 0: none
    u8 mode = 0;          // 0..5
    u8 access = 3;        // 1 low byte, 2 high byte, 3 low then high
    u8 bcd = 0;
    u8 gate = 1;
    u8 armed = 0;     // a count was written (and, in modes 1 and 5, the gate rose since)
    u8 counting = 0;  // armed and not frozen
    u8 write_high_next = 0, read_high_next = 0;
    u8 low_byte = 0;  // of a count whose high byte is to come
    u8 count_latched = 0, status_latched = 0;
    u8 latched_status = 0;
    u16 latched_count = 0;
    u16 spare = 0;
    constexpr bool operator==(const Counter&) const = default;
  };
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u8 speaker = 0;  // port 61h bits 3..1 as written
    u8 output0 = 0;  // level of the wire
    u16 spare = 0;
    u64 seen = 0;  // edges of counter 0 up to this tick were delivered
    Counter counter[3];
    constexpr bool operator==(const State&) const = default;
  };

  // `irq0` is counter 0's output wire.
  Pit(Clock& clock, irq::Line& irq0) : clock_(clock), irq0_(irq0) { reset(); }

  void reset();
  // Ports 40h..43h.
  u8 read(u16 offset);
  void write(u16 offset, u8 value);
  // Port 61h.
  u8 read_port61();
  void write_port61(u8 value);

  [[nodiscard]] u64 next_deadline() const;  // ns; the next rising edge of counter 0
  void advance(u64 now_ns);

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  [[nodiscard]] u64 tick() const { return ticks_at(clock_.now_ns(), kHz); }
  void write_control(u8 value, u64 now);
  void read_back(u8 command, u64 now);
  void write_count(Counter& counter, u8 value, u64 now);
  void update_output0(u64 now);

  Clock& clock_;
  irq::Line& irq0_;
  State state_;
};

}  // namespace nacre::time
