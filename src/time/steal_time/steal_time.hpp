// KVM's steal time: per processor, a structure in guest memory that says how long it was kept from running
// though it had work, and whether it is off its host processor right now. Guests do not count the former as
// their programs' time; they do not spin for a lock whose holder is off, nor wake a program on such a
// processor; and instead of an interrupt that tells it to flush its TLB they leave word in the structure.
// Linux, Documentation/virt/kvm/x86/msr.rst (MSR_KVM_STEAL_TIME). One object a processor. Freestanding. MSRs
// on the processor's thread; leaves() and comes_back() there too, outside guest code.
#pragma once

#include "base/address.hpp"
#include "base/result.hpp"
#include "time/pvclock/pvclock.hpp"

namespace nacre::time {

// A byte of guest RAM that guest processors change meanwhile. False when it is not RAM.
class GuestByte {
 public:
  virtual bool exchange(GuestPhysical address, u8 desired, u8& before) = 0;

 protected:
  ~GuestByte() = default;
};

class StealTime {
 public:
  static constexpr u32 kMsr = 0x4b564d03;
  static constexpr u64 kBytes = 64;  // of the structure, to which it is aligned

  struct Ports {
    GuestWriter& memory;
    GuestByte& byte;
  };
  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u32 sequence = 0;  // of the structure in guest memory; even
    u64 msr = 0;
    u64 stolen = 0;  // ns
    constexpr bool operator==(const State&) const = default;
  };

  explicit StealTime(const Ports& ports) : ports_(ports) {}

  void reset() { state_ = State{}; }
  [[nodiscard]] static constexpr bool owns_msr(u32 msr) { return msr == kMsr; }
  [[nodiscard]] u64 msr_read() const { return state_.msr; }
  // False: reserved bits, or memory that is not RAM: #GP(0).
  bool msr_write(u64 value);

  // The processor goes off its host processor.
  void leaves();
  // It is on one again, after having had work to do for `kept_off` ns. True: the guest has asked that its TLB
  // be flushed before it goes on.
  [[nodiscard]] bool comes_back(u64 kept_off);

  [[nodiscard]] State state() const { return state_; }
  Status load(const State& state);

 private:
  [[nodiscard]] bool enabled() const;
  [[nodiscard]] GuestPhysical address() const;
  bool publish();

  Ports ports_;
  State state_;
};

}  // namespace nacre::time
