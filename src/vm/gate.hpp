// Gate: through which vCPU threads go into guest code, and which one of them can hold to have guest memory
// for itself: for a locked access that no single host instruction can do, as it crosses a page.
//
//   gate.enter(i); … run guest code …; gate.leave(i);
//   gate.close(i, kick); … others are outside …; gate.open();      from within
//
// Whoever waits, at the gate or to close it, counts as outside, so there is no cycle to wait in. close() must
// not be called with the board's lock held: those inside may want that before they come out. General
// registers only.
#pragma once

#include <array>
#include <atomic>

#include "board/options.hpp"
#include "host/futex.hpp"

namespace nacre::vm {

class Gate {
 public:
  void enter(unsigned i) {
    for (;;) {
      slots_[i].inside.store(1);
      const u32 holder = holder_.load();
      if (holder == 0) return;
      leave(i);
      host::futex_wait(holder_, holder);
    }
  }
  void leave(unsigned i) {
    slots_[i].inside.store(0);
    if (holder_.load() != 0) tell_holder();
  }
  // `kick(j)` makes thread j leave soon. Returns when all others are outside; they stay there until open().
  template <typename Kick>
  void close(unsigned i, Kick kick) {
    for (u32 free = 0; !holder_.compare_exchange_strong(free, i + 1); free = 0) {
      leave(i);
      host::futex_wait(holder_, free);
    }
    slots_[i].inside.store(1);
    for (unsigned j = 0; j < slots_.size(); ++j) {
      if (j == i || slots_[j].inside.load() == 0) continue;
      kick(j);
      for (;;) {
        const u32 seen = left_.load();
        if (slots_[j].inside.load() == 0) break;
        host::futex_wait(left_, seen);
      }
    }
  }
  void open() {
    holder_.store(0);
    host::futex_wake(holder_, 1 << 30);
  }

 private:
  struct alignas(64) Slot {
    std::atomic<u32> inside = 0;
  };

  void tell_holder() {
    left_.fetch_add(1);
    host::futex_wake(left_, 1);
  }

  std::array<Slot, board::kMaxProcessors> slots_;
  std::atomic<u32> holder_ = 0;  // who holds it closed, plus one
  std::atomic<u32> left_ = 0;    // grows when somebody leaves while it is closed
};

}  // namespace nacre::vm
