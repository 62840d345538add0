// Control-register values with all their checks and consequences; MOV CR, LMSW, CLTS and WRMSR(EFER)
// come here. SDM vol. 3, 2.5, 4.1 and 9.8. False: #GP(0), nothing changed.
// Freestanding; owned by the vCPU's thread.
#pragma once

#include "interp/core.hpp"

namespace nacre::interp {

bool set_cr0(Core& core, u64 value);
bool set_cr3(Core& core, u64 value);
bool set_cr4(Core& core, u64 value);
bool set_efer(Core& core, u64 value);

}  // namespace nacre::interp
