// Ending: why a VM's life ended.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::vm {

struct Ending {
  enum class Kind : u8 {
    None,      // it lives
    PowerOff,  // the guest switched itself off
    Reset,     // the guest asked for a reset
    TripleFault,
    Panic,          // the guest's kernel said so (pvpanic)
    DebugExit,      // code: what the guest wrote to the debug-exit port
    Stopped,        // Vm::stop(): the user or a time limit
    EngineFailure,  // error says why
  };
  Kind kind = Kind::None;
  u32 code = 0;
  Error error;
};

}  // namespace nacre::vm
