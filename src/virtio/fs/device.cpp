#include "virtio/fs/device.hpp"

#include "virtio/registers.hpp"

namespace nacre::virtio::fs {
namespace {

constexpr unsigned kBudget = 128;  // requests of one queue before the other has its turn

}  // namespace

Fs::Fs(const memory::AddressSpace& space, const Ports& ports, FileServer& server, const char* tag)
    : Device({.name = "fs", .id = DeviceId::FileSystem, .class_code = 0x018000}, queue_, space, ports), server_(server) {
  for (usize i = 0; i < kTagBytes && tag[i] != 0; ++i) config_.tag[i] = static_cast<u8>(tag[i]);
  config_.num_request_queues = kQueues - 1;
  for (unsigned i = 0; i < kSlots; ++i) slots_[i].request.slot = static_cast<u16>(i);
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
  if (under_way_ != 0) server_.dispatch();
  if (under_way_ != 0) return false;
  finished_ = starved_ = 0;
  return true;
}

Fs::Slot* Fs::free_slot() {
  if (under_way_ == kSlots) return nullptr;
  for (Slot& slot : slots_) {
    if (!slot.busy) return &slot;
  }
  return nullptr;
}

void Fs::process(unsigned index) {
  Queue& q = queue(index);
  unsigned begun = 0;
  do {
    q.suppress_doorbell(memory());
    while (!is_stopping() && !is_broken()) {
      if (under_way_ == kSlots) server_.dispatch();
      if (under_way_ == kSlots) {
        starved_ |= u64{1} << index;  // poll() comes back to it
        return publish_finished();
      }
      if (begun == kBudget) {
        publish_finished();
        return ring_again(index);
      }
      if (!pop(index, chain_)) break;
      begin(index);
      ++begun;
    }
    publish_finished();
  } while (!is_stopping() && !is_broken() && q.allow_doorbell(memory()));
}

void Fs::poll() {
  server_.dispatch();
  publish_finished();
  for (u64 starved = starved_; starved != 0 && under_way_ < kSlots; starved &= starved - 1) {
    const unsigned index = static_cast<unsigned>(__builtin_ctzll(starved));
    starved_ &= ~(u64{1} << index);
    process(index);
  }
}

void Fs::publish_finished() {
  for (; finished_ != 0; finished_ &= finished_ - 1) publish(static_cast<unsigned>(__builtin_ctzll(finished_)));
}

// The request in chain_.
void Fs::begin(unsigned index) {
  Slot* slot = free_slot();
  NACRE_CHECK(slot != nullptr);
  slot->busy = true;
  ++under_way_;
  slot->id = chain_.id;
  slot->queue = static_cast<u16>(index);
  for (unsigned i = 0; i < chain_.total; ++i) slot->segments[i] = chain_.segments[i];
  FileRequest& request = slot->request;
  request = FileRequest{.slot = request.slot,
                        .readable = chain_.readable,
                        .total = chain_.total,
                        .writable_bytes = chain_.writable_bytes,
                        .segments = slot->segments};
  if (server_.submit(request)) finish(*slot);
}

void Fs::completed(FileRequest& request) {
  Slot& slot = slots_[request.slot];
  NACRE_CHECK(slot.busy && &slot.request == &request);
  finish(slot);
}

void Fs::finish(Slot& slot) {
  const FileRequest& request = slot.request;
  NACRE_CHECK(request.written <= request.writable_bytes);
  slot.busy = false;
  --under_way_;
  // All of it: a read that failed half way has stored something too.
  for (unsigned i = request.readable; i < request.total; ++i) memory().written(slot.segments[i].guest, slot.segments[i].bytes);
  if (is_stopping() || is_broken()) return;
  queue(slot.queue).push(slot.id, request.written);
  finished_ |= u64{1} << slot.queue;
}

}  // namespace nacre::virtio::fs
