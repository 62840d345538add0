// Finds instructions that must not run natively in guest code: those that give away the host's values without a
// trap (CPUID, XGETBV, RDPID, SGDT …), and SYSENTER. Every byte position is tried, as a jump may go anywhere, so
// data that looks like one counts too: the page just stays with the translator.
// The host's safety does not depend on it, only what the guest sees.
#pragma once

#include <span>

#include "base/types.hpp"

namespace nacre::direct {

// True when one of the refused instructions begins in `bytes`, as far as its opcode bytes are there.
// `umip`: host and guest both keep SGDT and its like from user code (CR4.UMIP), so that these trap.
[[nodiscard]] bool holds_refused(std::span<const u8> bytes, bool umip = false);

// How many bytes of two neighbouring pages must be looked at together.
inline constexpr usize kScanOverlap = 2;

}  // namespace nacre::direct
