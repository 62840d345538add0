// A vCPU that runs a guest under `soft` and has the interpreter follow in a second copy of memory: the first
// difference ends run() with Failed, and the report is in Outcome. docs/lock-step.md is its map. One
// processor only: nobody else may write to the guest's memory but through AddressSpace::write() on the vCPU's
// thread.
#pragma once

#include <memory>
#include <string>

#include "engine/context.hpp"
#include "engine/engine.hpp"

namespace nacre::lockstep {

struct Options {
  bool by_kvm = false;           // the interpreter runs the guest, and KVM follows (follow_kvm.hpp); else soft and the interpreter
  u32 blocks = 16;               // a step is 1 to this many, at random
  u32 stop_every = 200;          // one step in so many is stopped at a random host instruction; 0: none
  u64 memory_every = 1'000'000;  // steps between two comparisons of all memory; 0: only at the end
  u64 seed = 1;
  std::string mistranslate;  // a mnemonic that is translated wrongly, to see that it is found; empty: none
};

// Read after the vCPU's thread has ended.
struct Outcome {
  bool diverged = false;
  std::string report;
  u64 steps = 0;
  u64 instructions = 0;
  u64 stops = 0;  // at random host instructions
  u64 interrupts = 0, exceptions = 0;
  u64 platform_calls = 0;
  u64 memory_checks = 0;
  // What differed and may: docs/lock-step.md.
  u64 dead_flags = 0, undefined_flags = 0, frame_flags = 0, accessed_bits = 0, dirty_bits = 0;
  u64 taken_over = 0;  // by_kvm: instructions where KVM could not be stopped
};

// `options` and `outcome` outlive the vCPU.
Result<std::unique_ptr<engine::Vcpu>> make(const engine::EngineContext& context, const Options& options,
                                           Outcome& outcome);

}  // namespace nacre::lockstep
