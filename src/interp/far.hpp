// Checks that far transfers share. SDM vol. 3, 5.8. Freestanding; owned by the vCPU's thread.
#pragma once

#include "interp/segments.hpp"

namespace nacre::interp {

// CS for a return (retf, iret) to `selector`; its RPL is the privilege returned to.
bool return_code_segment(Core& core, u16 selector, Segment& code);
// SS of a return's frame; null is allowed when returning to 64-bit code that is not user code.
bool return_stack_segment(Core& core, u16 selector, const Segment& code, Segment& stack);
// Whether execution may go on at `offset` in `code`: canonical, or within its limit. #GP(0).
bool check_target(Core& core, const Segment& code, u64 offset);
// After `code` became current: is it 64-bit?
bool is_long_code(const Core& core, const Segment& code);

}  // namespace nacre::interp
