// CodeCache: the memory that translated code and its link cells live in. The code is mapped twice, once
// writable and once executable, never both in one view; the two are at unrelated addresses, so that code
// which runs knows nothing of where it could be written. Link cells (jump targets, data) follow the
// executable view within reach of a RIP-relative jump. Owned by the vCPU's thread.
#pragma once

#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::soft {

class CodeCache {
 public:
  static constexpr usize kCodeBytes = 24 * kMiB;
  static constexpr usize kCellBytes = 1 * kMiB;

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
