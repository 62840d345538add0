// GuestRam: the guest's memory, one memfd mapped once, and the array of page flags beside it. Untouched pages
// take no host memory. Owned by the VM.
#pragma once

#include "base/result.hpp"
#include "host/fd.hpp"
#include "host/mapping.hpp"

namespace nacre::host {

class GuestRam {
 public:
  // `bytes` must be whole pages. Errors: 0, not whole pages, more than the host could ever give.
  // `more_flags`: behind the RAM's, for pages that are in other memory.
  static Result<GuestRam> create(u64 bytes, u64 more_flags = 0);
  // What create() would say of that size.
  static Status possible(u64 bytes);

  [[nodiscard]] u8* data() const { return memory_.data(); }
  [[nodiscard]] u64 size() const { return memory_.size(); }
  [[nodiscard]] u8* page_flags() const { return flags_.data(); }
  [[nodiscard]] int file() const { return file_.number(); }

 private:
  UniqueFd file_;
  Mapping memory_;
  Mapping flags_;
};

// "512M", "2G", "1048576K" or bytes. Nothing for text that is not a size or does not fit 64 bits.
Result<u64> parse_size(const char* text);

}  // namespace nacre::host
