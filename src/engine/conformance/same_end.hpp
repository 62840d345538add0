// Whether two machines that ran the same program came to the same end. Tests only.
#pragma once

#include <gtest/gtest.h>

#include <cstring>

#include "engine/conformance/machine.hpp"

namespace nacre::conformance {

// General registers, RIP, flags and memory, but for the machine's own tables: accessed bits may be set in another order.
inline void expect_same_end(const Machine& one, const Machine& other) {
  const cpu::State &a = one.vcpu->state(), &b = other.vcpu->state();
  for (int i = 0; i < 16; i++) EXPECT_EQ(a.gpr[i], b.gpr[i]) << "register " << i;
  EXPECT_EQ(a.rip, b.rip);
  EXPECT_EQ(a.rflags, b.rflags);
  constexpr u64 kPageTables = 0x200000, kPageTablesEnd = 0x300000;
  EXPECT_EQ(std::memcmp(one.base + kProgram, other.base + kProgram, kPageTables - kProgram), 0);
  EXPECT_EQ(std::memcmp(one.base + kPageTablesEnd, other.base + kPageTablesEnd, kRamBytes - kPageTablesEnd), 0);
}

}  // namespace nacre::conformance
