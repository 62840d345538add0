// The file system device: carries FUSE requests from the guest's driver to whoever serves files, and the answers back.
// Virtio 1.2, 5.11. It looks at none of them: any number up to kSlots is under way at once, and they
// complete in any order.
//
// Queues: one for what must not wait (the driver's FORGETs), one for requests. Freestanding. Threads: as virtio/device.hpp says;
// FileServer is called on the queues' side.
#pragma once

#include "virtio/device.hpp"
#include "virtio/fs/registers.hpp"

namespace nacre::virtio::fs {

// Lives until it is complete; `slot` is below Fs::kSlots and tells those under way apart.
struct FileRequest {
  u16 slot = 0;
  unsigned readable = 0, total = 0;  // segments, as a Chain has them
  u64 writable_bytes = 0;
  const Segment* segments = nullptr;
  u32 written = 0;  // by the server: bytes of the answer, from the first writable segment on
};

// The backend.
class FileServer {
 public:
  // True: complete at once. False: Fs::completed() is called later, from within dispatch().
  [[nodiscard]] virtual bool submit(FileRequest& request) = 0;
  // Completes what is answered. Does not block.
  virtual void dispatch() = 0;
  // The device is being reset: what waits for others' locks is to be completed now, and all that the guest has looked up and
  // opened is forgotten. Called once, then dispatch() until nothing is under way.
  virtual void reset() = 0;

 protected:
  ~FileServer() = default;
};

class Fs final : public Device {
 public:
  static constexpr unsigned kSlots = 128;

  // `tag`: what the guest mounts; what is over kTagBytes is cut.
  Fs(const memory::AddressSpace& space, const Ports& ports, FileServer& server, const char* tag);

  u64 config_read(u64 offset, unsigned size) override;

  // The server's answer. Within FileServer::dispatch().
  void completed(FileRequest& request);
  // Requests under way; for whoever saves the device: none may be.
  [[nodiscard]] unsigned under_way() const { return under_way_; }

 private:
  static constexpr unsigned kQueues = 2;

  struct Slot {
    FileRequest request;
    ChainId id;
    u16 queue = 0;
    bool busy = false;
    Segment segments[kMaxQueueSize];
  };

  void process(unsigned index) override;
  void poll() override;
  void started(u64 features) override;
  bool stopped() override;

  void begin(unsigned index);
  void finish(Slot& slot);
  void publish_finished();
  Slot* free_slot();

  FileServer& server_;
  Config config_;
  unsigned under_way_ = 0;
  bool reset_told_ = true;  // since it was started
  u64 finished_ = 0;        // queues that have something to publish
  u64 starved_ = 0;         // queues that were left because no slot was free
  Queue queue_[kQueues];
  Chain chain_;
  Slot slots_[kSlots];
};

}  // namespace nacre::virtio::fs
