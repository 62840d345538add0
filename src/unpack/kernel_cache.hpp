// Unpacked kernels, kept from one boot to the next in a folder of the user's own. An entry is found by the
// identity of the kernel's file (device, inode, size, time of last change): nothing that a kernel contains
// can make it be taken for another. Entries are written under a temporary name and renamed, so a reader
// sees a whole file or none. Hosted; any thread, any number of processes.
#pragma once

#include <string>

#include "board/boot/linux_payload.hpp"
#include "host/mapping.hpp"

namespace nacre::unpack {

// The vmlinux inside a kernel, and the kernel's setup header; empty when the guest must unpack it by itself.
class UnpackedKernel {
 public:
  UnpackedKernel() = default;
  // `mapping` holds `bytes` bytes of vmlinux and then the header.
  UnpackedKernel(host::Mapping mapping, u64 bytes) : mapping_(std::move(mapping)), bytes_(bytes) {}

  explicit operator bool() const { return bytes_ != 0; }
  [[nodiscard]] board::boot::Bytes vmlinux() const { return {mapping_.data(), bytes_}; }
  [[nodiscard]] board::boot::Bytes header() const {
    return {mapping_.data() + bytes_, board::boot::kSetupBytes};
  }

 private:
  host::Mapping mapping_;
  u64 bytes_ = 0;
};

// What is kept of the kernel in the file at `path`; empty when nothing is. Does not read the file.
UnpackedKernel find_unpacked(const char* path, const std::string& folder);

// Unpacks `kernel`, the content of the file at `path`, and keeps the result. Nothing that fails here is an
// error: without a folder (empty string, or not writable) it will take as long the next time, and what is
// not a bzImage, or of an unknown kind, or damaged, gives an empty result; the guest or the loader sees to
// it.
UnpackedKernel unpack_kernel(board::boot::Bytes kernel, const char* path, const std::string& folder);

}  // namespace nacre::unpack
