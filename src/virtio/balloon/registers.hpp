// The memory balloon's features, configuration space and statistics. Virtio 1.2, 5.5. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::virtio::balloon {

struct BalloonFeature {  // 5.5.3
  static constexpr u64 stats = 1 << 1, deflate_on_oom = 1 << 2, reporting = 1 << 5;
};

struct Config {    // 5.5.4
  u32 pages = 0;   // of 4 KiB that the host wants
  u32 actual = 0;  // that it has; the guest writes it
  u32 free_page_hint = 0, poison = 0;
};
static_assert(sizeof(Config) == 16);

inline constexpr unsigned kPageShiftOfBalloon = 12;  // whatever pages the guest has. 5.5.6

inline constexpr u16 kStatistics = 10;  // tags 0 to 9: 5.5.6.3
enum class Statistic : u16 {
  SwapIn,
  SwapOut,
  MajorFaults,
  MinorFaults,
  FreeMemory,   // bytes
  TotalMemory,  // bytes
  AvailableMemory,
  DiskCaches,
  HugetlbAllocations,
  HugetlbFailures,
};

}  // namespace nacre::virtio::balloon
