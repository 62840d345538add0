// BlockFile: the bytes of a host file as image formats see them. HostFile is the real one; tests have others,
// that record what is written or fail when asked.
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "host/fd.hpp"
#include "storage/loop.hpp"

namespace nacre::storage {

class BlockFile : public Target {
 public:
  // Requests may lie anywhere: reading past the end gives zeros, writing there makes the file longer.
  // WriteZeroes and Discard do not make it longer.
  [[nodiscard]] virtual u64 size() const = 0;
  // Cuts the file or lengthens it by a hole; the errno or 0. Blocks, but not for the disk.
  [[nodiscard]] virtual int resize(u64 bytes) = 0;
  // Where from `offset` on the file's content is: data or a hole, and up to where. For sparse copies.
  struct Extent {
    u64 end;
    bool is_hole;
  };
  [[nodiscard]] virtual Extent extent_at(u64 offset) const {
    return {offset < size() ? size() : offset + 1, offset >= size()};
  }
  virtual void wait() = 0;  // Loop::wait
};

enum class Access : u8 { ReadOnly, ReadWrite };
// Whether an image that somebody else uses is refused. Unlocked is for looking at an image that a VM has
// open.
enum class Locking : u8 { Locked, Unlocked };

class HostFile final : public BlockFile {
 public:
  static Result<std::unique_ptr<HostFile>> open(Loop& loop, const std::string& path, Access access,
                                                Locking locking = Locking::Locked);
  // One that is open already, and locked where that is wanted.
  static Result<std::unique_ptr<HostFile>> from(Loop& loop, host::UniqueFd file, const std::string& path,
                                                Access access);
  // Creates it; a file that is there already is an Error.
  static Result<std::unique_ptr<HostFile>> create(Loop& loop, const std::string& path);

  bool submit(Request& request) override;
  [[nodiscard]] u64 size() const override { return size_; }
  [[nodiscard]] int resize(u64 bytes) override;
  [[nodiscard]] Extent extent_at(u64 offset) const override;
  void wait() override { loop_.wait(); }

  // Which file it is, whatever its name: for finding loops of backing files.
  struct Identity {
    u64 device, inode;
    bool operator==(const Identity&) const = default;
  };
  [[nodiscard]] Identity identity() const { return identity_; }
  [[nodiscard]] u64 allocated_bytes() const;
  // Another descriptor of the same open file: it keeps its locks.
  [[nodiscard]] Result<host::UniqueFd> duplicate(const std::string& path) const;
  [[nodiscard]] int number() const { return file_.number(); }

 private:
  HostFile(Loop& loop, host::UniqueFd file) : loop_(loop), file_(std::move(file)) {}
  Status adopt(const std::string& path, Access access, Locking locking);
  bool read_cached(Request& request) const;
  bool write_cached(Request& request);

  Loop& loop_;
  host::UniqueFd file_;
  u64 size_ = 0;
  bool is_regular_ = true;
  std::chrono::steady_clock::time_point patient_until_;  // no writing at once before this
  Identity identity_ = {};
};

// Reads or writes and waits for it; the errno or 0. For opening, creating and checking images.
int read_now(BlockFile& file, u64 offset, std::span<u8> bytes);
int write_now(BlockFile& file, u64 offset, std::span<const u8> bytes);
int flush_now(BlockFile& file);
int zero_now(BlockFile& file, u64 offset, u64 length);

}  // namespace nacre::storage
