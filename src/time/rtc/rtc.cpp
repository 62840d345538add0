#include "time/rtc/rtc.hpp"

#include <type_traits>

#include "time/rtc/calendar.hpp"

namespace nacre::time {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<Rtc::State>);

namespace {

// Register numbers and bits: MC146818A data sheet, figures 15 to 18.
enum : u8 {
  Seconds,
  SecondsAlarm,
  Minutes,
  MinutesAlarm,
  Hours,
  HoursAlarm,
  Weekday,
  Day,
  Month,
  Year,
  A,
  B,
  C,
  D
};
constexpr u8 UIP = 0x80, DV = 0x70, kDividerOn = 0x20, RS = 0x0f;                                 // A
constexpr u8 SET = 0x80, PIE = 0x40, AIE = 0x20, UIE = 0x10, SQWE = 0x08, DM = 0x04, H24 = 0x02;  // B
constexpr u8 IRQF = 0x80, PF = 0x40, AF = 0x20, UF = 0x10;                                        // C
constexpr u8 VRT = 0x80;                                                                          // D

constexpr u64 kCrystalHz = 32'768;
constexpr u64 kUpdateWarningNs = 244'000;  // UIP rises this long before the registers change
constexpr i64 kDaySeconds = 86'400;
constexpr i64 kFirstSecond = days_of({0, 3, 1}) * kDaySeconds,
              kLastSecond = days_of({9999, 12, 31}) * kDaySeconds;
constexpr i64 kNoAlarm = kLastSecond * 4;
// Alarms further off are looked at again after this long, because the wall clock may be set.
constexpr u64 kLongestWaitNs = 60 * kNsPerSecond;

i64 clamp(i64 value, i64 low, i64 high) {
  return value < low ? low : (value > high ? high : value);
}
i64 second_of_day(i64 seconds) {
  return (seconds % kDaySeconds + kDaySeconds) % kDaySeconds;
}
bool is_wildcard(u8 alarm) {
  return (alarm & 0xc0) == 0xc0;
}
bool is_clock_register(u8 index) {
  return index <= Year || index == Rtc::kCentury;
}
bool is_alarm_register(u8 index) {
  return index == SecondsAlarm || index == MinutesAlarm || index == HoursAlarm;
}

}  // namespace

Rtc::Rtc(Clock& clock, WallClock& wall, irq::Line& irq8) : clock_(clock), wall_(wall), irq8_(irq8) {
  state_.cmos[A] = kDividerOn | 6;  // 1024 Hz, as every firmware leaves it
  state_.cmos[B] = H24;
  state_.cmos[D] = VRT;
  state_.seen_s = guest_seconds();
  state_.periodic_from = ticks_at(clock_.now_ns(), kCrystalHz);
}

void Rtc::reset() {
  collect_flags();
  state_.index = 0;
  state_.cmos[B] &= static_cast<u8>(~(PIE | AIE | UIE | SQWE));
  state_.cmos[C] = 0;
  update_line();
  plan();
}

bool Rtc::is_running() const {
  return (state_.cmos[B] & SET) == 0 && (state_.cmos[A] & DV) == kDividerOn;
}

i64 Rtc::guest_seconds() const {
  const i64 wall = static_cast<i64>(wall_.unix_ns() / kNsPerSecond);
  return clamp(wall + state_.offset_s, kFirstSecond, kLastSecond);
}

u8 Rtc::encode(unsigned value) const {
  if ((state_.cmos[B] & DM) != 0) return static_cast<u8>(value);
  return static_cast<u8>(value / 10 % 10 << 4 | value % 10);
}

unsigned Rtc::decode(u8 value) const {
  return (state_.cmos[B] & DM) != 0 ? value : (value >> 4) * 10u + (value & 15);
}

u8 Rtc::encode_hour(unsigned hour) const {
  if ((state_.cmos[B] & H24) != 0) return encode(hour);
  const u8 afternoon = hour >= 12 ? 0x80 : 0;
  return encode(hour % 12 == 0 ? 12 : hour % 12) | afternoon;
}

// 0..23, or -1 when the register holds no hour.
int Rtc::decode_hour(u8 value) const {
  if ((state_.cmos[B] & H24) != 0) return decode(value) < 24 ? static_cast<int>(decode(value)) : -1;
  const unsigned hour = decode(value & 0x7f);
  if (hour < 1 || hour > 12) return -1;
  return static_cast<int>(hour % 12 + ((value & 0x80) != 0 ? 12 : 0));
}

void Rtc::registers_from_date() {
  const i64 seconds = guest_seconds();
  const i64 in_day = second_of_day(seconds);
  const i64 days = (seconds - in_day) / kDaySeconds;
  const Date date = date_of(days);
  u8* r = state_.cmos;
  r[Seconds] = encode(static_cast<unsigned>(in_day % 60));
  r[Minutes] = encode(static_cast<unsigned>(in_day / 60 % 60));
  r[Hours] = encode_hour(static_cast<unsigned>(in_day / 3600));
  r[Weekday] = encode(weekday_of(days));
  r[Day] = encode(date.day);
  r[Month] = encode(date.month);
  r[Year] = encode(static_cast<unsigned>(date.year % 100));
  r[kCentury] = encode(static_cast<unsigned>(date.year / 100));
}

// Nonsense in the registers becomes the nearest date that makes sense of it.
void Rtc::date_from_registers() {
  const u8* r = state_.cmos;
  Date date;
  date.year = i64{decode(r[kCentury])} * 100 + decode(r[Year]);
  date.month = static_cast<unsigned>(clamp(decode(r[Month]), 1, 12));
  date.day = static_cast<unsigned>(clamp(decode(r[Day]), 1, 31));
  const int hour = decode_hour(r[Hours]);
  const i64 in_day = i64{hour < 0 ? 0 : hour} * 3600 + i64{decode(r[Minutes])} * 60 + decode(r[Seconds]);
  const i64 seconds = clamp(days_of(date) * kDaySeconds + in_day, kFirstSecond, kLastSecond);
  state_.offset_s = seconds - static_cast<i64>(wall_.unix_ns() / kNsPerSecond);
  state_.seen_s = seconds;
}

bool Rtc::alarm_field_matches(u8 alarm, int value, int decoded) const {
  return is_wildcard(alarm) || value == decoded;
}

// The first second after `after` that the alarm registers match. Steps over hours, then minutes, then
// seconds, so that a few hundred steps cover the day in which it must lie.
i64 Rtc::next_alarm(i64 after) const {
  const u8* r = state_.cmos;
  i64 t = after + 1;
  for (int step = 0; step < 400; ++step) {
    const i64 in_day = second_of_day(t);
    if (!alarm_field_matches(r[HoursAlarm], static_cast<int>(in_day / 3600), decode_hour(r[HoursAlarm]))) {
      t += 3600 - in_day % 3600;
    } else if (!alarm_field_matches(r[MinutesAlarm], static_cast<int>(in_day / 60 % 60),
                                    static_cast<int>(decode(r[MinutesAlarm])))) {
      t += 60 - in_day % 60;
    } else if (!alarm_field_matches(r[SecondsAlarm], static_cast<int>(in_day % 60),
                                    static_cast<int>(decode(r[SecondsAlarm])))) {
      t += 1;
    } else {
      return t;
    }
  }
  return kNoAlarm;
}

// Crystal ticks between periodic interrupts; 0: none. Data sheet, table 5 (32.768 kHz time base).
u64 Rtc::periodic_ticks() const {
  const unsigned rate = state_.cmos[A] & RS;
  if (rate == 0 || (state_.cmos[A] & DV) != kDividerOn) return 0;
  return u64{1} << (rate <= 2 ? rate + 6 : rate - 1);
}

void Rtc::collect_flags() {
  u8& flags = state_.cmos[C];
  const u64 ticks = ticks_at(clock_.now_ns(), kCrystalHz);
  const u64 period = periodic_ticks();
  if (period != 0 && ticks / period > state_.periodic_from / period) flags |= PF;
  state_.periodic_from = ticks;
  if (!is_running()) return;
  const i64 now = guest_seconds();
  if (now > state_.seen_s) {
    flags |= UF;
    if ((flags & AF) == 0 && next_alarm(state_.seen_s) <= now) flags |= AF;
  }
  state_.seen_s = now;
}

void Rtc::update_line() {
  irq8_.set((state_.cmos[C] & state_.cmos[B] & (PF | AF | UF)) != 0);
}

// When the next flag that interrupts, and is not set yet, will be set.
void Rtc::plan() {
  deadline_ns_ = kNever;
  const u8 waiting = state_.cmos[B] & static_cast<u8>(~state_.cmos[C]) & (PF | AF | UF);
  if (waiting == 0) return;
  const u64 now = clock_.now_ns();
  const u64 period = periodic_ticks();
  if ((waiting & PF) != 0 && period != 0) {
    deadline_ns_ = instant_of((ticks_at(now, kCrystalHz) / period + 1) * period, kCrystalHz);
  }
  if (!is_running() || (waiting & (AF | UF)) == 0) return;
  const u64 to_next_second = kNsPerSecond - wall_.unix_ns() % kNsPerSecond;
  u64 wait = to_next_second;
  if ((waiting & UF) == 0) {
    const i64 seconds = guest_seconds();
    const i64 alarm = next_alarm(seconds);
    wait = to_next_second + static_cast<u64>(clamp(alarm - seconds - 1, 0, 60)) * kNsPerSecond;
    if (wait > kLongestWaitNs) wait = kLongestWaitNs;
  }
  const u64 instant = add_saturating(now, wait);
  if (instant < deadline_ns_) deadline_ns_ = instant;
}

void Rtc::advance(u64 now_ns) {
  if (now_ns < deadline_ns_) return;
  collect_flags();
  update_line();
  plan();
}

u8 Rtc::read(u16 offset) {
  return (offset & 1) == 0 ? state_.index : read_data(state_.index);
}

void Rtc::write(u16 offset, u8 value) {
  if ((offset & 1) == 0) {
    state_.index = value & 0x7f;  // bit 7 masks NMI on real boards
  } else {
    write_data(state_.index, value);
  }
}

u8 Rtc::read_data(u8 index) {
  if (index == A) {
    const bool updating = is_running() && wall_.unix_ns() % kNsPerSecond >= kNsPerSecond - kUpdateWarningNs;
    return state_.cmos[A] | (updating ? UIP : u8{0});
  }
  if (index == C) {
    collect_flags();
    const u8 flags = state_.cmos[C];
    const bool interrupts = (flags & state_.cmos[B] & (PF | AF | UF)) != 0;
    state_.cmos[C] = 0;
    update_line();
    plan();
    return flags | (interrupts ? IRQF : u8{0});
  }
  if (is_clock_register(index) && !is_alarm_register(index) && is_running()) registers_from_date();
  return state_.cmos[index];
}

void Rtc::write_data(u8 index, u8 value) {
  collect_flags();
  if (index == A || index == B) {
    const bool was_running = is_running();
    if (was_running) registers_from_date();
    if (index == A) {
      state_.cmos[A] = value & static_cast<u8>(~UIP);
    } else {
      write_b(value);
    }
    if (!was_running && is_running()) date_from_registers();
  } else if (index == C || index == D) {
    return;  // read-only
  } else if (is_clock_register(index) && !is_alarm_register(index) && is_running()) {
    registers_from_date();
    state_.cmos[index] = value;
    date_from_registers();
  } else {
    state_.cmos[index] = value;
  }
  update_line();
  plan();
}

void Rtc::write_b(u8 value) {
  if ((value & SET) != 0) value &= static_cast<u8>(~UIE);  // data sheet, "SET"
  state_.cmos[B] = value;
}

void Rtc::set_nvram(u8 index, u8 value) {
  if (index > D && index < sizeof state_.cmos && index != kCentury) state_.cmos[index] = value;
}

Status Rtc::load(const State& state) {
  if (state.version != State::kVersion) return Error("the RTC's saved state has an unknown version");
  constexpr i64 kFar = i64{1} << 42;
  if (state.offset_s < -kFar || state.offset_s > kFar || state.seen_s < -kFar || state.seen_s > kFar) {
    return Error("the RTC's saved state is damaged: its date is out of range");
  }
  state_ = state;
  state_.index &= 0x7f;
  state_.cmos[A] &= static_cast<u8>(~UIP);
  state_.cmos[C] &= PF | AF | UF;
  state_.cmos[D] = VRT;
  update_line();
  plan();
  return {};
}

}  // namespace nacre::time
