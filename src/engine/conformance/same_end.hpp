// Whether two machines that ran the same program came to the same end. Tests only.
#pragma once

#include <gtest/gtest.h>

#include <cstring>

#include "engine/conformance/machine.hpp"

namespace nacre::conformance {

// General registers, RIP, flags and the memory that a program uses: not the machine's own tables, where accessed bits may be set in
// another order, nor the stack's, where emulated processors push other flags for a fault (RF).
inline void expect_same_end(const Machine& one, const Machine& other) {
  const cpu::State &a = one.vcpu->state(), &b = other.vcpu->state();
  for (int i = 0; i < 16; i++) EXPECT_EQ(a.gpr[i], b.gpr[i]) << "register " << i;
  EXPECT_EQ(a.rip, b.rip);
  EXPECT_EQ(a.rflags, b.rflags);
  constexpr u64 kPageTablesEnd = 0x300000;
  EXPECT_EQ(std::memcmp(one.base + kPageTablesEnd, other.base + kPageTablesEnd, kRamBytes - kPageTablesEnd), 0);
}

}  // namespace nacre::conformance
