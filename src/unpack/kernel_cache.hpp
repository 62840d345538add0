// Unpacked kernels, kept from one boot to the next in a folder of the user's own. An entry is found by the
// identity of the kernel's file (device, inode, size, time of last change): nothing that a kernel contains
// can make it be taken for another. Entries are written under a temporary name and renamed, so a reader
// sees a whole file or none. Hosted; any thread, any number of processes.
#pragma once

#include <string>

#include "board/boot/boot.hpp"
#include "host/mapping.hpp"

namespace nacre::unpack {

// The vmlinux inside a kernel; empty when the guest must unpack it by itself.
class UnpackedKernel {
 public:
  UnpackedKernel() = default;
  UnpackedKernel(host::Mapping mapping, u64 bytes) : mapping_(std::move(mapping)), bytes_(bytes) {}
  [[nodiscard]] board::boot::Bytes bytes() const { return {mapping_.data(), bytes_}; }

 private:
  host::Mapping mapping_;
  u64 bytes_ = 0;
};

// `kernel` is the content of the file at `path`. Nothing that fails here is an error: without a folder
// (empty string, or not writable) it only takes longer, and what is not a bzImage, or of an unknown kind,
// or damaged, gives an empty result, and the guest or the loader sees to it.
UnpackedKernel unpack_kernel(board::boot::Bytes kernel, const char* path, const std::string& folder);

}  // namespace nacre::unpack
