// CodeCache: the memory that translated code and its link cells live in. The code is mapped twice, once
// writable and once executable, never both in one view; the two are at unrelated addresses, so that code
// which runs knows nothing of where it could be written. Link cells (jump targets, data) follow the
// executable view within reach of a RIP-relative jump. Code of user programs and of the kernel have a part each: programs
// come and go and fill theirs, and what the kernel is made of stays. Owned by the vCPU's thread.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::soft {

class CodeCache {
 public:
  static constexpr usize kCodeBytes = 32 * kMiB;
  static constexpr usize kCellBytes = 1 * kMiB;

  // Offsets of code and numbers of cells: [first, end).
  struct Part {
    usize first, end;
    u32 first_cell, end_cell;
  };
  // Half of it all, without the bytes at its start that are in use.
  static constexpr Part part(bool user, usize in_use) {
    constexpr u32 kHalf = kCellBytes / sizeof(u64) / 2;
    return user ? Part{kCodeBytes / 2, kCodeBytes, kHalf, 2 * kHalf} : Part{in_use, kCodeBytes / 2, 0, kHalf};
  }

  static Result<CodeCache> create();
  CodeCache(CodeCache&& other) noexcept;
  CodeCache(const CodeCache&) = delete;
  CodeCache& operator=(const CodeCache&) = delete;
  CodeCache& operator=(CodeCache&&) = delete;
  ~CodeCache();

  [[nodiscard]] u8* writable(usize offset) const { return writable_ + offset; }
  [[nodiscard]] u64 executable(usize offset) const { return reinterpret_cast<u64>(executable_) + offset; }
  [[nodiscard]] bool holds(u64 host_address) const {
    return host_address - reinterpret_cast<u64>(executable_) < kCodeBytes;
  }
  [[nodiscard]] usize offset_of(u64 host_address) const {
    return host_address - reinterpret_cast<u64>(executable_);
  }
  [[nodiscard]] u64* cells() const { return cells_; }
  static constexpr usize kCells = kCellBytes / sizeof(u64);

 private:
  CodeCache() = default;
  u8* writable_ = nullptr;
  u8* executable_ = nullptr;
  u64* cells_ = nullptr;
};

}  // namespace nacre::soft
