// Test support: bytes that decide what an access sequence does. A fuzzer's input, or a pseudo-random one
// for the same sequence as an ordinary test. Also clocks and wires that remember.
#pragma once

#include <array>
#include <cstring>
#include <span>
#include <vector>

#include "base/clock.hpp"
#include "base/types.hpp"
#include "irq/line.hpp"

namespace nacre::testing {

class ByteSource {
 public:
  explicit ByteSource(std::span<const u8> bytes) : bytes_(bytes) {}
  [[nodiscard]] bool empty() const { return bytes_.empty(); }
  // Missing bytes read 0.
  template <typename T>
  T take() {
    T value{};
    const usize n = sizeof value < bytes_.size() ? sizeof value : bytes_.size();
    std::memcpy(&value, bytes_.data(), n);
    bytes_ = bytes_.subspan(n);
    return value;
  }
  // One of the given values: what interests a device, more often than chance would.
  template <typename T, usize n>
  T pick(const T (&choices)[n]) {
    return choices[take<u8>() % n];
  }

 private:
  std::span<const u8> bytes_;
};

// Runs `sequence` on `rounds` reproducible inputs of up to 1 KiB.
template <typename Sequence>
void run_random_sequences(Sequence sequence, unsigned rounds) {
  u64 state = 0x9e37'79b9'7f4a'7c15;
  std::array<u8, 1024> bytes{};
  for (unsigned round = 0; round < rounds; ++round) {
    for (u8& byte : bytes) {
      state ^= state << 13;
      state ^= state >> 7;
      state ^= state << 17;
      byte = static_cast<u8>(state >> 32);
    }
    sequence(ByteSource(std::span<const u8>(bytes).first(64 + (state >> 8) % 961)));
  }
}

struct ManualClock final : time::Clock, time::WallClock {
  u64 now = 0;
  u64 wall_offset = 1'700'000'000 * time::kNsPerSecond;  // 2023-11-14 22:13:20 UTC
  u64 now_ns() override { return now; }
  u64 unix_ns() override { return now + wall_offset; }
};

struct RecordedLine final : irq::Line {
  bool level = false;
  unsigned rises = 0;
  void set(bool asserted) override {
    if (asserted && !level) ++rises;
    level = asserted;
  }
};

}  // namespace nacre::testing
