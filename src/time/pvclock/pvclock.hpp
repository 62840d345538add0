// The paravirtual clock that KVM invented: per processor, a structure in guest memory from which the
// guest computes the time out of its TSC without leaving. Linux, Documentation/virt/kvm/x86/msr.rst
// (MSR_KVM_WALL_CLOCK_NEW, MSR_KVM_SYSTEM_TIME_NEW). One object a processor.
// Time never runs backwards for the guest only if the Clock and the guest's TSC advance together: derive
// the Clock from the TSC, or call refresh() and do without TSC_STABLE.
// Freestanding; all calls under the board's lock.
#pragma once

#include "base/address.hpp"
#include "base/clock.hpp"
#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::time {

// Writes guest RAM. False when a byte of the range is not RAM.
class GuestWriter {
 public:
  virtual bool write(GuestPhysical address, const void* from, usize bytes) = 0;

 protected:
  ~GuestWriter() = default;
};

// An instant as the Clock and the guest's TSC, offset included, show it. Any will do, but all processors of a
// machine are to be told the same one: from two instants, read a moment apart and rounded, two processors
// would compute times that differ, and time would seem to run backwards for a thread that moves between them.
class GuestTsc {
 public:
  virtual Instant instant() = 0;

 protected:
  ~GuestTsc() = default;
};

// ns = ((ticks << shift, or >> -shift) * multiplier) >> 32
struct TscScale {
  u32 multiplier = 0;
  i8 shift = 0;
  constexpr bool operator==(const TscScale&) const = default;
};
TscScale tsc_scale(u64 tsc_khz);  // tsc_khz: 1 .. 2^32

class PvClock {
 public:
  static constexpr u32 kWallClockMsr = 0x4b564d00, kSystemTimeMsr = 0x4b564d01;
  static constexpr u8 kTscStable = 1, kGuestStopped = 2;  // flags

  // Why the structure is written anew. Resumed: the machine stood still, which the guest is told so that
  // its watchdogs do not take the pause for a lockup.
  enum class Refresh : u8 { Changed, Resumed };
  enum class Stability : u8 { Unstable, Stable };  // TSCs of all processors agree and never jump
  struct Ports {
    Clock& clock;
    WallClock& wall;
    GuestTsc& tsc;
    GuestWriter& memory;
  };
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u32 sequence = 0;  // of the structure in guest memory; even
    u64 wall_clock_msr = 0, system_time_msr = 0;
    constexpr bool operator==(const State&) const = default;
  };

  PvClock(const Ports& ports, u64 tsc_khz, Stability stability)
      : ports_(ports), scale_(tsc_scale(tsc_khz)), stability_(stability) {}

  void reset() { state_ = State{}; }
  [[nodiscard]] static constexpr bool owns_msr(u32 msr) {
    return msr == kWallClockMsr || msr == kSystemTimeMsr;
  }
  // False: not ours, or memory that is not RAM: #GP(0).
  bool msr_read(u32 msr, u64& value) const;
  bool msr_write(u32 msr, u64 value);
  // Writes the structure anew: after a restore, a pause, or a change of the guest's TSC.
  void refresh(Refresh why = Refresh::Changed);

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  bool publish_time(u8 more_flags);
  bool publish_wall_clock(GuestPhysical address);

  Ports ports_;
  TscScale scale_;
  Stability stability_;
  State state_;
};

}  // namespace nacre::time
