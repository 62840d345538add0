// The file system device: carries FUSE requests from the guest's driver to whoever serves files, and the
// answers back. Virtio 1.2, 5.11. It looks at none of them: any number up to kSlots is under way at once, and
// they complete in any order.
//
// Queues: one for what must not wait (the driver's FORGETs), one for requests. Freestanding. Threads: as
// virtio/device.hpp says; FileServer is called on the queues' side.
#pragma once

#include "virtio/fs/registers.hpp"
#include "virtio/request_device.hpp"

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
  // The device is being reset: what waits for others' locks is to be completed now, and all that the guest
  // has looked up and opened is forgotten. Called once, then dispatch() until nothing is under way.
  virtual void reset() = 0;

 protected:
  ~FileServer() = default;
};

struct FileSlot : RequestSlot {
  FileRequest request;
  Segment segments[kMaxQueueSize];
};

class Fs final : public RequestDevice<FileSlot, 128> {
 public:
  // `tag`: what the guest mounts; what is over kTagBytes is cut.
  Fs(const memory::AddressSpace& space, const Ports& ports, FileServer& server, const char* tag);

  u64 config_read(u64 offset, unsigned size) override;

  // The server's answer. Within FileServer::dispatch().
  void completed(FileRequest& request);

 private:
  static constexpr unsigned kQueues = 2;

  void begin(unsigned queue, const Chain& chain) override;
  void dispatch() override { server_.dispatch(); }
  void started(u64 features) override;
  bool stopped() override;

  void finish(FileSlot& slot);

  FileServer& server_;
  Config config_;
  bool reset_told_ = true;  // since it was started
  Queue queue_[kQueues];
};

}  // namespace nacre::virtio::fs
