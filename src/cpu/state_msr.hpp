// Which model-specific registers are a plain word of State. SDM vol. 4, table 2-2; vol. 3, 11.11 (MTRR). Freestanding.
#pragma once

#include "cpu/state.hpp"

namespace nacre::cpu {

inline constexpr u32 kFixedMtrrs[11] = {0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f};
inline constexpr u32 kFirstVariableMtrr = static_cast<u32>(x86::Msr::IA32_MTRR_PHYSBASE0), kVariableMtrrs = 16;

// Null: none of them. Says nothing of whether a model has it, or takes a value.
[[nodiscard]] u64* msr_in(State& state, u32 msr);

}  // namespace nacre::cpu
