// A vCPU that runs a guest under `interp` and has KVM follow, instruction for instruction, in a second copy
// of memory: the first difference ends run() with Failed, and the report is in Outcome. docs/lock-step.md,
// "KVM follows". One processor.
#pragma once

#include "engine/lockstep/lock_step.hpp"

namespace nacre::lockstep {

// Where KVM cannot follow, the Error says why. `options` and `outcome` outlive the vCPU.
Result<std::unique_ptr<engine::Vcpu>> make_followed_by_kvm(const engine::EngineContext& context,
                                                           const Options& options, Outcome& outcome);

// Whether it could. Before a guest is made.
Status kvm_can_follow();

}  // namespace nacre::lockstep
