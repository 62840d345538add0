#include "share/call.hpp"

#include <algorithm>
#include <cerrno>
#include <climits>

namespace nacre::share {
namespace {

usize total(std::span<const iovec> pieces) {
  usize bytes = 0;
  for (const iovec& piece : pieces) bytes += piece.iov_len;
  return bytes;
}

// Gives use(place, length) for each part of [skip, skip + bytes) of `pieces`.
template <typename Use>
void for_each_part(std::span<const iovec> pieces, usize skip, usize bytes, Use use) {
  for (const iovec& piece : pieces) {
    if (bytes == 0) return;
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    const usize length = std::min(piece.iov_len - skip, bytes);
    use(static_cast<char*>(piece.iov_base) + skip, length);
    bytes -= length;
    skip = 0;
  }
}

void get(std::span<const iovec> pieces, usize skip, void* to, usize bytes) {
  char* at = static_cast<char*>(to);
  for_each_part(pieces, skip, bytes, [&at](const char* part, usize length) {
    std::memcpy(at, part, length);
    at += length;
  });
}

void put(std::span<const iovec> pieces, usize skip, const void* from, usize bytes) {
  const char* at = static_cast<const char*>(from);
  for_each_part(pieces, skip, bytes, [&at](char* part, usize length) {
    std::memcpy(part, at, length);
    at += length;
  });
}

}  // namespace

bool is_component(std::string_view name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == name.npos;
}

bool Call::begin(std::span<const iovec> in, std::span<const iovec> out) {
  in_ = in;
  out_ = out;
  room_ = total(out);
  header_ = {};
  arguments_.clear();
  at_ = 0;
  const usize given = total(in);
  if (given < sizeof header_) return false;
  get(in, 0, &header_, sizeof header_);
  if (header_.len < sizeof header_ || header_.len > given) return false;
  usize bytes = header_.len - sizeof header_;
  if (header_.opcode == FUSE_WRITE)
    bytes = std::min(bytes, sizeof(fuse_write_in));  // its data stays where it is
  if (bytes > kMostArguments) return false;
  arguments_.resize(bytes);
  get(in, sizeof header_, arguments_.data(), bytes);
  return true;
}

bool Call::take_text(const char*& text) {
  const void* end = memchr(arguments_.data() + at_, 0, arguments_.size() - at_);
  if (end == nullptr) return false;
  text = arguments_.data() + at_;
  at_ = static_cast<usize>(static_cast<const char*>(end) - arguments_.data()) + 1;
  return true;
}

int Call::take_name(const char*& name) {
  if (!take_text(name)) return EINVAL;
  if (std::strlen(name) > NAME_MAX) return ENAMETOOLONG;
  return is_component(name) ? 0 : EINVAL;
}

const char* Call::take_bytes(usize bytes) {
  if (arguments_.size() - at_ < bytes) return nullptr;
  const char* from = arguments_.data() + at_;
  at_ += bytes;
  return from;
}

bool Call::data(usize bytes, std::vector<iovec>& pieces) const {
  if (header_.len - sizeof header_ - at_ < bytes) return false;
  pieces.clear();
  for_each_part(in_, sizeof header_ + at_, bytes, [&pieces](char* part, usize length) {
    pieces.push_back({part, length});
  });
  return true;
}

void Call::space(usize bytes, std::vector<iovec>& pieces) const {
  pieces.clear();
  for_each_part(out_, sizeof(fuse_out_header), std::min(bytes, room()), [&pieces](char* part, usize length) {
    pieces.push_back({part, length});
  });
}

u32 Call::write_header(int error, usize payload) const {
  if (room_ < sizeof(fuse_out_header)) return 0;  // there is nothing to tell it with
  const usize bytes = sizeof(fuse_out_header) + payload;
  const fuse_out_header header = {static_cast<u32>(bytes), -error, header_.unique};
  put(out_, 0, &header, sizeof header);
  return static_cast<u32>(bytes);
}

u32 Call::answer_bytes(const void* from, usize bytes) const {
  if (bytes > room()) return fail(EIO);
  put(out_, sizeof(fuse_out_header), from, bytes);
  return write_header(0, bytes);
}

}  // namespace nacre::share
