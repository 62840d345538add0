// The block device. Virtio 1.2, 5.2. Any number of requests up to kSlots is under way at once, from all
// queues, and they complete in any order; the guest orders by flushes. Freestanding. Threads: as
// virtio/device.hpp says; Disk is called on the queues' side.
#pragma once

#include "virtio/blk/registers.hpp"
#include "virtio/device.hpp"

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

class Blk final : public Device {
 public:
  static constexpr unsigned kQueues = 8;
  static constexpr unsigned kSlots = 64;
  static constexpr unsigned kSegments = 128;  // of one request's data

  Blk(const memory::AddressSpace& space, const Ports& ports, Disk& disk, const BlkOptions& options);

  u64 config_read(u64 offset, unsigned size) override;

  // The disk has become larger or smaller. Under the board's lock; then PciTransport::config_interrupt().
  void resized(u64 bytes);
  // The disk's answer to a request that submit() did not complete. Within Disk::dispatch().
  void completed(DiskRequest& request);
  // Requests under way; for whoever saves the device: none may be.
  [[nodiscard]] unsigned under_way() const { return under_way_; }

 private:
  struct Slot {
    DiskRequest request;
    ChainId id;
    u16 queue = 0;
    bool busy = false;
    u32 data_bytes = 0;  // what the driver is given, without the status
    Segment status;      // one byte
    Segment segments[kSegments];
  };

  void process(unsigned index) override;
  void poll() override;
  bool stopped() override;

  void begin(unsigned index);
  RequestStatus prepare(ChainReader& reader, const RequestHeader& header, Slot& slot);
  RequestStatus prepare_transfer(const RequestHeader& header, bool to_guest, Slot& slot);
  RequestStatus prepare_range(ChainReader& reader, bool zeroes, Slot& slot);
  RequestStatus give_id(Slot& slot);
  bool within(u64 sector, u64 bytes) const;
  bool find_status(Segment& status) const;
  void finish(Slot& slot, RequestStatus status);
  void publish_finished();
  Slot* free_slot();

  Disk& disk_;
  const BlkOptions options_;
  Config config_;             // under the board's lock
  std::atomic<u64> sectors_;  // what of it both sides know
  unsigned under_way_ = 0;
  u64 finished_ = 0;  // queues that have something to publish
  u64 starved_ = 0;   // queues that were left because no slot was free
  Queue queue_[kQueues];
  Chain chain_;
  Slot slots_[kSlots];
};

}  // namespace nacre::virtio::blk
