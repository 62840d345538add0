// Answers for small kernels that ask how many processors and how much memory there are by QEMU's firmware configuration
// ports (QEMU, docs/specs/fw_cfg.rst): a 16-bit selector at 510h, bytes of the chosen item at 511h. There are no files and
// no DMA; items that are not here read as zeros, as the specification says. Freestanding; all calls under the board's
// lock.
#pragma once

#include "base/types.hpp"

namespace nacre::device {

class FwCfg {
 public:
  static constexpr u16 kSelector = 0, kData = 1;
  // Items.
  static constexpr u16 kSignature = 0x00, kFeatures = 0x01, kRamBytes = 0x03, kProcessors = 0x05, kMostProcessors = 0x0f;

  FwCfg(u64 ram_bytes, unsigned processors) : ram_bytes_(ram_bytes), processors_(processors) {}

  void reset() { item_ = at_ = 0; }
  void select(u16 item) {
    item_ = item;
    at_ = 0;
  }
  // The next byte of the item; zeros behind its end.
  [[nodiscard]] u8 read() {
    const unsigned at = at_;
    if (at >= 8) return 0;
    ++at_;
    return static_cast<u8>(value() >> (8 * at));
  }

 private:
  [[nodiscard]] u64 value() const {
    switch (item_) {
      case kSignature:
        return 0x554d4551;  // "QEMU"
      case kFeatures:
        return 1;  // these ports
      case kRamBytes:
        return ram_bytes_;
      case kProcessors:
      case kMostProcessors:
        return processors_;
      default:
        return 0;
    }
  }

  u64 ram_bytes_;
  unsigned processors_;
  u16 item_ = 0;
  u16 at_ = 0;
};

}  // namespace nacre::device
