// UniqueFd: one owned file descriptor. And the few file operations the program needs. Any thread.
#pragma once

#include <unistd.h>

#include <span>
#include <utility>

#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::host {

class UniqueFd {
 public:
  UniqueFd() = default;
  explicit UniqueFd(int number) : number_(number) {}
  UniqueFd(UniqueFd&& other) noexcept : number_(std::exchange(other.number_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(number_, other.number_);
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() {
    if (number_ >= 0) close(number_);
  }

  [[nodiscard]] int number() const { return number_; }
  explicit operator bool() const { return number_ >= 0; }

 private:
  int number_ = -1;
};

// Opens for reading; a folder is an Error.
Result<UniqueFd> open_for_reading(const char* path);
// Creates or empties.
Result<UniqueFd> open_for_writing(const char* path);

// Raises the limit of open descriptors (RLIMIT_NOFILE) by `wanted`, as far as the process may. Returns for how
// many there is room: fewer than wanted where the system allows no more, and then a part of what all share.
[[nodiscard]] usize reserve_descriptors(usize wanted);

// Writes all of it, waiting as long as it takes, also when the descriptor does not block. False: it cannot
// be written to (errno says why). Async-signal-safe.
bool write_all(int file, std::span<const u8> bytes);

}  // namespace nacre::host
