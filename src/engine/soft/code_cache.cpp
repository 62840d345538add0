#include "engine/soft/code_cache.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <utility>

namespace nacre::soft {

Result<CodeCache> CodeCache::create() {
  CodeCache cache;
  const int file = memfd_create("nacre-code", MFD_CLOEXEC);
  if (file < 0) return Error("cannot make memory for translated code: memfd_create failed");
  const auto close_and_fail = [&](const char* text) {
    close(file);
    return Error(text);
  };
  if (ftruncate(file, kCodeBytes) != 0) {
    return close_and_fail("cannot make memory for translated code: no space for 32 MiB of shared memory");
  }
  void* reserved =
      mmap(nullptr, kCodeBytes + kCellBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return close_and_fail("cannot reserve address space for translated code");
  cache.executable_ = static_cast<u8*>(reserved);
  if (mmap(reserved, kCodeBytes, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, file, 0) == MAP_FAILED) {
    return close_and_fail(
        "the host does not allow executable memory (is this process under SELinux execmem or a seccomp "
        "filter?)");
  }
  void* cells = mmap(cache.executable_ + kCodeBytes, kCellBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  if (cells == MAP_FAILED) return close_and_fail("cannot map memory for the translator's link cells");
  cache.cells_ = static_cast<u64*>(cells);
  void* writable = mmap(nullptr, kCodeBytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
  if (writable == MAP_FAILED) return close_and_fail("cannot map translated code for writing");
  cache.writable_ = static_cast<u8*>(writable);
  close(file);
  return cache;
}

CodeCache::CodeCache(CodeCache&& other) noexcept
    : writable_(std::exchange(other.writable_, nullptr)),
      executable_(std::exchange(other.executable_, nullptr)),
      cells_(std::exchange(other.cells_, nullptr)) {}

CodeCache::~CodeCache() {
  if (executable_ != nullptr) munmap(executable_, kCodeBytes + kCellBytes);
  if (writable_ != nullptr) munmap(writable_, kCodeBytes);
}

}  // namespace nacre::soft
