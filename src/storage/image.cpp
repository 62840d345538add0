#include "storage/image.hpp"

#include <cerrno>

#include "storage/buffers.hpp"

namespace nacre::storage {
namespace {

struct Now final : Request {
  bool is_complete = false;
  void completed() override { is_complete = true; }
};

int run_now(Image& image, Now& request) {
  request.is_complete = image.submit(request);
  while (!request.is_complete) image.wait();
  return request.error;
}

}  // namespace

const char* name_of(Format format) {
  switch (format) {
    case Format::Raw:
      return "raw";
    case Format::Qcow2:
      return "qcow2";
    case Format::Detect:
      break;
  }
  return "unknown";
}

Format format_named(const std::string& name) {
  if (name == "raw") return Format::Raw;
  if (name == "qcow2") return Format::Qcow2;
  return Format::Detect;
}

bool Image::refuses(Request& request) const {
  request.error = 0;
  if (request.kind == Request::Kind::Flush) return false;
  if (request.offset > size() || request.length > size() - request.offset) {
    request.error = EINVAL;
  } else if (is_read_only() && request.kind != Request::Kind::Read) {
    request.error = EROFS;
  }
  return request.error != 0;
}

int read_now(Image& image, u64 offset, std::span<u8> bytes) {
  const iovec piece = piece_of(bytes);
  Now request;
  request.kind = Request::Kind::Read;
  request.offset = offset;
  request.length = bytes.size();
  request.buffers = {&piece, 1};
  return run_now(image, request);
}

int write_now(Image& image, u64 offset, std::span<const u8> bytes) {
  const iovec piece = piece_of_constant(bytes);
  Now request;
  request.kind = Request::Kind::Write;
  request.offset = offset;
  request.length = bytes.size();
  request.buffers = {&piece, 1};
  return run_now(image, request);
}

int do_now(Image& image, Request::Kind kind, u64 offset, u64 length, Request::Space space) {
  Now request;
  request.kind = kind;
  request.space = space;
  request.offset = offset;
  request.length = length;
  return run_now(image, request);
}

}  // namespace nacre::storage
