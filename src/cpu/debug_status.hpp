// DR6: why a debug exception came.
#pragma once

#include "cpu/state.hpp"

namespace nacre::cpu {

// Tells a debug exception's causes. Each one says anew which breakpoints it has met; what else DR6 has is the handler's to
// clear. AMD's manual demands the first (vol. 2, 13.1.1.3: "and is cleared to 0 otherwise"), Intel's allows it (vol. 3,
// 17.2.3: "certain debug exceptions may clear bits 0-3"), and their processors do it.
constexpr void tell_debug_causes(State& state, u64 causes) {
  constexpr u64 breakpoints = 0xf;  // B0 to B3
  state.dr6 = (state.dr6 & ~breakpoints) | causes;
}

}  // namespace nacre::cpu
