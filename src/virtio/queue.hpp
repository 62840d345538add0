// Queue: the device's end of a virtqueue, split or packed. Virtio 1.2, 2.6 to 2.8.
//
//   while (queue.pop(chain) == Pop::Chain) { …; queue.push(chain.id, written); }
//   if (queue.publish(memory)) interrupts.queue(i);
//
// All of a ring is the guest's and may change at any moment: each word is read once, checked, and used from
// its copy. Freestanding. Threads: owned by whoever owns the device's queues (device.hpp).
#pragma once

#include "base/result.hpp"
#include "virtio/guest_memory.hpp"

namespace nacre::virtio {

inline constexpr u16 kMaxQueueSize = 256;

// Where a driver has put a queue. The packed ring has its two event areas where the split one has its rings.
struct QueuePlace {
  u64 descriptors = 0, driver = 0, device = 0;
  u16 size = 0;
  u16 spare[3] = {};
  constexpr bool operator==(const QueuePlace&) const = default;
};

struct QueueFeatures {
  bool packed = false, event_index = false, indirect = false;
};

// A piece of a request, as the host and the guest name it.
struct Segment {
  u8* host = nullptr;
  u64 guest = 0;
  u32 bytes = 0;
};

// What must come back with a request when it is done.
struct ChainId {
  u16 id = 0;     // head descriptor, or the packed ring's buffer id
  u16 slots = 1;  // descriptors of the ring it takes
};

// One request: segments to read first, then segments to write.
struct Chain {
  ChainId id;
  unsigned readable = 0, total = 0;  // segments; those from `readable` on are for the device to write
  u64 readable_bytes = 0, writable_bytes = 0;
  Segment segments[kMaxQueueSize];

  Chain() {}  // NOLINT(modernize-use-equals-default): the segments stay uninitialised
};

enum class Pop : u8 { Empty, Chain, Malformed };

class Queue {
 public:
  // The position in the rings; what a snapshot keeps besides the place.
  struct State {
    u16 next_available = 0, next_used = 0;
    u16 signalled = 0;      // next_used when the driver was last asked whether it wants an interrupt
    u16 wrap_counters = 3;  // bit 0: available, bit 1: used (packed)
    constexpr bool operator==(const State&) const = default;
  };

  // False: the place is not in RAM, not aligned or of an impossible size; the queue is as after stop().
  bool start(const QueuePlace& place, QueueFeatures features, const GuestMemory& memory);
  void stop();
  [[nodiscard]] bool running() const { return descriptors_ != nullptr; }
  [[nodiscard]] u16 size() const { return size_; }

  // The next request. Malformed: the guest has broken the rules, and the queue cannot go on. A queue that
  // does not run is empty.
  Pop pop(Chain& chain, const GuestMemory& memory);
  // The request is done: `written` bytes of its writable segments, from their start on, hold data.
  void push(ChainId id, u32 written);
  // The last chain is as if it had not been popped. Only directly after pop(), and before a push().
  void unpop(ChainId id);
  // Shows the driver what was pushed. True: it wants an interrupt for it.
  bool publish(GuestMemory& memory);

  // Whether the driver need ring the doorbell for new requests. It is only a wish. allow: true when some
  // have come before it was heard; then the caller must look again.
  void suppress_doorbell(GuestMemory& memory);
  bool allow_doorbell(GuestMemory& memory);

  [[nodiscard]] State state() const { return state_; }
  // After start(). Wild positions are only another way for a guest's ring to be wrong.
  void load(const State& state) { state_ = state; }

 private:
  struct Descriptor {  // both formats: 2.7.5, 2.8.13
    u64 address = 0;
    u32 length = 0;
    u16 a = 0, b = 0;  // split: flags, next; packed: id, flags
  };
  static_assert(sizeof(Descriptor) == 16);
  static constexpr u16 kAvailableWrap = 1, kUsedWrap = 2;  // in State::wrap_counters

  Pop pop_split(Chain& chain, const GuestMemory& memory);
  Pop pop_packed(Chain& chain, const GuestMemory& memory);
  bool add_indirect(const Descriptor& descriptor, u16 flags, Chain& chain, const GuestMemory& memory) const;
  static bool add_segment(const Descriptor& descriptor, u16 flags, Chain& chain, const GuestMemory& memory);
  static Descriptor read(const u8* from);
  void push_split(ChainId id, u32 written);
  void push_packed(ChainId id, u32 written);
  [[nodiscard]] bool wants_interrupt_split();
  [[nodiscard]] bool wants_interrupt_packed();
  [[nodiscard]] bool is_available_packed(u16 flags) const;
  [[nodiscard]] bool has_available() const;
  void advance_packed(u16& position, u16 counter, u16 slots);
  [[nodiscard]] u64 device_bytes() const;

  u8* descriptors_ = nullptr;  // null: not running
  u8* driver_ = nullptr;
  u8* device_ = nullptr;
  QueuePlace place_;
  QueueFeatures features_;
  u16 size_ = 0;
  State state_;
  // Packed: the first descriptor of a batch is made used last, so that the driver sees all of them at once.
  u8* held_ = nullptr;
  u16 held_flags_ = 0;
  bool pushed_ = false;  // something, since the last publish()
};

}  // namespace nacre::virtio
