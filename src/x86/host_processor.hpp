// Runs one unprivileged instruction on the processor that the tests run on, and says what became of it.
// For tests only; one object at a time, one thread.
#pragma once

#include <csetjmp>
#include <csignal>

#include "x86/instruction.hpp"

namespace nacre::x86 {

struct Registers {
  u64 gpr[16] = {};
  u64 flags = 0;
};

struct Outcome {
  int signal = 0;         // SIGTRAP: ran to its end
  usize length = 0;       // bytes consumed, with SIGTRAP
  u64 fault_address = 0;  // with SIGSEGV
  Registers after;
};

class HostProcessor {
 public:
  static constexpr u64 kPage = 0x20000000;      // a page that can be read and written, with nothing behind it
  static constexpr u64 kReadOnly = 0x20010000;  // one that can only be read

  HostProcessor();
  ~HostProcessor();
  HostProcessor(const HostProcessor&) = delete;
  HostProcessor& operator=(const HostProcessor&) = delete;

  // x87 and SSE exceptions are masked, their registers hold a fixed pattern, k0 to k7 are all ones.
  Outcome run(const u8* bytes, usize length, const Registers& before);

 private:
  struct sigaction saved_[5];
  stack_t saved_stack_{};
};

}  // namespace nacre::x86
