// One counter of the 8254 as arithmetic: its output and count at any tick, from the instant and the
// count it was loaded with. Intel 8254 data sheet, "Mode definitions".
#pragma once

#include "base/clock.hpp"
#include "time/pit/pit.hpp"

namespace nacre::time::counter {

// Ticks counted since the load: 0 until the load takes effect.
u64 elapsed(const Pit::Counter& counter, u64 now);
bool output(const Pit::Counter& counter, u64 now);
u16 value(const Pit::Counter& counter, u64 now);     // as read, BCD when asked
bool is_null(const Pit::Counter& counter, u64 now);  // "null count": what was written is not loaded yet
// First tick after `after` at which the output rises by itself; kNever when it does not.
u64 next_rising_edge(const Pit::Counter& counter, u64 after);

// Takes a pending count over if its period has begun by `now`.
void settle(Pit::Counter& counter, u64 now);
void set_mode(Pit::Counter& counter, u8 mode, u8 access, bool bcd);
void load(Pit::Counter& counter, u16 written, u64 now);
void set_gate(Pit::Counter& counter, bool gate, u64 now);

}  // namespace nacre::time::counter
