// The `kvm` engine: guest code on VT-x or AMD-V, through the host's KVM. docs/adr/0018-kvm-engine.md.
#pragma once

#include <memory>
#include <string>

#include "base/result.hpp"
#include "cpu/host_cpuid.hpp"
#include "engine/context.hpp"
#include "engine/engine.hpp"

namespace nacre::kvm {

// The VM with its memory slots. `memory` has all its regions already. `apics`: with local APICs, where has_local_apics().
Result<std::unique_ptr<engine::Group>> make_group(const memory::AddressSpace& memory, bool apics);
// EngineContext::group is the VM.
Result<std::unique_ptr<engine::Vcpu>> make(const engine::EngineContext& context);

// Whether KVM keeps the processors' local APICs here (engine::Group::local_apics()).
bool has_local_apics();

// From what a guest's cpu::Model is to be made, with Execution::Direct.
Result<std::unique_ptr<cpu::HostCpuid>> host_cpuid();

// Whether it would be the fastest engine here.
struct Fitness {
  bool usable = false;  // it opens and can do what is needed
  bool fast = false;    // … on a processor that has VMX or SVM
  std::string reason;   // in a few words
  Error why_not;        // not usable: a sentence that says what to do
};
Fitness fitness();

}  // namespace nacre::kvm
