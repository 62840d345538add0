#include "vm/dma_tracker.hpp"

#include "host/futex.hpp"

namespace nacre::vm {

void DmaTracker::written(GuestPhysical address, u64 bytes) {
  for (unsigned i = 0; i < processors_; ++i) {
    Processor& p = links_[i];
    p.lock.lock();
    if (p.count < kMostRanges) p.ranges[p.count] = {address, bytes};
    if (p.count <= kMostRanges) ++p.count;
    p.lock.unlock();
    p.noted.store(true);
  }
}

void DmaTracker::settle() {
  for (unsigned i = 0; i < processors_; ++i) {
    Processor& p = links_[i];
    const u32 state = p.state.load();
    if (state % 2 == 0) continue;
    p.waiters.fetch_add(1);
    environment_.processor(i).kick();
    while (p.state.load() == state) host::futex_wait(p.state, state);
    p.waiters.fetch_sub(1);
  }
}

// Ranges that come meanwhile are noted again, and whoever noted them kicks: so this once is enough.
void DmaTracker::drain(Processor& processor, engine::Vcpu& vcpu) {
  processor.noted.store(false);
  processor.lock.lock();
  if (processor.count > kMostRanges) {
    vcpu.memory_changed(GuestPhysical(0), ~u64{0});
  } else {
    for (usize i = 0; i < processor.count; ++i) {
      vcpu.memory_changed(processor.ranges[i].address, processor.ranges[i].bytes);
    }
  }
  processor.count = 0;
  processor.lock.unlock();
}

}  // namespace nacre::vm
