#include "vm/disk.hpp"

#include <cerrno>
#include <cstring>

#include "storage/open.hpp"
#include "vm/line.hpp"

namespace nacre::vm {

using virtio::blk::DiskRequest;

StorageDisk::StorageDisk(std::unique_ptr<storage::Loop> loop, std::unique_ptr<storage::Image> image)
    : loop_(std::move(loop)), image_(std::move(image)) {
  for (Slot& slot : slots_) slot.disk = this;
}

Result<std::unique_ptr<StorageDisk>> StorageDisk::open(const DiskConfig& config) {
  auto loop = TRY(storage::Loop::create());
  const auto access = config.read_only ? storage::Access::ReadOnly : storage::Access::ReadWrite;
  storage::OpenOptions options;
  options.access = access;
  options.format = config.format;
  options.unsaid = storage::Unsaid::ByName;
  auto image = TRY(storage::open_image(*loop, config.path, options));
  if (image->size() < virtio::blk::kSectorBytes) {
    return Error("The disk image ")
        .append(config.path.c_str())
        .append(" is too small: a disk has at least 512 bytes.");
  }
  return std::unique_ptr<StorageDisk>(new StorageDisk(std::move(loop), std::move(image)));
}

bool StorageDisk::submit(DiskRequest& request) {
  Slot& slot = slots_[request.slot];
  slot.asked = &request;
  switch (request.kind) {
    case DiskRequest::Kind::Read:
      slot.kind = storage::Request::Kind::Read;
      break;
    case DiskRequest::Kind::Write:
      slot.kind = storage::Request::Kind::Write;
      break;
    case DiskRequest::Kind::Flush:
      slot.kind = storage::Request::Kind::Flush;
      break;
    case DiskRequest::Kind::Discard:
      slot.kind = storage::Request::Kind::Discard;
      break;
    case DiskRequest::Kind::WriteZeroes:
      slot.kind = storage::Request::Kind::WriteZeroes;
      break;
  }
  slot.space = request.may_unmap ? storage::Request::Space::Release : storage::Request::Space::Keep;
  slot.error = 0;
  slot.offset = request.offset;
  slot.length = request.bytes;
  for (unsigned i = 0; i < request.segment_count; ++i) {
    slot.pieces[i] = {request.segments[i].host, request.segments[i].bytes};
  }
  slot.buffers = {slot.pieces.data(), request.segment_count};
  if (!image_->submit(slot)) return false;
  request.failed = slot.error != 0;
  if (request.failed) complain(slot.error);
  return true;
}

void StorageDisk::Slot::completed() {
  asked->failed = error != 0;
  if (error != 0) disk->complain(error);
  disk->device_->completed(*asked);
}

// The guest sees an I/O error; the user should hear of the reason, once.
void StorageDisk::complain(int error) {
  if (complained_) return;
  complained_ = true;
  if (error == EPERM) {
    Line()
        .text(
            "nacre: The guest may not write what would make its raw disk look like a qcow2 image, as nobody "
            "has "
            "said that the disk is raw (format=raw); it was given an I/O error.")
        .write_to(2);
    return;
  }
  Line line;
  line.text("nacre: A disk image cannot be read or written: ").text(strerror(error));
  line.text("; the guest was given an I/O error.").write_to(2);
}

void StorageDisk::close() {
  while (device_->under_way() != 0) image_->wait();
  if (const Status status = image_->close(); !status)
    Line().text("nacre: ").text(status.error().message()).write_to(2);
}

}  // namespace nacre::vm
