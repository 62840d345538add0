// FileBytes: the content of a whole file (or pipe), read into memory of its own. Any thread.
#pragma once

#include <span>

#include "base/result.hpp"
#include "host/mapping.hpp"

namespace nacre::host {

class FileBytes {
 public:
  // `most`: a larger file is an Error that names it as `what` ("kernel").
  static Result<FileBytes> read(const char* path, const char* what, u64 most);

  [[nodiscard]] std::span<const u8> bytes() const { return {mapping_.data(), length_}; }

 private:
  Mapping mapping_;
  usize length_ = 0;
};

}  // namespace nacre::host
