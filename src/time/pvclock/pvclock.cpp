#include "time/pvclock/pvclock.hpp"

#include <bit>
#include <type_traits>

#include "base/check.hpp"

namespace nacre::time {

// A snapshot is these bytes: none of them may be padding.
static_assert(std::has_unique_object_representations_v<PvClock::State>);

namespace {

constexpr u64 kEnable = 1;

// The structures in guest memory. Linux, arch/x86/include/asm/pvclock-abi.h documents the layout.
struct VcpuTimeInfo {
  u32 version;  // odd while the rest changes
  u32 pad0;
  u64 tsc_timestamp;
  u64 system_time;  // ns at tsc_timestamp
  u32 tsc_to_system_mul;
  i8 tsc_shift;
  u8 flags;
  u8 pad[2];
};
static_assert(sizeof(VcpuTimeInfo) == 32 && std::is_trivially_copyable_v<VcpuTimeInfo>);

struct WallClockInfo {
  u32 version;
  u32 sec;
  u32 nsec;
};
static_assert(sizeof(WallClockInfo) == 12);

GuestPhysical address_of(u64 msr) {
  return GuestPhysical(msr & ~kEnable);
}

}  // namespace

// The multiplier is 10^6 / khz as a binary fraction with its top bit set.
TscScale tsc_scale(u64 tsc_khz) {
  NACRE_CHECK(tsc_khz != 0 && tsc_khz <= (u64{1} << 32));
  // 10^6 has 20 bits: shifted by 44 it fills 64, and the quotient has at least 31 significant bits.
  const u64 quotient = (u64{1'000'000} << 44) / tsc_khz;
  const int bits = 64 - std::countl_zero(quotient);
  TscScale scale;
  // quotient / 2^44 = multiplier / 2^32 * 2^shift, with 2^31 <= multiplier < 2^32.
  scale.multiplier = static_cast<u32>(bits > 32 ? quotient >> (bits - 32) : quotient << (32 - bits));
  scale.shift = static_cast<i8>(bits - 44);
  return scale;
}

bool PvClock::msr_read(u32 msr, u64& value) const {
  if (!owns_msr(msr)) return false;
  value = msr == kWallClockMsr ? state_.wall_clock_msr : state_.system_time_msr;
  return true;
}

bool PvClock::msr_write(u32 msr, u64 value) {
  if (msr == kWallClockMsr) {
    if (!publish_wall_clock(GuestPhysical(value))) return false;
    state_.wall_clock_msr = value;
    return true;
  }
  if (msr != kSystemTimeMsr) return false;
  const u64 before = state_.system_time_msr;
  state_.system_time_msr = value;
  if (publish_time(0)) return true;
  state_.system_time_msr = before;
  return false;
}

void PvClock::refresh(Refresh why) {
  publish_time(why == Refresh::Resumed ? kGuestStopped : u8{0});
}

bool PvClock::publish_time(u8 more_flags) {
  if ((state_.system_time_msr & kEnable) == 0) return true;
  const GuestPhysical address = address_of(state_.system_time_msr);
  VcpuTimeInfo info = {};
  const Instant instant = ports_.tsc.instant();
  info.tsc_timestamp = instant.tsc;
  info.system_time = instant.ns;
  info.tsc_to_system_mul = scale_.multiplier;
  info.tsc_shift = scale_.shift;
  info.flags = more_flags | (stability_ == Stability::Stable ? kTscStable : u8{0});
  // An odd version first and the even one last: a reader in between tries again.
  const u32 changing = state_.sequence + 1;
  const u32 done = state_.sequence + 2;
  info.version = changing;
  if (!ports_.memory.write(address, &changing, sizeof changing)) return false;
  if (!ports_.memory.write(address, &info, sizeof info)) return false;
  if (!ports_.memory.write(address, &done, sizeof done)) return false;
  state_.sequence = done;
  return true;
}

// What the date was when the Clock read 0; the guest adds its system time.
bool PvClock::publish_wall_clock(GuestPhysical address) {
  const u64 unix_ns = ports_.wall.unix_ns();
  const u64 now = ports_.clock.now_ns();
  const u64 boot = unix_ns > now ? unix_ns - now : 0;
  WallClockInfo info = {1, static_cast<u32>(boot / kNsPerSecond), static_cast<u32>(boot % kNsPerSecond)};
  if (!ports_.memory.write(address, &info, sizeof info)) return false;
  const u32 done = 2;
  return ports_.memory.write(address, &done, sizeof done);
}

Status PvClock::load(const State& state) {
  if (state.version != State::kVersion)
    return Error("the paravirtual clock's saved state has an unknown version");
  state_ = state;
  state_.sequence &= ~u32{1};
  return {};
}

}  // namespace nacre::time
