// Random register contents. Tests only.
#pragma once

#include "cpu/xsave_layout.hpp"
#include "engine/conformance/random.hpp"
#include "engine/conformance/test_case.hpp"

namespace nacre::conformance {

// A value of the kind bugs like: small, a boundary, a pointer into the data, or anything.
u64 random_value(Random& random);
// An address of `bytes` bytes in the data pages: inside, across pages, over an edge. aligned: to a multiple
// of `bytes`.
u64 random_target(Random& random, unsigned bytes, bool aligned);
void random_registers(Random& random, const cpu::XsaveLayout& layout, Registers& registers);

}  // namespace nacre::conformance
