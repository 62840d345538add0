// A kernel's file on its way into a machine. Hosted; before the machine starts.
#pragma once

#include <string>

#include "board/boot/boot.hpp"
#include "vm/vm.hpp"

namespace nacre::app {

// Loads the kernel at `path` with what else `request` holds (its kernel fields are filled in here). A Linux
// kernel that was booted before is not even read: what was unpacked then is in the cache folder. `most` is
// how large a kernel can be: the guest's memory.
Status load_kernel(vm::Vm& vm, const std::string& path, u64 most, board::boot::Request request);

}  // namespace nacre::app
