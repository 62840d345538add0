// Says how two outcomes of one case differ, leaving out what the manuals leave undefined. Tests only.
#pragma once

#include <string>

#include "cpu/xsave_layout.hpp"
#include "engine/conformance/test_case.hpp"
#include "x86/instruction.hpp"

namespace nacre::conformance {

// What an engine does not promise.
struct Tolerance {
  // Of an instruction that faults: the flags that it would have written. (A translator tests addresses with
  // the flags that are about to be overwritten; the instruction is restarted, so nothing but a debugger sees
  // it.)
  bool flags_of_faulting_instruction = false;
  // A jump or return to a non-canonical address raises its #GP at the target, not at the branch. (No kernel
  // or program goes on after it; testing each target would cost every return.)
  bool noncanonical_branch_faults_at_target = false;
};

// What is left out of a comparison.
struct Ignored {
  u64 flags = 0;
  bool fault_address = false;
  bool everything = false;
  bool upper_halves = false;  // of general registers: undefined after 32-bit code
  bool segment_end = false;   // #GP or #PF where an operand runs over 4 GiB: either may come first
};
Ignored ignored_for(const x86::Instruction& instruction, const Outcome& native, Tolerance tolerance);

// Empty when they agree. One line a difference: "rax: native …, engine …".
std::string differences(const cpu::XsaveLayout& layout, const Outcome& native, const Outcome& engine,
                        const Ignored& ignored);

// The same of what only engines have: control registers, segments, MSRs.
std::string system_differences(const cpu::State& reference, const cpu::State& engine);

// Bytes, disassembly and the state that matters, for a report.
std::string describe(const Case& test);

}  // namespace nacre::conformance
