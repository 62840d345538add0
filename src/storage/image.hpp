// Image: a guest's disk, whatever format it is kept in. This is all that a disk device sees: capacity and
// requests with host memory, complete on the I/O thread.
//
// Requests are refused with EINVAL outside [0, size()), and with EROFS when they change a read-only image.
// Any number may be under way; those that overlap and are under way together may happen in either order.
#pragma once

#include <memory>
#include <string>

#include "base/result.hpp"
#include "storage/block_file.hpp"

namespace nacre::storage {

enum class Format : u8 { Detect, Raw, Qcow2 };
const char* name_of(Format format);
// "raw", "qcow2"; Detect for any other text.
Format format_named(const std::string& name);

class Image : public Target {
 public:
  [[nodiscard]] virtual u64 size() const = 0;  // bytes
  [[nodiscard]] virtual Format format() const = 0;
  // Discards of whole, aligned pieces of so many bytes (a power of two) give space back.
  [[nodiscard]] virtual u64 discard_unit() const = 0;
  [[nodiscard]] bool is_read_only() const { return access_ == Access::ReadOnly; }

  // From `offset` on: does it read as zeros without anything being stored for it, and up to where. Blocks.
  struct Extent {
    u64 end;
    bool is_zero;
  };
  virtual Result<Extent> extent_at(u64 offset) = 0;

  // Completes what is under way and makes it durable. Blocks. Nothing may be submitted afterwards. An image
  // that is dropped without it is as after a crash: valid, without what was not flushed.
  virtual Status close() = 0;
  // Loop::wait of the loop that drives it.
  virtual void wait() = 0;

 protected:
  explicit Image(Access access) : access_(access) {}
  // Whether the request cannot be; its error is set then.
  bool refuses(Request& request) const;

 private:
  Access access_;
};

// One operation, waited for; the errno or 0. For tools and tests.
int read_now(Image& image, u64 offset, std::span<u8> bytes);
int write_now(Image& image, u64 offset, std::span<const u8> bytes);
int do_now(Image& image, Request::Kind kind, u64 offset, u64 length,
           Request::Space space = Request::Space::Release);

}  // namespace nacre::storage
