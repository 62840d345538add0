// The console device's features and configuration space. Virtio 1.2, 5.3. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::virtio::console {

struct ConsoleFeature {  // 5.3.3
  static constexpr u64 size = u64{1} << 0;
};

struct Config {  // 5.3.4, without multiport
  u16 columns = 0, rows = 0;
  u32 max_ports = 0, emergency_write = 0;
};
static_assert(sizeof(Config) == 12);

}  // namespace nacre::virtio::console
