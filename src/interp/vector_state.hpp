// The instructions that move whole images of the extended state: fxsave, fxrstor, xsave, xsaveopt, xsavec,
// xrstor. They only copy between State::xsave and guest memory, so they run nothing on the host. SDM vol. 1,
// 10.5 and chapter 13. Freestanding; owned by the vCPU's thread.
#pragma once

#include "cpu/model.hpp"
#include "interp/vector_unit.hpp"

namespace nacre::interp {

// What the caller has checked before: CR0.TS and EM, CR4.OSXSAVE, privilege, that the model has the
// instruction. Alignment (16 bytes, 64 for the xsave family), header and MXCSR checks are made here:
// Exception with GP. Unsupported for any other instruction.
VectorResult run_state_image(cpu::State& state, const x86::Instruction& instruction, u64 offset,
                             VectorMemory& memory, const cpu::Model& model);

}  // namespace nacre::interp
