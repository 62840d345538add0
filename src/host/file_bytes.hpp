// FileBytes: the content of a whole file (or pipe), read into memory of its own. Any thread.
#pragma once

#include <span>

#include "base/result.hpp"
#include "host/mapping.hpp"

namespace nacre::host {

class FileBytes {
 public:
  FileBytes() = default;  // empty
  // More than `most` bytes are an Error that names the file as `what` ("kernel") and the limit as `limit`
  // ("the guest's memory"), and may say what to do.
  static Result<FileBytes> read(const char* path, const char* what, u64 most, const char* limit,
                                const char* advice = "");

  [[nodiscard]] std::span<const u8> bytes() const { return {mapping_.data(), length_}; }

 private:
  Mapping mapping_;
  usize length_ = 0;
};

}  // namespace nacre::host
