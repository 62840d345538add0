#include "time/pit/counter.hpp"

namespace nacre::time::counter {
namespace {

bool is_periodic(const Pit::Counter& c) {
  return c.mode == 2 || c.mode == 3;
}
bool waits_for_gate(const Pit::Counter& c) {
  return c.mode == 1 || c.mode == 5;
}

u32 modulus(const Pit::Counter& c) {
  return c.bcd != 0 ? 10'000 : 0x1'0000;
}

u32 from_bcd(u16 raw) {
  return (raw >> 12 & 15) * 1000u + (raw >> 8 & 15) * 100u + (raw >> 4 & 15) * 10u + (raw & 15);
}
u16 to_bcd(u32 n) {
  return static_cast<u16>((n / 1000 % 10) << 12 | (n / 100 % 10) << 8 | (n / 10 % 10) << 4 | n % 10);
}

// Ticks of mode 3's high part; the rest of the period is low.
u32 high_part(const Pit::Counter& c) {
  return (c.count + 1) / 2;
}

void start(Pit::Counter& c, u64 now) {
  c.start = now + 1;  // the data sheet loads on the next clock pulse
  c.frozen = 0;
  c.armed = 1;
  c.counting = 1;
  c.next_count = 0;
}

}  // namespace

u64 elapsed(const Pit::Counter& c, u64 now) {
  if (c.counting == 0) return c.frozen;
  return now > c.start ? now - c.start : 0;
}

bool output(const Pit::Counter& c, u64 now) {
  if (c.armed == 0) return c.mode != 0;
  const u64 t = elapsed(c, now);
  switch (c.mode) {
    case 0:
      return t >= c.count;
    case 1:
      return t >= c.count || (c.counting != 0 && now < c.start);
    case 2:
      return c.gate == 0 || t % c.count != c.count - 1;
    case 3:
      return c.gate == 0 || t % c.count < high_part(c);
    default:
      return t != c.count;  // 4 and 5: one low pulse
  }
}

u16 value(const Pit::Counter& c, u64 now) {
  const u64 t = elapsed(c, now);
  u32 left;
  if (c.armed == 0) {
    left = c.count;
  } else if (c.mode == 2) {
    left = c.count - static_cast<u32>(t % c.count);
  } else if (c.mode == 3) {  // counts by two, twice a period; always even
    const u32 phase = static_cast<u32>(t % c.count);
    const u32 in_half = phase < high_part(c) ? phase : phase - high_part(c);
    const u32 even = c.count & ~1u;
    left = even > 2 * in_half ? even - 2 * in_half : 0;
  } else {  // runs on past zero
    const u64 wrapped = t % modulus(c);
    left = static_cast<u32>((c.count + modulus(c) - wrapped) % modulus(c));
  }
  return c.bcd != 0 ? to_bcd(left) : static_cast<u16>(left);
}

bool is_null(const Pit::Counter& c, u64 now) {
  return c.next_count != 0 || c.armed == 0 || (c.counting != 0 && now < c.start);
}

u64 next_rising_edge(const Pit::Counter& c, u64 after) {
  if (c.armed == 0 || c.counting == 0) return kNever;
  if (is_periodic(c)) {
    const u64 from = after < c.start ? 0 : after - c.start;
    const u64 periods = from / c.count + 1;
    // The first period in mode 2 starts high already: the first rise is at its end.
    return c.start + periods * c.count;
  }
  const u64 rise = c.start + c.count + (c.mode >= 4 ? 1 : 0);
  return rise > after ? rise : kNever;
}

void settle(Pit::Counter& c, u64 now) {
  if (c.next_count == 0 || c.counting == 0 || now < c.start) return;
  const u64 periods = (now - c.start) / c.count;
  if (periods == 0) return;
  // The new count was loaded at the first period end after it was written; `start` is moved there on
  // writing (see load), so that is exactly one period on.
  c.start += c.count;
  c.count = c.next_count;
  c.next_count = 0;
}

void set_mode(Pit::Counter& c, u8 mode, u8 access, bool bcd) {
  c.mode = mode >= 6 ? mode - 4 : mode;  // 6 and 7 are 2 and 3
  c.access = access;
  c.bcd = bcd ? 1 : 0;
  c.armed = c.counting = 0;
  c.frozen = 0;
  c.next_count = 0;
  c.write_high_next = c.read_high_next = 0;
  c.count_latched = c.status_latched = 0;
}

void load(Pit::Counter& c, u16 written, u64 now) {
  u32 count = c.bcd != 0 ? from_bcd(written) % 10'000 : written;
  if (count == 0) count = modulus(c);
  if (c.mode == 3 && count == 1) count = 2;  // 1 is illegal in modes 2 and 3
  if (c.mode == 2 && count == 1) count = 2;
  if (waits_for_gate(c)) {
    // In force from the next trigger on.
    if (c.armed != 0) {
      c.next_count = count;
    } else {
      c.count = count;
    }
    return;
  }
  if (is_periodic(c) && c.counting != 0) {
    settle(c, now);
    if (now >= c.start) c.start += (now - c.start) / c.count * c.count;
    c.next_count = count;
    return;
  }
  c.count = count;
  start(c, now);
  if (c.gate == 0) c.counting = 0;
}

void set_gate(Pit::Counter& c, bool gate, u64 now) {
  if ((c.gate != 0) == gate) return;
  settle(c, now);
  const u64 counted = elapsed(c, now);
  c.gate = gate ? 1 : 0;
  if (waits_for_gate(c)) {
    if (!gate) return;
    if (c.next_count != 0) c.count = c.next_count;
    start(c, now);
    return;
  }
  if (c.armed == 0) return;
  if (!gate) {
    c.frozen = counted;
    c.counting = 0;
  } else if (is_periodic(c)) {
    if (c.next_count != 0) c.count = c.next_count;
    start(c, now);
  } else {
    c.counting = 1;
    c.start = now > c.frozen ? now - c.frozen : 0;
  }
}

}  // namespace nacre::time::counter
