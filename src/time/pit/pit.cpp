#include "time/pit/pit.hpp"

#include <type_traits>

#include "time/pit/counter.hpp"

namespace nacre::time {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<Pit::State>);

namespace {

constexpr u64 kRefreshNs = 15'085;  // port 61h bit 4 toggles with every memory refresh request

u8 status_byte(const Pit::Counter& c, u64 now) {
  const unsigned out = counter::output(c, now) ? 0x80 : 0;
  const unsigned null = counter::is_null(c, now) ? 0x40 : 0;
  return static_cast<u8>(out | null | unsigned{c.access} << 4 | unsigned{c.mode} << 1 | c.bcd);
}

void latch_count(Pit::Counter& c, u64 now) {
  if (c.count_latched != 0) return;  // kept until read
  c.latched_count = counter::value(c, now);
  c.count_latched = 1;
}

u8 read_count(Pit::Counter& c, u64 now) {
  const u16 value = c.count_latched != 0 ? c.latched_count : counter::value(c, now);
  const bool high = c.access == 2 || (c.access == 3 && c.read_high_next != 0);
  if (c.access == 3) c.read_high_next ^= 1;
  if (c.access != 3 || high) c.count_latched = 0;
  return static_cast<u8>(high ? value >> 8 : value);
}

}  // namespace

void Pit::reset() {
  state_ = State{};
  state_.counter[2].gate = 0;
  state_.seen = tick();
  update_output0(state_.seen);
}

u8 Pit::read(u16 offset) {
  if ((offset & 3) == 3) return 0;  // the control word cannot be read
  const u64 now = tick();
  Counter& c = state_.counter[offset & 3];
  counter::settle(c, now);
  if (c.status_latched != 0) {
    c.status_latched = 0;
    return c.latched_status;
  }
  return read_count(c, now);
}

void Pit::write(u16 offset, u8 value) {
  const u64 now = tick();
  update_output0(now);
  if ((offset & 3) == 3) {
    write_control(value, now);
  } else {
    Counter& c = state_.counter[offset & 3];
    counter::settle(c, now);
    write_count(c, value, now);
  }
  state_.seen = now;
  update_output0(now);
}

void Pit::write_control(u8 value, u64 now) {
  const unsigned select = value >> 6;
  if (select == 3) {
    read_back(value, now);
    return;
  }
  Counter& c = state_.counter[select];
  counter::settle(c, now);
  const u8 access = value >> 4 & 3;
  if (access == 0) {
    latch_count(c, now);
  } else {
    counter::set_mode(c, value >> 1 & 7, access, (value & 1) != 0);
  }
}

// Data sheet, "Read-back command": bits 5 and 4 are active low.
void Pit::read_back(u8 command, u64 now) {
  for (unsigned i = 0; i < 3; ++i) {
    if ((command >> (i + 1) & 1) == 0) continue;
    Counter& c = state_.counter[i];
    counter::settle(c, now);
    if ((command & 0x20) == 0) latch_count(c, now);
    if ((command & 0x10) == 0 && c.status_latched == 0) {
      c.latched_status = status_byte(c, now);
      c.status_latched = 1;
    }
  }
}

void Pit::write_count(Counter& c, u8 value, u64 now) {
  switch (c.access) {
    case 1:
      counter::load(c, value, now);
      return;
    case 2:
      counter::load(c, static_cast<u16>(value << 8), now);
      return;
    default:
      break;
  }
  if (c.write_high_next == 0) {
    c.low_byte = value;
    c.write_high_next = 1;
    // Mode 0: the first byte stops the counter and drives the output low.
    if (c.mode == 0) c.armed = c.counting = 0;
    return;
  }
  c.write_high_next = 0;
  counter::load(c, static_cast<u16>(value << 8 | c.low_byte), now);
}

u8 Pit::read_port61() {
  const u64 now_ns = clock_.now_ns();
  Counter& c = state_.counter[2];
  const u64 now = ticks_at(now_ns, kHz);
  counter::settle(c, now);
  const unsigned refresh = now_ns / kRefreshNs % 2 != 0 ? 0x10 : 0;
  const unsigned out = counter::output(c, now) ? 0x20 : 0;
  return static_cast<u8>(out | refresh | state_.speaker | c.gate);
}

void Pit::write_port61(u8 value) {
  state_.speaker = value & 0x0e;
  counter::set_gate(state_.counter[2], (value & 1) != 0, tick());
}

u64 Pit::next_deadline() const {
  const u64 edge = counter::next_rising_edge(state_.counter[0], state_.seen);
  return edge == kNever ? kNever : instant_of(edge, kHz);
}

void Pit::advance(u64 now_ns) {
  const u64 now = ticks_at(now_ns, kHz);
  if (now > state_.seen) update_output0(now);
}

// Brings counter 0's wire up to date. Rises that were missed in between become one, as they do on a
// wire nobody looked at.
void Pit::update_output0(u64 now) {
  Counter& c = state_.counter[0];
  const u64 edge = counter::next_rising_edge(c, state_.seen);
  counter::settle(c, now);
  const bool level = counter::output(c, now);
  if (edge <= now) {
    irq0_.lower();
    irq0_.raise();
  }
  irq0_.set(level);
  state_.output0 = level ? 1 : 0;
  state_.seen = now;
}

Status Pit::load(const State& state) {
  if (state.version != State::kVersion) return Error("the PIT's saved state has an unknown version");
  for (const Counter& c : state.counter) {
    const bool count_ok = c.count >= 2 || (c.count == 1 && c.mode != 2 && c.mode != 3);
    if (c.mode > 5 || c.access == 0 || c.access > 3 || !count_ok || c.count > 0x1'0000 ||
        c.next_count > 0x1'0000 || (c.next_count == 1 && (c.mode == 2 || c.mode == 3)) ||
        c.start > (u64{1} << 62) || c.frozen > (u64{1} << 62)) {
      return Error("the PIT's saved state is damaged: a counter's mode or count is out of range");
    }
  }
  state_ = state;
  state_.speaker &= 0x0e;
  state_.output0 &= 1;
  if (state_.seen > (u64{1} << 62)) state_.seen = u64{1} << 62;
  for (Counter& c : state_.counter) {
    for (u8* flag : {&c.bcd, &c.gate, &c.armed, &c.counting, &c.write_high_next, &c.read_high_next,
                     &c.count_latched, &c.status_latched}) {
      *flag = *flag != 0 ? 1 : 0;
    }
    if (c.armed == 0) c.counting = 0;
  }
  return {};
}

}  // namespace nacre::time
