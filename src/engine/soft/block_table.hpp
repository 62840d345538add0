// BlockTable: block numbers by key. Open addressing with linear probing; beside each number stand 32 bits of
// its key's hash, so that a look costs one line of the host's cache here and, where the block is known, its
// own. Owned by the vCPU's thread.
#pragma once

#include <algorithm>
#include <vector>

#include "engine/soft/block.hpp"

namespace nacre::soft {

class BlockTable {
 public:
  // 18: two for each block that a part of the code cache has room for, nearly always.
  explicit BlockTable(unsigned bits = 18) : slots_(usize{1} << bits, 0), mask_((usize{1} << bits) - 1) {}

  // No more may be entered.
  [[nodiscard]] bool full() const { return used_ >= slots_.size() / 4 * 3; }

  // The number with this key for which `matches` holds, or kNone.
  template <typename Matches>
  [[nodiscard]] BlockIndex find(u64 linear, u64 physical, u32 mode, Matches matches) const {
    const u64 key = hash(linear, physical, mode);
    for (usize at = home(key);; at = (at + 1) & mask_) {
      const u64 slot = slots_[at];
      if (slot == 0) return kNone;
      if (slot >> 32 == key >> 32 && matches(number(slot))) return number(slot);
    }
  }

  void enter(u64 linear, u64 physical, u32 mode, BlockIndex i) {
    const u64 key = hash(linear, physical, mode);
    usize at = home(key);
    while (slots_[at] != 0) at = (at + 1) & mask_;
    slots_[at] = (key & ~u64{0xffff'ffff}) | (i + 1);
    used_++;
  }

  // Takes out what was entered, and closes the gap. `block_of`: the block behind a number.
  template <typename BlockOf>
  void remove(BlockIndex i, BlockOf block_of) {
    const auto home_of = [&](BlockIndex n) {
      const Block& b = block_of(n);
      return home(hash(b.linear, b.physical, b.mode));
    };
    usize gap = home_of(i);
    while (number(slots_[gap]) != i) gap = (gap + 1) & mask_;
    for (usize at = (gap + 1) & mask_; slots_[at] != 0; at = (at + 1) & mask_) {
      // What stands behind the gap moves into it unless it would then stand before its home.
      const usize wanted = home_of(number(slots_[at]));
      if (((at - wanted) & mask_) < ((at - gap) & mask_)) continue;
      slots_[gap] = slots_[at];
      gap = at;
    }
    slots_[gap] = 0;
    used_--;
  }

  void clear() {
    std::fill(slots_.begin(), slots_.end(), 0);
    used_ = 0;
  }

 private:
  static u64 hash(u64 linear, u64 physical, u32 mode) {
    u64 mixed = (linear ^ u64{mode} << 48) * 0x9e3779b97f4a7c15 ^ physical >> 12;
    mixed = (mixed ^ mixed >> 29) * 0xbf58476d1ce4e5b9;
    return mixed ^ mixed >> 32;
  }
  [[nodiscard]] usize home(u64 key) const { return key & mask_; }
  static BlockIndex number(u64 slot) { return static_cast<BlockIndex>(slot) - 1; }

  std::vector<u64> slots_;  // hash's upper half, number + 1; 0: empty
  usize mask_;
  usize used_ = 0;
};

}  // namespace nacre::soft
