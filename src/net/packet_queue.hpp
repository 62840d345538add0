// PacketQueue: packets that wait, in order, in one piece of memory of a fixed size. One thread.
#pragma once

#include <cstring>
#include <span>
#include <vector>

#include "base/types.hpp"

namespace nacre::net {

class PacketQueue {
 public:
  explicit PacketQueue(usize bytes) : bytes_(bytes) {}

  [[nodiscard]] bool empty() const { return used_ == 0; }
  // Memory taken, of what the constructor was given.
  [[nodiscard]] usize used() const { return used_; }
  // False: there is no room; nothing was kept.
  bool put(std::span<const u8> packet) {
    const usize need = slot(packet.size());
    const usize end = bytes_.size() - tail_;
    if (need > end) {
      if (used_ + end + need > bytes_.size()) return false;
      if (end >= sizeof(u32)) store(tail_, kWrap);
      used_ += end;
      tail_ = 0;
    } else if (used_ + need > bytes_.size()) {
      return false;
    }
    store(tail_, static_cast<u32>(packet.size()));
    if (!packet.empty()) std::memcpy(&bytes_[tail_ + sizeof(u32)], packet.data(), packet.size());
    tail_ = (tail_ + need) % bytes_.size();
    used_ += need;
    return true;
  }
  // The oldest; not when empty().
  [[nodiscard]] std::span<u8> front() {
    skip();
    return {&bytes_[head_] + sizeof(u32), load(head_)};
  }
  void pop() {
    skip();
    const usize need = slot(load(head_));
    head_ = (head_ + need) % bytes_.size();
    used_ -= need;
  }

 private:
  static constexpr u32 kWrap = ~u32{0};
  static usize slot(usize bytes) { return (sizeof(u32) + bytes + 3) & ~usize{3}; }
  void store(usize at, u32 value) { std::memcpy(&bytes_[at], &value, sizeof value); }
  [[nodiscard]] u32 load(usize at) const {
    u32 value = 0;
    std::memcpy(&value, &bytes_[at], sizeof value);
    return value;
  }
  // Past the unused end.
  void skip() {
    const usize end = bytes_.size() - head_;
    if (end >= sizeof(u32) && load(head_) != kWrap) return;
    used_ -= end;
    head_ = 0;
  }

  std::vector<u8> bytes_;
  usize head_ = 0, tail_ = 0, used_ = 0;
};

}  // namespace nacre::net
