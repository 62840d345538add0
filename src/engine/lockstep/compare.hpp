// Whether two processors' states are the same, and if not, in what. Vector state is compared by content: a
// component that is in its initial configuration may be marked so or spelt out.
#pragma once

#include <string>

#include "cpu/state.hpp"
#include "cpu/xsave_layout.hpp"

namespace nacre::lockstep {

// All but arithmetic flags, whose difference is returned through `flags`.
bool states_equal(const cpu::State& running, const cpu::State& shadow, const cpu::XsaveLayout& layout,
                  u64& flags);

// How much differs, to find the likeliest of several states: registers, RIP and flags.
unsigned distance(const cpu::State& running, const cpu::State& shadow);

// One line a difference: "  rax        0000000000000001   0000000000000002".
std::string differences(const cpu::State& running, const cpu::State& shadow, const cpu::XsaveLayout& layout);

// The general registers, RIP and flags of both, equal ones too, and of a third state.
std::string general(const cpu::State& running, const cpu::State& shadow, const cpu::State& before);

}  // namespace nacre::lockstep
