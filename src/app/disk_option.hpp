// What --disk says about one disk: FILE[,readonly][,format=raw|qcow2][,iops=N][,bandwidth=BYTES].
#pragma once

#include <string>

#include "base/result.hpp"
#include "vm/disk.hpp"

namespace nacre::app {

// A comma in the file's name is part of it, unless one of the words above follows the last ones.
Result<vm::DiskConfig> parse_disk(const std::string& text);

}  // namespace nacre::app
