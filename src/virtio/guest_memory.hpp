// GuestMemory: guest RAM as devices reach it. Every address from the guest becomes a host pointer here, after
// it was checked to lie in RAM whole; every store by a device is told here. Freestanding; on the thread that
// runs the device's queues (translate() on any).
#pragma once

#include "memory/address_space.hpp"
#include "virtio/ports.hpp"

namespace nacre::virtio {

class GuestMemory {
 public:
  GuestMemory(const memory::AddressSpace& space, DmaObserver& observer)
      : space_(space), observer_(observer) {}

  // The host address of [address, address + bytes), or null when that is not all in one region of RAM.
  [[nodiscard]] u8* translate(u64 address, u64 bytes) const {
    const memory::Region* region = space_.find(GuestPhysical(address));
    if (region == nullptr || region->kind != memory::RegionKind::Ram) return nullptr;
    const u64 offset = GuestPhysical(address) - region->base;
    return bytes <= region->size - offset ? region->host + offset : nullptr;
  }

  // The device has stored to [address, address + bytes), which translate() has found to be RAM.
  void written(u64 address, u64 bytes) {
    if (bytes == 0 || !space_.mark_written(GuestPhysical(address), bytes)) return;
    observer_.written(GuestPhysical(address), bytes);
    unsettled_ = true;
  }
  // Before anything that tells the guest of what was written.
  void settle() {
    if (!unsettled_) return;
    unsettled_ = false;
    observer_.settle();
  }

 private:
  const memory::AddressSpace& space_;
  DmaObserver& observer_;
  bool unsettled_ = false;
};

}  // namespace nacre::virtio
