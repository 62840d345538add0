// DmaTracker: tells every vCPU of guest memory that a device has stored to and that held translated code, and
// knows when none of them can execute what stood there before.
//
// A vCPU is inside (may run guest code) or outside. It looks at its list on the way in, so one that is
// outside has nothing to be waited for; one that is inside is kicked, and comes out. `state` counts its
// steps: odd is inside. The order that makes it right: a device's thread notes ranges, then reads `state`; a
// vCPU changes `state`, then looks for ranges (both sequentially consistent), so that at least one of them
// sees the other.
//
// Threads: enter() and leave() are the vCPU's own; written() and settle() any device's thread, which holds no
// lock. General registers only.
#pragma once

#include <array>

#include "virtio/ports.hpp"
#include "host/plain_lock.hpp"
#include "vm/hosted_environment.hpp"

namespace nacre::vm {

class DmaTracker final : public virtio::DmaObserver {
 public:
  DmaTracker(HostedEnvironment& environment, unsigned processors)
      : environment_(environment), processors_(processors) {}

  void written(GuestPhysical address, u64 bytes) override;
  void settle() override;

  void enter(unsigned processor, engine::Vcpu& vcpu) {
    Processor& p = links_[processor];
    p.state.fetch_add(1);
    if (p.noted.load()) drain(p, vcpu);
  }
  void leave(unsigned processor) {
    Processor& p = links_[processor];
    p.state.fetch_add(1);
    if (p.waiters.load() != 0) host::futex_wake(p.state, 1 << 30);
  }

 private:
  static constexpr usize kMostRanges = 64;
  struct Range {
    GuestPhysical address;
    u64 bytes = 0;
  };
  struct Processor {
    std::atomic<u32> state = 0;
    std::atomic<u32> waiters = 0;
    std::atomic<bool> noted = false;  // the list below is not empty
    host::PlainLock lock;                   // guards the list; nothing is taken while it is held
    usize count = 0;                  // more than kMostRanges: all of memory
    std::array<Range, kMostRanges> ranges;
  };

  static void drain(Processor& processor, engine::Vcpu& vcpu);

  HostedEnvironment& environment_;
  unsigned processors_;
  std::array<Processor, board::kMaxProcessors> links_;
};

}  // namespace nacre::vm
