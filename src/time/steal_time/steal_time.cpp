#include "time/steal_time/steal_time.hpp"

#include <type_traits>

namespace nacre::time {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<StealTime::State>);

namespace {

constexpr u64 kEnable = 1, kReserved = StealTime::kBytes - 2;

// The structure in guest memory: Linux, arch/x86/include/uapi/asm/kvm_para.h documents the layout. Behind
// these fields 44 bytes are not used.
struct Info {
  u64 steal;    // ns
  u32 version;  // odd while `steal` changes
  u32 flags;
};
constexpr u64 kVersionOffset = 8, kPreemptedOffset = 16;
static_assert(sizeof(Info) == kPreemptedOffset);

// Bits of the byte at kPreemptedOffset; the second is the guest's.
constexpr u8 kPreempted = 1, kFlushTlb = 2;

}  // namespace

bool StealTime::enabled() const {
  return (state_.msr & kEnable) != 0;
}

GuestPhysical StealTime::address() const {
  return GuestPhysical(state_.msr & ~(kEnable | kReserved));
}

bool StealTime::msr_write(u64 value) {
  if ((value & kReserved) != 0) return false;
  const State before = state_;
  state_.msr = value;
  u8 ignored = 0;
  if (publish() && (!enabled() || ports_.byte.exchange(address() + kPreemptedOffset, 0, ignored)))
    return true;
  state_ = before;
  return false;
}

void StealTime::leaves() {
  u8 ignored = 0;
  if (enabled()) static_cast<void>(ports_.byte.exchange(address() + kPreemptedOffset, kPreempted, ignored));
}

bool StealTime::comes_back(u64 kept_off) {
  if (!enabled()) return false;
  state_.stolen += kept_off;
  if (kept_off != 0) publish();
  u8 before = 0;
  return ports_.byte.exchange(address() + kPreemptedOffset, 0, before) && (before & kFlushTlb) != 0;
}

// An odd version first and the even one last: a reader in between tries again.
bool StealTime::publish() {
  if (!enabled()) return true;
  const u32 changing = state_.sequence + 1, done = state_.sequence + 2;
  const GuestPhysical version = address() + kVersionOffset;
  const Info info = {state_.stolen, changing, 0};
  if (!ports_.memory.write(version, &changing, sizeof changing)) return false;
  if (!ports_.memory.write(address(), &info, sizeof info)) return false;
  if (!ports_.memory.write(version, &done, sizeof done)) return false;
  state_.sequence = done;
  return true;
}

Status StealTime::load(const State& state) {
  if (state.version != State::kVersion) return Error("the steal time's saved state has an unknown version");
  if ((state.msr & kReserved) != 0) return Error("the steal time's saved state has reserved bits set");
  state_ = state;
  state_.sequence &= ~u32{1};
  return {};
}

}  // namespace nacre::time
