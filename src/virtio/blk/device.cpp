#include "virtio/blk/device.hpp"

#include "virtio/registers.hpp"

namespace nacre::virtio::blk {
namespace {

constexpr u32 kPageExponent = 3;     // blocks of 4 KiB below sectors of 512 bytes
constexpr u32 kMostRange = 1 << 22;  // sectors discarded or zeroed at once: 2 GiB

u64 features_of(const BlkOptions& options) {
  using F = BlkFeature;
  u64 features = F::seg_max | F::blk_size | F::flush | F::topology;
  features |= options.read_only ? F::read_only : F::discard | F::write_zeroes;
  return options.queues > 1 ? features | F::multi_queue : features;
}

}  // namespace

Blk::Blk(const memory::AddressSpace& space, const Ports& ports, Disk& disk, const BlkOptions& options)
    : RequestDevice(
          {.name = "blk", .id = DeviceId::Block, .class_code = 0x010000, .features = features_of(options)},
          {queue_, options.queues}, space, ports),
      disk_(disk),
      options_(options),
      sectors_(options.bytes >> kSectorShift) {
  NACRE_CHECK(options.queues >= 1 && options.queues <= kQueues);
  config_.capacity = options.bytes >> kSectorShift;
  config_.seg_max = kSegments - 2;
  config_.blk_size = kSectorBytes;
  config_.physical_block_exponent = kPageExponent;
  config_.min_io_size = 8;
  config_.num_queues = static_cast<u16>(options.queues);
  config_.max_discard_sectors = config_.max_write_zeroes_sectors = kMostRange;
  config_.max_discard_seg = config_.max_write_zeroes_seg = 1;
  config_.discard_sector_alignment = static_cast<u32>(options.discard_unit >> kSectorShift);
  config_.write_zeroes_may_unmap = 1;
}

u64 Blk::config_read(u64 offset, unsigned size) {
  return config_bytes(&config_, sizeof config_, offset, size);
}

void Blk::resized(u64 bytes) {
  config_.capacity = bytes >> kSectorShift;
  sectors_.store(config_.capacity, std::memory_order_relaxed);
  config_changed();
}

bool Blk::stopped() {
  if (under_way() != 0) {
    disk_.abandon();
    disk_.dispatch();
  }
  return RequestDevice::stopped();
}

// The status is the last byte that the device may write, wherever the driver has cut. 5.2.6, 2.7.4.
bool Blk::find_status(const Chain& chain, Segment& status) {
  if (chain.writable_bytes == 0) return false;
  const Segment& last = chain.segments[chain.total - 1];
  status = {last.host + last.bytes - 1, last.guest + last.bytes - 1, 1};
  return true;
}

bool Blk::within(u64 sector, u64 bytes) const {
  const u64 sectors = sectors_.load(std::memory_order_relaxed);
  return sector <= sectors && bytes >> kSectorShift <= sectors - sector;
}

void Blk::begin(unsigned queue, const Chain& chain) {
  ChainReader reader(chain);
  RequestHeader header;
  Segment status_byte;
  if (!reader.read(header) || !find_status(chain, status_byte))
    return fail("a request has no header, or no room for a status");
  DiskSlot& slot = take_slot(queue, chain);
  slot.status = status_byte;
  slot.data_bytes = 0;
  DiskRequest& request = slot.request;
  request = DiskRequest{.slot = request.slot, .segments = slot.segments};
  const RequestStatus status = prepare(chain, reader, header, slot);
  if (status != RequestStatus::Ok) return finish(slot, status);
  const bool needs_disk = static_cast<RequestType>(header.type) != RequestType::GetId;
  if (needs_disk && !disk_.submit(request)) return;
  finish(slot, request.failed ? RequestStatus::IoError : RequestStatus::Ok);
}

RequestStatus Blk::prepare(const Chain& chain, ChainReader& reader, const RequestHeader& header,
                           DiskSlot& slot) {
  const RequestType type = static_cast<RequestType>(header.type);
  const bool changes =
      type == RequestType::Out || type == RequestType::Discard || type == RequestType::WriteZeroes;
  if (changes && options_.read_only) return RequestStatus::IoError;  // 5.2.6.2
  switch (type) {
    case RequestType::In:
      return prepare_transfer(chain, header, true, slot);
    case RequestType::Out:
      return prepare_transfer(chain, header, false, slot);
    case RequestType::Flush:
      slot.request.kind = DiskRequest::Kind::Flush;
      return RequestStatus::Ok;
    case RequestType::GetId:
      return give_id(chain, slot);
    case RequestType::Discard:
      return prepare_range(reader, false, slot);
    case RequestType::WriteZeroes:
      return prepare_range(reader, true, slot);
  }
  return RequestStatus::Unsupported;
}

RequestStatus Blk::prepare_transfer(const Chain& chain, const RequestHeader& header, bool to_guest,
                                    DiskSlot& slot) {
  DiskRequest& request = slot.request;
  request.kind = to_guest ? DiskRequest::Kind::Read : DiskRequest::Kind::Write;
  const u64 skip = to_guest ? 0 : sizeof(RequestHeader);
  request.bytes = to_guest ? chain.writable_bytes - 1 : chain.readable_bytes - skip;
  if (request.bytes % kSectorBytes != 0 || !within(header.sector, request.bytes))
    return RequestStatus::IoError;
  if (request.bytes > 0xffff'0000) return RequestStatus::IoError;  // what the used ring can tell
  request.offset = header.sector << kSectorShift;
  const unsigned first = to_guest ? chain.readable : 0;
  Cursor cursor(chain.segments + first, (to_guest ? chain.total : chain.readable) - first);
  for (u64 skipped = 0; skipped < skip;) skipped += cursor.take(skip - skipped).bytes;
  u64 left = request.bytes;
  while (left != 0) {
    if (request.segment_count == kSegments) return RequestStatus::IoError;  // more than seg_max
    const Segment piece = cursor.take(left);
    slot.segments[request.segment_count++] = piece;
    left -= piece.bytes;
  }
  if (to_guest) slot.data_bytes = static_cast<u32>(request.bytes);
  return RequestStatus::Ok;
}

RequestStatus Blk::prepare_range(ChainReader& reader, bool zeroes, DiskSlot& slot) {
  RangeSegment range;
  if (reader.left() != sizeof range || !reader.read(range)) return RequestStatus::Unsupported;
  const u32 known = zeroes ? RangeSegment::unmap : 0;
  if ((range.flags & ~known) != 0) return RequestStatus::Unsupported;  // 5.2.6.2
  const u64 bytes = u64{range.count} << kSectorShift;
  if (range.count > kMostRange || !within(range.sector, bytes)) return RequestStatus::IoError;
  DiskRequest& request = slot.request;
  request.kind = zeroes ? DiskRequest::Kind::WriteZeroes : DiskRequest::Kind::Discard;
  request.may_unmap = (range.flags & RangeSegment::unmap) != 0;
  request.offset = range.sector << kSectorShift;
  request.bytes = bytes;
  return RequestStatus::Ok;
}

RequestStatus Blk::give_id(const Chain& chain, DiskSlot& slot) {
  if (chain.writable_bytes < kIdBytes + 1) return RequestStatus::Unsupported;
  ChainWriter writer(chain, memory());
  slot.data_bytes = static_cast<u32>(writer.write(options_.serial, kIdBytes));
  return RequestStatus::Ok;
}

void Blk::completed(DiskRequest& request) {
  finish(slot_of(request), request.failed ? RequestStatus::IoError : RequestStatus::Ok);
}

void Blk::finish(DiskSlot& slot, RequestStatus status) {
  if (slot.request.kind == DiskRequest::Kind::Read) {
    // Also after an error: some of it may have arrived.
    for (unsigned i = 0; i < slot.request.segment_count; ++i) {
      memory().written(slot.segments[i].guest, slot.segments[i].bytes);
    }
  }
  if (!release(slot)) return;
  *slot.status.host = static_cast<u8>(status);
  memory().written(slot.status.guest, 1);
  answer(slot, status == RequestStatus::Ok ? slot.data_bytes + 1 : 1);
}

}  // namespace nacre::virtio::blk
