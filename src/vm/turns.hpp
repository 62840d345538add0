// Turns: which vCPUs run guest code when there are more of them than host processors.
//
//   turns.take(i); … run guest code …; turns.give(i);              the vCPU has halted
//   if (turns.asked(i) says so at this point) { turns.give(i); turns.take(i); }
//
// The host's scheduler would do it without knowing what a vCPU is at: one that is woken would push another
// off its processor in the middle of a spin lock's section, for which the rest then spins. Here as many run
// as there are processors, one that is woken waits for a turn, and who is to give its own up does so where it
// can hold no such lock: in user mode, or failing that where interrupts are on. Time in turns is shared out
// evenly; who has slept comes before those who compute. docs/adr/0017-turns.md.
//
// Threads: every function for vCPU i on its own thread, outside guest code.
#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <mutex>

#include "base/types.hpp"
#include "board/options.hpp"

namespace nacre::vm {

class Turns {
 public:
  // How much somebody else wants a vCPU's turn. Each level includes those before it.
  enum class Asked : u8 {
    No,
    InUserMode,        // to be given where guest user code runs
    WithInterruptsOn,  // … or the guest's kernel can be interrupted
    AtOnce,            // … or whatever it does
  };

  // `clock` in ns; `kick(i)` makes vCPU i come out of guest code soon. With no fewer turns than members all
  // this does nothing.
  Turns(unsigned members, unsigned turns, std::function<u64()> clock, std::function<void(unsigned)> kick)
      : scarce_(turns < members), free_(turns), clock_(std::move(clock)), kick_(std::move(kick)) {}

  [[nodiscard]] bool scarce() const { return scarce_; }
  [[nodiscard]] bool has(unsigned i) const { return !scarce_ || members_[i].has_turn; }
  // Returns when the member, which has none, has a turn: after so many ns.
  u64 take(unsigned i);
  // Of a member that has a turn, when they are scarce.
  void give(unsigned i);
  [[nodiscard]] Asked asked(unsigned i) const {
    return scarce_ && members_[i].asked_at.load(std::memory_order_relaxed) != 0 ? how_much(i) : Asked::No;
  }
  // How many wait now. Any thread.
  [[nodiscard]] unsigned waiting() {
    const std::lock_guard held(lock_);
    return static_cast<unsigned>(__builtin_popcount(waiting_));
  }

 private:
  struct alignas(64) Member {
    bool has_turn = false;          // the member's thread's own
    std::atomic<u32> granted = 0;   // where it waits
    std::atomic<u64> asked_at = 0;  // since when somebody waits for its turn, by the clock; 0: nobody
    u64 taken_at = 0, used = 0;     // ns; under the lock
  };

  [[nodiscard]] Asked how_much(unsigned i) const;
  [[nodiscard]] u64 used_by_now(unsigned i, u64 now) const;
  [[nodiscard]] unsigned who_used(u32 set, bool most, u64 now) const;
  void grant(unsigned i, u64 now);
  u64 ask_for_one(unsigned i, u64 now, int& whom);

  const bool scarce_;
  std::mutex lock_;
  unsigned free_;
  u32 running_ = 0, waiting_ = 0;  // sets of members
  u64 floor_ = 0;                  // what the one that had used least had used when it was given its turn
  std::function<u64()> clock_;
  std::function<void(unsigned)> kick_;
  std::array<Member, board::kMaxProcessors> members_;
};

}  // namespace nacre::vm
