#include "virtio/queue.hpp"

#include "virtio/ring_format.hpp"

namespace nacre::virtio {
namespace {

constexpr bool is_power_of_two(u16 value) {
  return value != 0 && (value & (value - 1)) == 0;
}

// Did the event lie among those from `before` up to, not including, `now`? 2.7.7.2.
constexpr bool passed(u16 event, u16 before, u16 now) {
  return static_cast<u16>(now - event - 1) < static_cast<u16>(now - before);
}

}  // namespace

u64 Queue::device_bytes() const {
  return features_.packed ? PackedEvent::bytes : SplitRing::device_bytes(size_);
}

bool Queue::start(const QueuePlace& place, QueueFeatures features, const GuestMemory& memory) {
  stop();
  if (place.size == 0 || place.size > kMaxQueueSize) return false;
  if (!features.packed && !is_power_of_two(place.size)) return false;
  // Alignment: 2.7 and 2.8.10.1.
  const u64 driver_align = features.packed ? 4 : 2;
  if (place.descriptors % 16 != 0 || place.driver % driver_align != 0 || place.device % 4 != 0) return false;
  place_ = place;
  features_ = features;
  size_ = place.size;
  u8* descriptors = memory.translate(place.descriptors, sizeof(Descriptor) * u64{size_});
  driver_ =
      memory.translate(place.driver, features.packed ? PackedEvent::bytes : SplitRing::driver_bytes(size_));
  device_ = memory.translate(place.device, device_bytes());
  if (descriptors == nullptr || driver_ == nullptr || device_ == nullptr) return false;
  descriptors_ = descriptors;
  return true;
}

void Queue::stop() {
  *this = Queue();
}

Pop Queue::pop(Chain& chain, const GuestMemory& memory) {
  if (!running()) return Pop::Empty;
  chain.readable = chain.total = 0;
  chain.readable_bytes = chain.writable_bytes = 0;
  return features_.packed ? pop_packed(chain, memory) : pop_split(chain, memory);
}

Queue::Descriptor Queue::read(const u8* from) {
  return {load64(from), load32(from + 8), load16(from + 12), load16(from + 14)};
}

bool Queue::add_segment(const Descriptor& descriptor, u16 flags, Chain& chain, const GuestMemory& memory) {
  const bool writable = (flags & DescriptorFlag::write) != 0;
  if (descriptor.length == 0 || chain.total == kMaxQueueSize) return false;
  if (!writable && chain.total != chain.readable) return false;  // to read come first. 2.7.4.2
  u8* host = memory.translate(descriptor.address, descriptor.length);
  if (host == nullptr) return false;
  chain.segments[chain.total++] = {host, descriptor.address, descriptor.length};
  if (writable) {
    chain.writable_bytes += descriptor.length;
  } else {
    chain.readable_bytes += descriptor.length;
    ++chain.readable;
  }
  return true;
}

// A table of descriptors elsewhere: linked in the split format, one after another in the packed one. None of
// them may be indirect again. 2.7.5.3, 2.8.7.
bool Queue::add_indirect(const Descriptor& descriptor, u16 flags, Chain& chain,
                         const GuestMemory& memory) const {
  constexpr u32 kBytes = sizeof(Descriptor);
  const u32 count = descriptor.length / kBytes;
  if (!features_.indirect || (flags & DescriptorFlag::next) != 0) return false;
  if (descriptor.length % kBytes != 0 || count == 0 || descriptor.address % 8 != 0) return false;
  const u8* table = memory.translate(descriptor.address, descriptor.length);
  if (table == nullptr) return false;
  u32 at = 0;
  for (u32 seen = 0; seen < kMaxQueueSize; ++seen) {
    const Descriptor entry = read(table + u64{kBytes} * at);
    const u16 entry_flags = features_.packed ? entry.b : entry.a;
    if ((entry_flags & DescriptorFlag::indirect) != 0 || !add_segment(entry, entry_flags, chain, memory)) {
      return false;
    }
    if (features_.packed) {
      if (++at == count) return true;
    } else {
      if ((entry_flags & DescriptorFlag::next) == 0) return true;
      at = entry.b;
      if (at >= count) return false;
    }
  }
  return false;
}

Pop Queue::pop_split(Chain& chain, const GuestMemory& memory) {
  const u16 index = load16_acquire(driver_ + SplitRing::index);
  if (index == state_.next_available) return Pop::Empty;
  if (static_cast<u16>(index - state_.next_available) > size_) return Pop::Malformed;
  const u16 slot = state_.next_available & (size_ - 1);
  const u16 head = load16(driver_ + SplitRing::ring + 2 * usize{slot});
  u16 at = head;
  for (u16 seen = 0;; ++seen) {
    if (at >= size_ || seen == size_) return Pop::Malformed;  // out of the table; a loop
    const Descriptor entry = read(descriptors_ + sizeof(Descriptor) * usize{at});
    const u16 flags = entry.a;
    const bool good = (flags & DescriptorFlag::indirect) != 0 ? add_indirect(entry, flags, chain, memory)
                                                              : add_segment(entry, flags, chain, memory);
    if (!good) return Pop::Malformed;
    if ((flags & DescriptorFlag::next) == 0) break;
    at = entry.b;
  }
  chain.id = {head, 1};
  ++state_.next_available;
  return Pop::Chain;
}

bool Queue::is_available_packed(u16 flags) const {
  const bool wrap = (state_.wrap_counters & kAvailableWrap) != 0;
  return ((flags & DescriptorFlag::available) != 0) == wrap && ((flags & DescriptorFlag::used) != 0) != wrap;
}

void Queue::advance_packed(u16& position, u16 counter, u16 slots) {
  position = static_cast<u16>(position + slots);
  if (position < size_) return;
  position = static_cast<u16>(position - size_);
  state_.wrap_counters ^= counter;
}

Pop Queue::pop_packed(Chain& chain, const GuestMemory& memory) {
  state_.next_available = static_cast<u16>(state_.next_available % size_);
  u16 at = state_.next_available;
  if (!is_available_packed(load16_acquire(descriptors_ + sizeof(Descriptor) * usize{at} + 14)))
    return Pop::Empty;
  for (u16 seen = 1;; ++seen) {
    if (seen > size_) return Pop::Malformed;
    const Descriptor entry = read(descriptors_ + sizeof(Descriptor) * usize{at});
    const u16 flags = entry.b;
    const bool good = (flags & DescriptorFlag::indirect) != 0 ? add_indirect(entry, flags, chain, memory)
                                                              : add_segment(entry, flags, chain, memory);
    if (!good) return Pop::Malformed;
    if ((flags & DescriptorFlag::next) == 0) {
      chain.id = {entry.a, seen};  // the last one names the buffer. 2.8.6
      break;
    }
    at = static_cast<u16>(at + 1 == size_ ? 0 : at + 1);
  }
  advance_packed(state_.next_available, kAvailableWrap, chain.id.slots);
  return Pop::Chain;
}

void Queue::unpop(ChainId id) {
  if (!features_.packed) {
    --state_.next_available;
    return;
  }
  if (state_.next_available < id.slots) {
    state_.next_available = static_cast<u16>(state_.next_available + size_);
    state_.wrap_counters ^= kAvailableWrap;
  }
  state_.next_available = static_cast<u16>(state_.next_available - id.slots);
}

void Queue::push(ChainId id, u32 written) {
  if (!running()) return;
  features_.packed ? push_packed(id, written) : push_split(id, written);
}

void Queue::push_split(ChainId id, u32 written) {
  u8* element = device_ + SplitRing::ring + 8 * usize{static_cast<u16>(state_.next_used & (size_ - 1))};
  store32(element, id.id);
  store32(element + 4, written);
  ++state_.next_used;
  pushed_ = true;
}

void Queue::push_packed(ChainId id, u32 written) {
  state_.next_used = static_cast<u16>(state_.next_used % size_);
  u8* descriptor = descriptors_ + sizeof(Descriptor) * usize{state_.next_used};
  store32(descriptor + 8, written);
  store16(descriptor + 12, id.id);
  u16 flags = written != 0 ? DescriptorFlag::write : 0;
  if ((state_.wrap_counters & kUsedWrap) != 0) flags |= DescriptorFlag::available | DescriptorFlag::used;
  if (held_ == nullptr) {
    held_ = descriptor;
    held_flags_ = flags;
  } else {
    store16_release(descriptor + 14, flags);
  }
  const u16 before = state_.next_used;
  advance_packed(state_.next_used, kUsedWrap, id.slots);
  if (state_.next_used <= before) state_.signalled = static_cast<u16>(state_.signalled - size_);
  pushed_ = true;
}

bool Queue::publish(GuestMemory& memory) {
  if (!running() || !pushed_) return false;
  pushed_ = false;
  if (features_.packed) {
    memory.written(place_.descriptors, sizeof(Descriptor) * u64{size_});
    memory.settle();
    store16_release(held_ + 14, held_flags_);
    held_ = nullptr;
  } else {
    memory.written(place_.device, device_bytes());
    memory.settle();
    store16_release(device_ + SplitRing::index, state_.next_used);
  }
  full_fence();
  return features_.packed ? wants_interrupt_packed() : wants_interrupt_split();
}

bool Queue::wants_interrupt_split() {
  const u16 before = state_.signalled;
  state_.signalled = state_.next_used;
  if (features_.event_index) {
    return passed(load16(driver_ + SplitRing::used_event(size_)), before, state_.next_used);
  }
  return (load16(driver_ + SplitRing::flags) & SplitRing::no_interrupt) == 0;
}

bool Queue::wants_interrupt_packed() {
  const u16 before = state_.signalled;
  state_.signalled = state_.next_used;
  const u16 flags = load16(driver_ + PackedEvent::flags) & 3;
  if (flags == PackedEvent::disable) return false;
  if (flags != PackedEvent::descriptor || !features_.event_index) return true;
  const u16 offset_and_wrap = load16(driver_ + PackedEvent::offset_and_wrap);
  u16 event = offset_and_wrap & 0x7fff;
  // An event of the round before this one.
  if ((offset_and_wrap >> 15 != 0) != ((state_.wrap_counters & kUsedWrap) != 0)) {
    event = static_cast<u16>(event - size_);
  }
  return passed(event, before, state_.next_used);
}

void Queue::suppress_doorbell(GuestMemory& memory) {
  if (!running() || features_.event_index) return;  // the event stays where it is, behind us
  if (features_.packed) {
    store16(device_ + PackedEvent::flags, PackedEvent::disable);
  } else {
    store16(device_ + SplitRing::flags, SplitRing::no_doorbell);
  }
  memory.written(place_.device, device_bytes());
}

bool Queue::has_available() const {
  if (!features_.packed) return load16_acquire(driver_ + SplitRing::index) != state_.next_available;
  const u16 at = static_cast<u16>(state_.next_available % size_);
  return is_available_packed(load16_acquire(descriptors_ + sizeof(Descriptor) * usize{at} + 14));
}

bool Queue::allow_doorbell(GuestMemory& memory) {
  if (!running()) return false;
  if (!features_.packed) {
    if (features_.event_index) {
      store16(device_ + SplitRing::available_event(size_), state_.next_available);
    } else {
      store16(device_ + SplitRing::flags, 0);
    }
  } else if (features_.event_index) {
    const u16 wrap = (state_.wrap_counters & kAvailableWrap) != 0 ? 1 << 15 : 0;
    store16(device_ + PackedEvent::offset_and_wrap, state_.next_available | wrap);
    store16_release(device_ + PackedEvent::flags, PackedEvent::descriptor);
  } else {
    store16(device_ + PackedEvent::flags, PackedEvent::enable);
  }
  memory.written(place_.device, device_bytes());
  full_fence();
  return has_available();
}

}  // namespace nacre::virtio
