// ByteRing: bytes from one thread to another without a lock. One producer, one consumer.
#pragma once

#include <array>
#include <atomic>
#include <span>

#include "base/types.hpp"

namespace nacre::vm {

template <usize capacity>
class ByteRing {
  static_assert((capacity & (capacity - 1)) == 0);

 public:
  // Producer. False: full, the byte was not taken.
  bool put(u8 byte) {
    const usize head = head_.load(std::memory_order_relaxed);
    if (head - tail_.load(std::memory_order_acquire) == capacity) return false;
    bytes_[head & (capacity - 1)] = byte;
    head_.store(head + 1, std::memory_order_release);
    return true;
  }
  // Any thread; a moment's truth.
  [[nodiscard]] usize size() const {
    const usize tail = tail_.load(std::memory_order_acquire);
    return head_.load(std::memory_order_acquire) - tail;
  }
  // Consumer: what lies in one piece at the front; take() gives the first `count` of it back.
  [[nodiscard]] std::span<const u8> front() const {
    const usize tail = tail_.load(std::memory_order_relaxed);
    const usize at = tail & (capacity - 1);
    const usize count = head_.load(std::memory_order_acquire) - tail;
    return {bytes_.data() + at, count < capacity - at ? count : capacity - at};
  }
  void take(usize count) {
    tail_.store(tail_.load(std::memory_order_relaxed) + count, std::memory_order_release);
  }

 private:
  std::array<u8, capacity> bytes_;
  alignas(64) std::atomic<usize> head_ = 0;
  alignas(64) std::atomic<usize> tail_ = 0;
};

}  // namespace nacre::vm
