// Counter: how often something happened to a vCPU. Its thread counts, any thread reads. General registers only.
#pragma once

#include <atomic>

#include "base/types.hpp"

namespace nacre::engine {

class Counter {
 public:
  // There is one writer: no locked instruction.
  void count() { value_.store(value_.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed); }
  [[nodiscard]] u64 value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<u64> value_ = 0;
};

struct NamedCounter {
  const char* name = "";
  const Counter* counter = nullptr;
};

}  // namespace nacre::engine
