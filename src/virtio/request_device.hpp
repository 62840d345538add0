// RequestDevice: what devices share whose requests are answered later, by a backend, in any order: so many
// slots for requests under way, from all queues; queues that wait for a slot; answers that are published
// together. The backend is called on the queues' side. Freestanding. Threads: as device.hpp says.
#pragma once

#include "virtio/device.hpp"

namespace nacre::virtio {

// What each slot of a device has; a device adds its request, with a field `slot`: which one it is.
struct RequestSlot {
  ChainId id;
  u16 queue = 0;
  bool busy = false;
};

template <typename Slot, unsigned kCount>
class RequestDevice : public Device {
 public:
  static constexpr unsigned kSlots = kCount;

  // Requests under way; for whoever saves the device: none may be.
  [[nodiscard]] unsigned under_way() const { return under_way_; }

 protected:
  RequestDevice(const Traits& traits, std::span<Queue> queues, const memory::AddressSpace& space,
                const Ports& ports)
      : Device(traits, queues, space, ports) {
    for (unsigned i = 0; i < kSlots; ++i) slots_[i].request.slot = static_cast<u16>(i);
  }
  ~RequestDevice() = default;

  // Begins the request in `chain`; there is a slot for it.
  virtual void begin(unsigned queue, const Chain& chain) = 0;
  // Has the backend complete what it can now. Does not block.
  virtual void dispatch() = 0;
  // All has begun of a queue that can now.
  virtual void batch_ended() {}

  // A slot for the request in hand.
  Slot& take_slot(unsigned queue, const Chain& chain) {
    NACRE_CHECK(under_way_ < kSlots);
    unsigned free = 0;
    while (slots_[free].busy) ++free;
    Slot& slot = slots_[free];
    ++under_way_;
    slot.busy = true;
    slot.id = chain.id;
    slot.queue = static_cast<u16>(queue);
    return slot;
  }
  // Whose request the backend has completed.
  template <typename Request>
  Slot& slot_of(Request& request) {
    Slot& slot = slots_[request.slot];
    NACRE_CHECK(slot.busy && &slot.request == &request);
    return slot;
  }
  // Gives the slot back. False: nobody waits for the answer any more.
  bool release(Slot& slot) {
    slot.busy = false;
    --under_way_;
    return !is_stopping() && !is_broken();
  }
  void answer(const Slot& slot, u32 written) {
    queue(slot.queue).push(slot.id, written);
    finished_ |= u64{1} << slot.queue;
  }

  bool stopped() override {
    if (under_way_ != 0) return false;
    finished_ = starved_ = 0;
    return true;
  }

 private:
  static constexpr unsigned kBudget = 128;  // requests of one queue before the others have their turn

  void process(unsigned index) override {
    Queue& q = queue(index);
    unsigned begun = 0;
    do {
      q.suppress_doorbell(memory());
      while (!is_stopping() && !is_broken()) {
        if (under_way_ == kSlots) dispatch();
        if (under_way_ == kSlots) {
          starved_ |= u64{1} << index;  // poll() comes back to it
          return publish_finished();
        }
        if (begun == kBudget) {
          ring_again(index);
          return end_batch();
        }
        if (!pop(index, chain_)) break;
        begin(index, chain_);
        ++begun;
      }
      end_batch();
    } while (!is_stopping() && !is_broken() && q.allow_doorbell(memory()));
  }
  void poll() override {
    dispatch();
    publish_finished();
    for (u64 starved = starved_; starved != 0 && under_way_ < kSlots; starved &= starved - 1) {
      const unsigned index = static_cast<unsigned>(__builtin_ctzll(starved));
      starved_ &= ~(u64{1} << index);
      process(index);
    }
  }
  void end_batch() {
    batch_ended();
    publish_finished();
  }
  void publish_finished() {
    for (; finished_ != 0; finished_ &= finished_ - 1)
      publish(static_cast<unsigned>(__builtin_ctzll(finished_)));
  }

  unsigned under_way_ = 0;
  u64 finished_ = 0;  // queues that have something to publish
  u64 starved_ = 0;   // queues that were left because no slot was free
  Chain chain_;
  Slot slots_[kSlots];
};

}  // namespace nacre::virtio
