// The block device. Virtio 1.2, 5.2. Any number of requests up to kSlots is under way at once, from all
// queues, and they complete in any order; the guest orders by flushes. Freestanding. Threads: as
// virtio/device.hpp says; Disk is called on the queues' side.
#pragma once

#include "virtio/blk/registers.hpp"
#include "virtio/request_device.hpp"

namespace nacre::virtio::blk {

// What the disk is asked for. Lives until it is complete; `slot` is below Blk::kSlots and tells those under
// way apart.
struct DiskRequest {
  enum class Kind : u8 { Read, Write, Flush, Discard, WriteZeroes };
  Kind kind = Kind::Read;
  bool may_unmap = false;  // WriteZeroes: space may be given back
  bool failed = false;     // by the disk, when it is complete
  u16 slot = 0;
  u64 offset = 0, bytes = 0;          // within the disk's size
  const Segment* segments = nullptr;  // of Read and Write: `bytes` in all
  unsigned segment_count = 0;
};

// The backend: a disk of so many bytes.
class Disk {
 public:
  // True: complete at once. False: Blk::completed() is called later, from within dispatch().
  [[nodiscard]] virtual bool submit(DiskRequest& request) = 0;
  // Hands over what was submitted, and completes what is done. Does not block.
  virtual void dispatch() = 0;
  // The device is being reset: what has not begun yet may be completed without being done.
  virtual void abandon() {}

 protected:
  ~Disk() = default;
};

struct BlkOptions {
  u64 bytes = 0;  // whole sectors; what is over is not shown
  bool read_only = false;
  unsigned queues = 1;  // to Blk::kQueues
  u64 discard_unit =
      4096;  // bytes, a power of two of whole sectors: what is discarded gives space back in these
  char serial[kIdBytes] = {};
};

struct DiskSlot : RequestSlot {
  static constexpr unsigned kSegments = 128;

  DiskRequest request;
  u32 data_bytes = 0;  // what the driver is given, without the status
  Segment status;      // one byte
  Segment segments[kSegments];
};

class Blk final : public RequestDevice<DiskSlot, 64> {
 public:
  static constexpr unsigned kQueues = 8;
  static constexpr unsigned kSegments = DiskSlot::kSegments;  // of one request's data

  Blk(const memory::AddressSpace& space, const Ports& ports, Disk& disk, const BlkOptions& options);

  u64 config_read(u64 offset, unsigned size) override;

  // The disk has become larger or smaller. Under the board's lock; then PciTransport::config_interrupt().
  void resized(u64 bytes);
  // The disk's answer to a request that submit() did not complete. Within Disk::dispatch().
  void completed(DiskRequest& request);

 private:
  void begin(unsigned queue, const Chain& chain) override;
  void dispatch() override { disk_.dispatch(); }
  void batch_ended() override { disk_.dispatch(); }
  bool stopped() override;

  RequestStatus prepare(const Chain& chain, ChainReader& reader, const RequestHeader& header, DiskSlot& slot);
  RequestStatus prepare_transfer(const Chain& chain, const RequestHeader& header, bool to_guest,
                                 DiskSlot& slot);
  RequestStatus prepare_range(ChainReader& reader, bool zeroes, DiskSlot& slot);
  RequestStatus give_id(const Chain& chain, DiskSlot& slot);
  bool within(u64 sector, u64 bytes) const;
  static bool find_status(const Chain& chain, Segment& status);
  void finish(DiskSlot& slot, RequestStatus status);

  Disk& disk_;
  const BlkOptions options_;
  Config config_;             // under the board's lock
  std::atomic<u64> sectors_;  // what of it both sides know
  Queue queue_[kQueues];
};

}  // namespace nacre::virtio::blk
