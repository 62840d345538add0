// The small initial RAM disk of guests whose system is on a disk: agent/disk_init.cpp and kernel modules.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "app/guest_shares.hpp"
#include "base/result.hpp"

namespace nacre::app {

// `mounts`: units for the guest's systemd.
// `folder` has the modules, and a file `order` with one's name per line, in which to load them.
Result<std::vector<std::byte>> disk_initrd(const std::string& folder, const std::vector<MountUnit>& mounts);

}  // namespace nacre::app
