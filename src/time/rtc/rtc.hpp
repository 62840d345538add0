// The real-time clock and its 128 bytes of battery-backed memory. Motorola MC146818A data sheet; the
// century byte at 32h is where the FADT says it is. The date comes from the WallClock plus an offset
// that the guest moves by setting the time. Freestanding; all calls under the board's lock.
#pragma once

#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/types.hpp"
#include "irq/line.hpp"

namespace nacre::time {

class Rtc {
 public:
  static constexpr u8 kCentury = 0x32;  // FADT CENTURY

  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u8 index = 0;
    u8 spare[3] = {};
    i64 offset_s = 0;       // guest seconds minus wall-clock seconds
    i64 seen_s = 0;         // guest seconds up to which update and alarm flags were worked out
    u64 periodic_from = 0;  // 32.768 kHz ticks of the Clock up to which periodic flags were worked out
    u8 cmos[128] = {};
    constexpr bool operator==(const State&) const = default;
  };

  Rtc(Clock& clock, WallClock& wall, irq::Line& irq8);

  void reset();  // RESET pin: interrupts off; date, memory and alarm stay
  // Ports 70h and 71h.
  u8 read(u16 offset);
  void write(u16 offset, u8 value);
  // Battery-backed bytes other than the clock's own (0eh..7fh except the century); others are ignored.
  void set_nvram(u8 index, u8 value);

  [[nodiscard]] u64 next_deadline() const { return deadline_ns_; }
  void advance(u64 now_ns);

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  [[nodiscard]] i64 guest_seconds() const;
  [[nodiscard]] bool is_running() const;
  [[nodiscard]] u8 encode(unsigned value) const;
  [[nodiscard]] unsigned decode(u8 value) const;
  [[nodiscard]] u8 encode_hour(unsigned hour) const;
  [[nodiscard]] int decode_hour(u8 value) const;
  [[nodiscard]] bool alarm_field_matches(u8 alarm, int value, int decoded) const;
  [[nodiscard]] i64 next_alarm(i64 after) const;
  [[nodiscard]] u64 periodic_ticks() const;
  u8 read_data(u8 index);
  void write_data(u8 index, u8 value);
  void write_b(u8 value);
  void registers_from_date();
  void date_from_registers();
  void collect_flags();
  void plan();
  void update_line();

  Clock& clock_;
  WallClock& wall_;
  irq::Line& irq8_;
  State state_;
  u64 deadline_ns_ = kNever;
};

}  // namespace nacre::time
