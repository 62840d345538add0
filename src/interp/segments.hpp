// Loading segment registers and finding descriptors. SDM vol. 3, 3.4 and 5.4 to 5.9.
// Freestanding; owned by the vCPU's thread.
#pragma once

#include "cpu/descriptor.hpp"
#include "interp/core.hpp"

namespace nacre::interp {

// A descriptor and where it came from.
struct DescriptorSlot {
  cpu::Descriptor descriptor;
  u64 address = 0;  // linear
};

// Error code of a selector: its index and table bits, and EXT. SDM vol. 3, 6.13.
constexpr u32 selector_error(u16 selector, bool external = false) {
  return (selector & ~3u) | (external ? 1u : 0u);
}

// Reads the 8 bytes a selector names. Outside its table: `vector`(selector).
bool read_descriptor(Core& core, u16 selector, Vector vector, bool external, DescriptorSlot& slot);
// The upper 8 bytes of a 16-byte system descriptor or gate.
bool read_upper_half(Core& core, u16 selector, Vector vector, const DescriptorSlot& slot, u64& upper);
// Sets the accessed bit in memory and in the copy.
bool mark_accessed(Core& core, DescriptorSlot& slot);

// Mov, pop, lds …: everything but CS. SDM vol. 2, MOV.
bool load_segment(Core& core, SegmentIndex index, u16 selector);
// The value load_segment gives a register outside protected mode.
void load_real_segment(Core& core, SegmentIndex index, u16 selector);
// SS for a stack of privilege `cpl`, from a TSS or a far return's frame. `vector` is #TS or #GP.
bool read_stack_segment(Core& core, u16 selector, unsigned cpl, Vector vector, bool external, Segment& stack);
// A register that names nothing; `dpl` is kept in SS, where the CPL lives.
Segment null_segment(u16 selector, unsigned dpl);
// After a transfer to an outer privilege: data registers that it may not use become null.
void drop_inner_segments(Core& core, unsigned cpl);

// Flat segments as the fast system calls load them. SDM vol. 2, SYSCALL.
Segment flat_code(u16 selector, unsigned dpl, bool is_long);
Segment flat_data(u16 selector, unsigned dpl);

}  // namespace nacre::interp
