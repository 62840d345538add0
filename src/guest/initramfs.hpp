// What every Nacre guest's first root file system holds: BusyBox under all its names, /init, and the device
// nodes that exist before devtmpfs is mounted.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include "guest/cpio.hpp"

namespace nacre::guest {

struct BaseTree {
  std::span<const std::byte> busybox;
  std::string_view applets;  // as "busybox --list-full" prints them: one path a line, without leading slash
};

// The text of /init. Its first line of output is "NACRE-INIT <uptime>"; its header tells what it reads from
// the kernel command line.
[[nodiscard]] std::string_view init_script();

// Add files of one's own first: where an applet's place is taken, what stands there stays. False if a file of
// the base tree itself is in the way, or too large.
[[nodiscard]] bool add_base_tree(CpioWriter& archive, const BaseTree& tree);

}  // namespace nacre::guest
