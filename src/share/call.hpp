// Call: one FUSE request and the room for its answer, both in guest memory. What is asked is copied before it
// is looked at, as the guest may change it at any moment; only the bytes of reads and writes go to and from
// files directly. Linux, include/uapi/linux/fuse.h. On the server's thread.
#pragma once

#include <linux/fuse.h>
#include <sys/uio.h>

#include <cstring>
#include <span>
#include <string_view>
#include <vector>

#include "base/types.hpp"

namespace nacre::share {

class Call {
 public:
  // The longest that is read of a request: an extended attribute's value and its name.
  static constexpr usize kMostArguments = 72 * 1024;

  // False: not a request at all (no header, or one that lies about its length). It is answered by fail()
  // then, if there is a header.
  bool begin(std::span<const iovec> in, std::span<const iovec> out);

  [[nodiscard]] const fuse_in_header& header() const { return header_; }
  [[nodiscard]] u32 operation() const { return header_.opcode; }

  // --- what is asked, from its start on ---
  // False: it is too short.
  template <typename T>
  [[nodiscard]] bool take(T& value) {
    if (arguments_.size() - at_ < sizeof value) return false;
    std::memcpy(&value, arguments_.data() + at_, sizeof value);
    at_ += sizeof value;
    return true;
  }
  // Text that ends with a zero, of any content. False: it does not end.
  [[nodiscard]] bool take_text(const char*& text);
  // The same for one component of a path. Else the error for the guest.
  [[nodiscard]] int take_name(const char*& name);
  // Bytes. Null: there are not so many.
  [[nodiscard]] const char* take_bytes(usize bytes);
  // Of a write: `bytes` of data behind the arguments, where they are. False: there are not so many.
  [[nodiscard]] bool data(usize bytes, std::vector<iovec>& pieces) const;

  // --- the answer ---
  // Room behind the answer's header.
  [[nodiscard]] usize room() const {
    return room_ < sizeof(fuse_out_header) ? 0 : room_ - sizeof(fuse_out_header);
  }
  // The first `bytes` of that room (or what there is), where it is.
  void space(usize bytes, std::vector<iovec>& pieces) const;
  // The answer's size is told to the guest. All return how many bytes were written.
  u32 fail(int error) const { return write_header(error, 0); }
  u32 succeed(usize already_written = 0) const { return write_header(0, already_written); }
  template <typename T>
  u32 answer(const T& value) const {
    return answer_bytes(&value, sizeof value);
  }
  u32 answer_bytes(const void* from, usize bytes) const;

 private:
  u32 write_header(int error, usize payload) const;

  fuse_in_header header_ = {};
  std::vector<char> arguments_;  // behind the header
  usize at_ = 0;
  std::span<const iovec> in_, out_;
  usize room_ = 0;
};

// Whether it may be given to the host as one component: not empty, not "." or "..", without "/".
[[nodiscard]] bool is_component(std::string_view name);

}  // namespace nacre::share
