#include "virtio/fs/device.hpp"

#include "virtio/registers.hpp"

namespace nacre::virtio::fs {
Fs::Fs(const memory::AddressSpace& space, const Ports& ports, FileServer& server, const char* tag)
    : RequestDevice({.name = "fs", .id = DeviceId::FileSystem, .class_code = 0x018000}, queue_, space, ports),
      server_(server) {
  for (usize i = 0; i < kTagBytes && tag[i] != 0; ++i) config_.tag[i] = static_cast<u8>(tag[i]);
  config_.num_request_queues = kQueues - 1;
}

u64 Fs::config_read(u64 offset, unsigned size) {
  return config_bytes(&config_, sizeof config_, offset, size);
}

void Fs::started(u64) {
  reset_told_ = false;
}

bool Fs::stopped() {
  if (!reset_told_) {
    reset_told_ = true;
    server_.reset();
  }
  if (under_way() != 0) server_.dispatch();
  return RequestDevice::stopped();
}

void Fs::begin(unsigned queue, const Chain& chain) {
  FileSlot& slot = take_slot(queue, chain);
  for (unsigned i = 0; i < chain.total; ++i) slot.segments[i] = chain.segments[i];
  FileRequest& request = slot.request;
  request = FileRequest{.slot = request.slot,
                        .readable = chain.readable,
                        .total = chain.total,
                        .writable_bytes = chain.writable_bytes,
                        .segments = slot.segments};
  if (server_.submit(request)) finish(slot);
}

void Fs::completed(FileRequest& request) {
  finish(slot_of(request));
}

void Fs::finish(FileSlot& slot) {
  const FileRequest& request = slot.request;
  NACRE_CHECK(request.written <= request.writable_bytes);
  // All of it: a read that failed half way has stored something too.
  for (unsigned i = request.readable; i < request.total; ++i)
    memory().written(slot.segments[i].guest, slot.segments[i].bytes);
  if (release(slot)) answer(slot, request.written);
}

}  // namespace nacre::virtio::fs
