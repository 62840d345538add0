// A small seeded generator, so that one number reproduces a case on every machine. Tests only.
#pragma once

#include "base/types.hpp"

namespace nacre::conformance {

class Random {
 public:
  explicit Random(u64 seed) : state_(seed) {}

  u64 next() {  // splitmix64
    u64 z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  u8 byte() { return static_cast<u8>(next()); }
  u64 below(u64 limit) { return next() % limit; }
  bool percent(unsigned chance) { return below(100) < chance; }

 private:
  u64 state_;
};

}  // namespace nacre::conformance
