// Delivery of exceptions and interrupts through the IVT or IDT. SDM vol. 3, chapter 6, and 20.1.4.
// Freestanding; owned by the vCPU's thread.
#pragma once

#include "interp/core.hpp"

namespace nacre::interp {

// One attempt. False: Core::fault is what went wrong in delivery; nothing has changed but what was
// pushed. On success state.rip is the handler's.
// `return_rip` is what the handler returns to.
bool deliver_event(Core& core, const cpu::Event& event, u64 return_rip);

// What to deliver when `second` arises while `first` is being delivered: SDM vol. 3, table 6-5.
// False: shutdown.
bool combine_faults(const cpu::Event& first, const cpu::Event& second, cpu::Event& result);

// Reads RSP0..2 or IST1..7 (`offset` in bytes) of a 64-bit TSS.
bool read_tss64_stack(Core& core, unsigned offset, bool external, u64& stack);
// Reads SS:ESP for privilege `cpl` from a 32- or 16-bit TSS.
bool read_tss_stack(Core& core, unsigned cpl, bool external, u16& selector, u64& pointer);

}  // namespace nacre::interp
