// Finds instructions in a page of guest code that must not run natively: those that give away the host's
// values without a trap (CPUID, XGETBV, RDTSCP, SGDT …), and what reaches the host's kernel or hypervisor in
// a way of its own. Every byte is looked at, as a jump may go anywhere. Bytes that look like one are
//   an instruction, when whatever decoding begins some way before them comes to begin one there: as the true
//   sequence of
//     instructions is among those tried, it does too. In a copy of the page the byte behind 0F is replaced by
//     0B: UD2.
//   in the middle of another instruction, when no such decoding begins one there, or
//   doubtful.
// The host's safety does not depend on this, only what the guest sees. General registers only; allocates
// nothing.
#pragma once

#include <span>

#include "base/types.hpp"

namespace nacre::direct {

inline constexpr usize kMostPatches = 64;

struct PageVerdict {
  bool may_run = true;  // natively, if the patches are made
  u32 patches = 0;
  u16 patch[kMostPatches] = {};  // offsets of bytes that are to become kPatch
};
inline constexpr u8 kPatch = 0x0b;

[[nodiscard]] PageVerdict scan_page(std::span<const u8, kPageSize> page);

// An instruction may begin in one page and end in the next. True when one that must not run could: `last` is
// the end of a page, `first` the beginning of the next, kSeam bytes each.
inline constexpr usize kSeam = 2;
[[nodiscard]] bool seam_holds_refused(std::span<const u8, kSeam> last, std::span<const u8, kSeam> first);

}  // namespace nacre::direct
