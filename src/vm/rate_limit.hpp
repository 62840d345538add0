// RateLimit: how many operations and bytes a second a disk may have. A bucket of tokens for each: it fills at
// the rate, holds a tenth of a second's worth, and an operation of any size may start while it is not empty;
// what it takes beyond leaves the bucket in debt. Kept as the instant at which the bucket is no longer in
// debt, so that nothing has to be added up. The caller states the time. Not shared between threads.
#pragma once

#include "base/types.hpp"

namespace nacre::vm {

struct RateLimits {
  u64 operations = 0, bytes = 0;  // a second; 0: as many as there are
  [[nodiscard]] bool any() const { return operations != 0 || bytes != 0; }
};

class RateLimit {
 public:
  static constexpr u64 kSecond = 1'000'000'000, kBurst = kSecond / 10;  // ns

  explicit RateLimit(const RateLimits& limits) : operations_{limits.operations}, bytes_{limits.bytes} {}

  // How long an operation has to wait at `now` (ns, any zero point, not going back); 0: it may start.
  [[nodiscard]] u64 wait(u64 now) const {
    const u64 later = operations_.free_at > bytes_.free_at ? operations_.free_at : bytes_.free_at;
    return later > now ? later - now : 0;
  }
  // An operation that moves so many bytes (below 2^33) has started.
  void take(u64 now, u64 bytes) {
    operations_.take(now, 1);
    bytes_.take(now, bytes);
  }

 private:
  struct Bucket {
    u64 rate;         // a second
    u64 free_at = 0;  // from then on there is something in it
    void take(u64 now, u64 count) {
      if (rate == 0) return;
      const u64 oldest = now > kBurst ? now - kBurst : 0;
      if (free_at < oldest) free_at = oldest;
      free_at += count * kSecond / rate;
    }
  };
  Bucket operations_, bytes_;
};

}  // namespace nacre::vm
