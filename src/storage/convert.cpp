#include <unistd.h>

#include <algorithm>
#include <array>

#include "host/error.hpp"
#include "storage/buffers.hpp"
#include "storage/task.hpp"
#include "storage/tools.hpp"

namespace nacre::storage {
namespace {

constexpr u64 kPiece = kMiB;
constexpr usize kPieces = 4;  // under way at once

struct Slot {
  PageBuffer memory = PageBuffer(kPiece);
  bool is_busy = false;
};

// Writes what is not zero of a piece, in grains: what the target can leave out.
Task<int> write_piece(Image* target, std::span<u8> bytes, u64 offset, u64 grain) {
  const auto is_empty = [&](u64 at) {
    return is_zero(bytes.subspan(at, std::min(grain, bytes.size() - at)));
  };
  int error = 0;
  for (u64 at = 0; at < bytes.size() && error == 0;) {
    u64 end = at;
    while (end < bytes.size() && !is_empty(end)) end = std::min<u64>(end + grain, bytes.size());
    if (end == at) {
      at += grain;
      continue;
    }
    const iovec memory = piece_of(bytes.subspan(at, end - at));
    error = co_await Io(*target, Request::Kind::Write, offset + at, end - at, {&memory, 1});
    at = end;
  }
  co_return error;
}

Detached copy_piece(Image* source, Image* target, Slot* slot, u64 offset, u64 length, u64 grain,
                    int* result) {
  const auto bytes = slot->memory.bytes().first(length);
  const iovec memory = piece_of(bytes);
  int error = co_await Io(*source, Request::Kind::Read, offset, length, {&memory, 1});
  if (error == 0) error = co_await write_piece(target, bytes, offset, grain);
  if (error != 0) *result = error;
  slot->is_busy = false;
}

Status copy(Image& source, Image& target, u64 grain, const std::function<void(u64, u64)>& progress) {
  std::array<Slot, kPieces> slots;
  int error = 0;
  u64 offset = 0;
  Status failed;
  while (offset < source.size() && error == 0) {
    const auto extent = source.extent_at(offset);
    if (!extent) {
      for (Slot& slot : slots) {
        while (slot.is_busy) source.wait();
      }
      return extent.error();
    }
    const u64 end = std::min(extent.value().end, source.size());
    if (extent.value().is_zero) {
      offset = end;
      continue;
    }
    const u64 length = std::min(end - offset, kPiece - offset % kPiece);
    auto slot = slots.end();
    while ((slot = std::find_if(slots.begin(), slots.end(),
                                [](const Slot& each) { return !each.is_busy; })) == slots.end())
      source.wait();
    slot->is_busy = true;
    copy_piece(&source, &target, &*slot, offset, length, grain, &error);
    offset += length;
    progress(offset, source.size());
  }
  for (Slot& slot : slots) {
    while (slot.is_busy) source.wait();
  }
  if (error != 0) return host::error_with_number(error, "Cannot copy the disk");
  return {};
}

Status fill_target(Loop& loop, Image& source, const CreateRequest& target,
                   const std::function<void(u64, u64)>& progress) {
  OpenOptions options;
  options.access = Access::ReadWrite;
  options.format = target.format;
  const auto image = TRY(open_image(loop, target.path, options));
  const u64 grain = target.format == Format::Qcow2 ? u64{1} << target.qcow2.cluster_bits : kPageSize;
  TRY(copy(source, *image, std::min(grain, kPiece), progress));
  return image->close();
}

}  // namespace

Status convert_image(Loop& loop, const ConvertRequest& request,
                     const std::function<void(u64, u64)>& progress) {
  OpenOptions options;
  options.format = request.source_format;
  options.snapshot = request.snapshot;
  const auto source = TRY(open_image(loop, request.source, options));
  CreateRequest target = request.target;
  target.size = source->size();
  TRY(create_image(loop, target));
  const Status filled = fill_target(loop, *source, target, progress);
  if (!filled) unlink(target.path.c_str());
  return filled;
}

}  // namespace nacre::storage
