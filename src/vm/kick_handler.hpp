// A timer or another thread wants the vCPU out of guest code. Engines whose code must be looked at to be
// stopped have a handler of their own inside this one.
#pragma once

#include "engine/engine.hpp"
#include "host/signals.hpp"
#include "vm/machine.hpp"

namespace nacre::vm {

class KickHandler final : public host::FaultHandler {
 public:
  KickHandler(engine::Vcpu& vcpu, Machine::Timer& timer) : vcpu_(vcpu), timer_(timer) {}
  bool handle(int signal, siginfo_t* info, ucontext_t* context) override;

 private:
  engine::Vcpu& vcpu_;
  Machine::Timer& timer_;
};

}  // namespace nacre::vm
