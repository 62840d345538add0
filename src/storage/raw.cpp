#include "storage/raw.hpp"

#include <array>
#include <cerrno>
#include <cstring>

#include "host/error.hpp"
#include "storage/buffers.hpp"

namespace nacre::storage {
namespace {

constexpr std::array<u8, 4> kQcowMagic = {'Q', 'F', 'I', 0xfb};

// A header may be written in pieces, so each piece counts that could complete one.
bool could_make_header(const Request& request) {
  if (request.kind != Request::Kind::Write || request.offset >= kQcowMagic.size() || request.length == 0)
    return false;
  std::array<u8, 4> start = kQcowMagic;
  const u64 most = start.size() - request.offset;
  const u64 length = request.length < most ? request.length : most;
  copy_out(request.buffers, 0, std::span(start).subspan(request.offset, length));
  return start == kQcowMagic;
}

}  // namespace

bool Raw::submit(Request& request) {
  if (refuses(request)) return true;
  if (said_ == Said::ByNobody && could_make_header(request)) {
    request.error = EPERM;
    return true;
  }
  if (is_read_only() && request.kind == Request::Kind::Flush) return true;
  return file_->submit(request);
}

Result<Image::Extent> Raw::extent_at(u64 offset) {
  const BlockFile::Extent extent = file_->extent_at(offset);
  return Extent{extent.end < size_ ? extent.end : size_, extent.is_hole};
}

Status Raw::close() {
  if (is_read_only()) return {};
  if (const int error = flush_now(*file_); error != 0)
    return host::error_with_number(error, "The disk image could not be made durable");
  return {};
}

}  // namespace nacre::storage
