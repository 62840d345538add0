// Mapping: one owned range of host virtual memory. Any thread; one owner at a time.
#pragma once

#include <sys/mman.h>

#include <utility>

#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::host {

class Mapping {
 public:
  Mapping() = default;
  // Private zero pages. With a guard, one inaccessible page lies below the first byte.
  enum class Guard : u8 { None, Below };
  static Result<Mapping> anonymous(usize bytes, Guard guard = Guard::None);
  // `bytes` bytes of `file` from `offset` (whole pages) on, shared; `protection` as mmap's.
  static Result<Mapping> shared_file(int file, usize bytes, int protection, usize offset = 0);

  Mapping(Mapping&& other) noexcept
      : start_(std::exchange(other.start_, nullptr)),
        total_(std::exchange(other.total_, 0)),
        skipped_(std::exchange(other.skipped_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(start_, other.start_);
    std::swap(total_, other.total_);
    std::swap(skipped_, other.skipped_);
    return *this;
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (start_ != nullptr) munmap(start_, total_);
  }

  [[nodiscard]] u8* data() const { return start_ == nullptr ? nullptr : start_ + skipped_; }
  [[nodiscard]] usize size() const { return total_ - skipped_; }

 private:
  Mapping(u8* start, usize total, usize skipped) : start_(start), total_(total), skipped_(skipped) {}

  u8* start_ = nullptr;
  usize total_ = 0;
  usize skipped_ = 0;  // the guard page
};

}  // namespace nacre::host
