// Gathers and scatters: one guest access an element, so that faults, devices and other address spaces come
// out right. SDM vol. 2, VPGATHERDD, VPSCATTERDD …. Freestanding; owned by the vCPU's thread.
#pragma once

#include "interp/vector_unit.hpp"

namespace nacre::interp {

// `offset` is base plus displacement; the indices are added here.
VectorResult gather(cpu::State& state, const cpu::XsaveLayout& layout, const x86::Instruction& instruction,
                    u64 offset, VectorMemory& memory);
VectorResult scatter(cpu::State& state, const cpu::XsaveLayout& layout, const x86::Instruction& instruction,
                     u64 offset, VectorMemory& memory);

}  // namespace nacre::interp
