// Strings on their way into guest memory. Freestanding.
#pragma once

#include "board/boot/boot.hpp"
#include "board/boot/placer.hpp"

namespace nacre::board::boot {

// Places `first`, a space if there is a `second`, `second`, and a zero byte. Returns the address.
// Error when longer than `limit` bytes without the zero, or when it holds a zero itself.
Result<u64> place_text(const Machine& machine, Placer& placer, std::string_view first,
                       std::string_view second, u64 limit, const char* what);

}  // namespace nacre::board::boot
