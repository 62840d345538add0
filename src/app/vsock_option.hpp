// --vsock PATH[,cid=N].
#pragma once

#include <string>

#include "vm/devices.hpp"

namespace nacre::app {

Result<vm::VsockConfig> parse_vsock(const std::string& text);

}  // namespace nacre::app
