// Test support: RAM with a virtio driver's model in it, which talks to a device as a guest does: through its
// PCI function's registers and rings in memory. Both ring formats.
//
//   Guest guest;  Rng device(guest.space, guest.ports(), entropy);  Driver driver(guest, device);
//   ASSERT_TRUE(driver.bring_up(Feature::version_1));
//   const u16 id = driver.add(0, {}, {64});    driver.kick(0);   // runs the device
//   auto used = driver.used(0);
#pragma once

#include <cstring>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "irq/testing/byte_source.hpp"
#include "virtio/pci_transport.hpp"
#include "virtio/ring_format.hpp"

namespace nacre::virtio::testing {

struct RecordedMessages final : irq::MessageSink {
  std::vector<irq::Message> messages;
  bool deliver(const irq::Message& message) override {
    messages.push_back(message);
    return true;
  }
  unsigned count(u8 vector) const {
    unsigned n = 0;
    for (const auto& message : messages) n += message.vector == vector ? 1 : 0;
    return n;
  }
};

// Guest RAM from 0 on, and the ports of one device.
struct Guest final : Notifier, Interrupts, DmaObserver, Complaints {
  static constexpr u64 kRam = 4 * kMiB;

  std::vector<u8> ram =
      std::vector<u8>(kRam + 64);  // the host's mapping is page-aligned: 16 bytes will do here
  std::vector<u8> flags = std::vector<u8>(kRam / kPageSize);
  memory::AddressSpace space;
  RecordedMessages messages;
  PciTransport* transport = nullptr;
  unsigned wakes = 0, settles = 0;
  std::vector<std::pair<u64, u64>> dma;
  std::vector<std::string> complaints;

  Guest() { NACRE_CHECK(space.add_ram(GuestPhysical(0), kRam, at(0), flags.data()).ok()); }
  [[nodiscard]] u8* at(u64 address) {
    const u64 start = (reinterpret_cast<u64>(ram.data()) + 63) & ~u64{63};
    return reinterpret_cast<u8*>(start) + address;
  }
  template <typename T>
  [[nodiscard]] T load(u64 address) {
    T value;
    std::memcpy(&value, at(address), sizeof value);
    return value;
  }
  template <typename T>
  void store(u64 address, T value) {
    std::memcpy(at(address), &value, sizeof value);
  }
  Ports ports() { return {*this, *this, *this, *this}; }

  void wake() override { ++wakes; }
  void queue(unsigned index) override { transport->interrupt(index); }
  void config() override { transport->config_interrupt(); }
  void written(GuestPhysical address, u64 bytes) override { dma.emplace_back(address.value(), bytes); }
  void settle() override { ++settles; }
  void complain(const char*, const char* why) override { complaints.emplace_back(why); }
};

inline constexpr u8 kConfigVector = 0x40, kQueueVector = 0x50;  // + the queue's number

class Driver {
 public:
  struct Used {
    u16 id = 0;
    u32 written = 0;
  };
  struct Buffer {
    u64 address = 0;
    u32 bytes = 0;
  };

  Driver(Guest& guest, Device& device)
      : guest_(guest), device_(device), transport_(std::make_unique<PciTransport>(device, guest.messages)) {
    guest.transport = transport_.get();
    u64 next = 0xc000'0000;
    transport_->reset(next);
    transport_->config_write(device::pci::Offset::command, 2, 6);
  }

  PciTransport& transport() { return *transport_; }
  Device& device() { return device_; }

  u64 read(u64 offset, unsigned size) {
    u64 value = 0;
    NACRE_CHECK(transport_->memory_read(GuestPhysical(transport_->region_base() + offset), size, value));
    return value;
  }
  void write(u64 offset, unsigned size, u64 value) {
    NACRE_CHECK(transport_->memory_write(GuestPhysical(transport_->region_base() + offset), size, value));
  }
  u8 status() { return static_cast<u8>(read(CommonOffset::status, 1)); }
  void set_status(u8 value) { write(CommonOffset::status, 1, value); }
  u64 offered() {
    u64 value = 0;
    for (unsigned half = 0; half < 2; ++half) {
      write(CommonOffset::device_feature_select, 4, half);
      value |= read(CommonOffset::device_feature, 4) << (32 * half);
    }
    return value;
  }
  void reset() {
    set_status(0);
    for (unsigned i = 0; i < 4 && status() != 0; ++i) device_.run();
  }
  // Through the steps of 3.1.1. False: the device does not take these features.
  bool bring_up(u64 features, u16 queue_size = 16) {
    reset();
    free_ = kBuffers;
    queues_.clear();
    features_ = features;
    set_status(DeviceStatus::acknowledge);
    set_status(DeviceStatus::acknowledge | DeviceStatus::driver);
    for (unsigned half = 0; half < 2; ++half) {
      write(CommonOffset::driver_feature_select, 4, half);
      write(CommonOffset::driver_feature, 4, features >> (32 * half) & 0xffff'ffff);
    }
    set_status(DeviceStatus::features_ok);
    if ((status() & DeviceStatus::features_ok) == 0) return false;
    set_up_interrupts();
    for (unsigned i = 0; i < device_.queue_count(); ++i) set_up_queue(i, queue_size);
    set_status(DeviceStatus::driver_ok);
    device_.run();
    return true;
  }

  // Guest memory that the test may use; never given twice.
  u64 allocate(u64 bytes, u64 align = 16) {
    free_ = (free_ + align - 1) & ~(align - 1);
    const u64 at = free_;
    free_ += bytes;
    NACRE_CHECK(free_ <= Guest::kRam);
    return at;
  }

  // Makes a request available, without telling. `indirect`: its descriptors are in a table.
  u16 add(unsigned queue, const std::vector<Buffer>& out, const std::vector<Buffer>& in,
          bool indirect = false) {
    Ring& ring = queues_[queue];
    std::vector<std::pair<Buffer, u16>> all;
    for (const Buffer& b : out) all.emplace_back(b, u16{0});
    for (const Buffer& b : in) all.emplace_back(b, DescriptorFlag::write);
    if (indirect) {
      const u64 table = allocate(16 * all.size());
      for (usize i = 0; i < all.size(); ++i) {
        const bool last = i + 1 == all.size();
        const u16 next = packed() || last ? 0 : DescriptorFlag::next;
        const u16 flags = static_cast<u16>(all[i].second | next);
        put_descriptor(table + 16 * i, all[i].first, packed() ? u16{0} : flags,
                       packed() ? flags : static_cast<u16>(i + 1));
      }
      const Buffer whole = {table, static_cast<u32>(16 * all.size())};
      all = {{whole, DescriptorFlag::indirect}};
    }
    return packed() ? add_packed(ring, all) : add_split(ring, all);
  }
  // Rings the doorbell, as a write to the bus, and lets the device do what it will.
  void kick(unsigned queue) {
    NACRE_CHECK(
        transport_->ring(GuestPhysical(transport_->region_base() + BarLayout::doorbells + 4 * queue)));
    device_.run();
  }
  // What the device has given back since the last call.
  std::vector<Used> used(unsigned queue) {
    Ring& ring = queues_[queue];
    std::vector<Used> list;
    if (packed()) {
      for (;;) {
        const u64 at = ring.place.descriptors + 16 * u64{ring.used};
        const u16 flags = guest_.load<u16>(at + 14);
        const bool a = (flags & DescriptorFlag::available) != 0, u = (flags & DescriptorFlag::used) != 0;
        if (a != u || u != ring.used_wrap) break;
        const u16 id = guest_.load<u16>(at + 12);
        list.push_back({id, guest_.load<u32>(at + 8)});
        const u16 slots = ring.slots[id];
        ring.slots.erase(id);
        ring.free = static_cast<u16>(ring.free + slots);
        ring.used = static_cast<u16>(ring.used + slots);
        if (ring.used >= ring.place.size) {
          ring.used = static_cast<u16>(ring.used - ring.place.size);
          ring.used_wrap = !ring.used_wrap;
        }
      }
    } else {
      for (; guest_.load<u16>(ring.place.device + 2) != ring.used; ++ring.used) {
        const u64 at = ring.place.device + 4 + 8 * u64(ring.used % ring.place.size);
        list.push_back({static_cast<u16>(guest_.load<u32>(at)), guest_.load<u32>(at + 4)});
        for (const u16 slot : ring.taken[list.back().id]) ring.free_slots.push_back(slot);
        ring.taken.erase(list.back().id);
      }
    }
    return list;
  }
  // Asks for one interrupt when the `ahead`-th use from now on is shown (event index).
  void want_interrupt_after(unsigned queue, u16 ahead) {
    Ring& ring = queues_[queue];
    guest_.store<u16>(ring.place.driver + SplitRing::used_event(ring.place.size),
                      static_cast<u16>(ring.used + ahead));
  }
  Guest& guest() { return guest_; }
  // Descriptors that are free in the ring.
  [[nodiscard]] usize room(unsigned queue) {
    return packed() ? usize{queues_[queue].free} : queues_[queue].free_slots.size();
  }
  QueuePlace& place(unsigned queue) { return queues_[queue].place; }
  u64 put(const void* bytes, usize count) {
    const u64 at = allocate(count);
    std::memcpy(guest_.at(at), bytes, count);
    return at;
  }
  unsigned interrupts(unsigned queue) { return guest_.messages.count(static_cast<u8>(kQueueVector + queue)); }
  unsigned config_interrupts() { return guest_.messages.count(kConfigVector); }

 private:
  static constexpr u64 kBuffers = 0x10000;
  struct Ring {
    QueuePlace place;
    u16 available = 0, used = 0, next_id = 0;
    bool available_wrap = true, used_wrap = true;
    u16 free = 0;
    std::map<u16, u16> slots;               // packed: taken by a buffer id
    std::map<u16, std::vector<u16>> taken;  // split: by head
    std::deque<u16> free_slots;
  };

  [[nodiscard]] bool packed() const { return (features_ & Feature::packed) != 0; }
  void set_up_interrupts() {
    transport_->config_write(0x42, 2, 0x8000);
    for (unsigned i = 0; i <= device_.queue_count(); ++i) {
      const u64 entry = BarLayout::table + 16 * i;
      write(entry, 4, 0xfee0'0000);
      write(entry + 4, 4, 0);
      write(entry + 8, 4, i == 0 ? kConfigVector : u64{kQueueVector} + i - 1);
      write(entry + 12, 4, 0);
    }
    write(CommonOffset::config_vector, 2, 0);
  }
  void set_up_queue(unsigned index, u16 size) {
    Ring& ring = queues_[index];
    ring.place = {.descriptors = allocate(16 * u64{size}, 16),
                  .driver = allocate(SplitRing::driver_bytes(size), 4),
                  .device = allocate(SplitRing::device_bytes(size), 4),
                  .size = size};
    std::memset(guest_.at(ring.place.descriptors), 0, 16 * usize{size});
    std::memset(guest_.at(ring.place.driver), 0, SplitRing::driver_bytes(size));
    std::memset(guest_.at(ring.place.device), 0, SplitRing::device_bytes(size));
    ring.free = size;
    for (u16 i = 0; i < size; ++i) ring.free_slots.push_back(i);
    write(CommonOffset::queue_select, 2, index);
    write(CommonOffset::queue_size, 2, size);
    write(CommonOffset::queue_descriptors, 4, ring.place.descriptors);
    write(CommonOffset::queue_descriptors + 4, 4, 0);
    write(CommonOffset::queue_driver, 8, ring.place.driver);
    write(CommonOffset::queue_device, 8, ring.place.device);
    write(CommonOffset::queue_vector, 2, index + 1);
    write(CommonOffset::queue_enable, 2, 1);
  }
  void put_descriptor(u64 at, const Buffer& buffer, u16 first, u16 second) {
    guest_.store(at, buffer.address);
    guest_.store(at + 8, buffer.bytes);
    guest_.store(at + 12, first);
    guest_.store(at + 14, second);
  }
  u16 add_split(Ring& ring, const std::vector<std::pair<Buffer, u16>>& all) {
    NACRE_CHECK(ring.free_slots.size() >= all.size());
    std::vector<u16> taken;
    for (usize i = 0; i < all.size(); ++i) {
      taken.push_back(ring.free_slots.front());
      ring.free_slots.pop_front();
    }
    for (usize i = 0; i < all.size(); ++i) {
      const bool last = i + 1 == all.size();
      put_descriptor(ring.place.descriptors + 16 * u64{taken[i]}, all[i].first,
                     static_cast<u16>(all[i].second | (last ? 0 : DescriptorFlag::next)),
                     last ? u16{0} : taken[i + 1]);
    }
    const u16 head = taken[0];
    ring.taken[head] = taken;
    guest_.store(ring.place.driver + 4 + 2 * u64(ring.available % ring.place.size), head);
    guest_.store(ring.place.driver + 2, ++ring.available);
    return head;
  }
  u16 add_packed(Ring& ring, const std::vector<std::pair<Buffer, u16>>& all) {
    NACRE_CHECK(ring.free >= all.size());
    const u16 id = ring.next_id++;
    ring.slots[id] = static_cast<u16>(all.size());
    ring.free = static_cast<u16>(ring.free - all.size());
    for (usize i = 0; i < all.size(); ++i) {
      const bool last = i + 1 == all.size();
      u16 flags = static_cast<u16>(all[i].second | (last ? 0 : DescriptorFlag::next));
      flags |= ring.available_wrap ? DescriptorFlag::available : DescriptorFlag::used;
      put_descriptor(ring.place.descriptors + 16 * u64{ring.available}, all[i].first, id, flags);
      if (++ring.available == ring.place.size) {
        ring.available = 0;
        ring.available_wrap = !ring.available_wrap;
      }
    }
    return id;
  }

  Guest& guest_;
  Device& device_;
  std::unique_ptr<PciTransport> transport_;
  u64 features_ = 0;
  u64 free_ = kBuffers;
  std::map<unsigned, Ring> queues_;
};

// Any sequence of accesses to registers and rings, and of a device's runs: no check may be reached. The
// device is one that `make(guest)` gives; `more(bytes)` may do what else can happen to it.
template <typename Make, typename More>
void virtio_sequence(nacre::testing::ByteSource bytes, Make make, More more) {
  Guest guest;
  auto device = make(guest);
  Driver driver(guest, *device);
  constexpr u64 kBringUp[] = {Feature::version_1,
                              Feature::version_1 | Feature::event_index | Feature::indirect,
                              Feature::version_1 | Feature::packed | Feature::event_index | Feature::indirect,
                              Feature::version_1 | Feature::indirect};
  while (!bytes.empty()) {
    const unsigned queue = bytes.take<u8>() % device->queue_count();
    switch (bytes.take<u8>() % 12) {
      case 0:
        driver.write(bytes.take<u16>() % BarLayout::bytes & ~7u, 1u << bytes.take<u8>() % 4,
                     bytes.take<u64>());
        break;
      case 1:
        driver.read(bytes.take<u16>() % BarLayout::bytes & ~7u, 1u << bytes.take<u8>() % 4);
        break;
      case 2: {
        const u16 offset = bytes.take<u8>() & 0xfc;
        if (offset < 0x10 || offset > 0x17) driver.transport().config_write(offset, 4, bytes.take<u32>() | 2);
        break;
      }
      case 3: {
        const u64 features = driver.device().features() & (bytes.take<u64>() | bytes.pick(kBringUp));
        driver.bring_up(features | Feature::version_1, static_cast<u16>(1u << bytes.take<u8>() % 5));
        break;
      }
      case 4:
      case 5: {  // something in a ring
        const QueuePlace& place = driver.place(queue);
        const u64 areas[] = {place.descriptors, place.driver, place.device};
        guest.store<u16>(areas[bytes.take<u8>() % 3] + bytes.take<u8>() % 128 * 2, bytes.take<u16>());
        break;
      }
      case 6:
      case 7: {  // a descriptor made of plausible parts, made available
        const QueuePlace& place = driver.place(queue);
        if (place.size == 0) break;
        const u16 slot = bytes.take<u8>() % place.size;
        const u64 at = place.descriptors + 16 * u64{slot};
        guest.store<u64>(at, bytes.take<u8>() % 8 == 0 ? bytes.take<u64>() : bytes.take<u32>() % Guest::kRam);
        guest.store<u32>(at + 8, bytes.take<u8>() % 8 == 0 ? bytes.take<u32>() : bytes.take<u16>() % 2048);
        guest.store<u16>(at + 12, bytes.take<u8>() & 0x87);
        guest.store<u16>(at + 14,
                         static_cast<u16>(bytes.take<u8>() % place.size | (bytes.take<u8>() & 0x80) << 8));
        const u16 available = guest.load<u16>(place.driver + 2);
        guest.store<u16>(place.driver + 4 + 2 * u64(available % place.size), slot);
        guest.store<u16>(place.driver + 2, static_cast<u16>(available + 1));
        break;
      }
      case 8:
        device->ring(queue);
        break;
      case 9: {
        PciTransport::State state = driver.transport().state();
        reinterpret_cast<u8*>(&state)[bytes.take<u16>() % sizeof state] = bytes.take<u8>();
        if (driver.transport().load(state).ok()) {
          const PciTransport::State kept = driver.transport().state();
          NACRE_CHECK(driver.transport().load(kept).ok() && driver.transport().state() == kept);
        }
        driver.transport().config_write(device::pci::Offset::command, 2, 6);
        break;
      }
      case 10:
        more(*device, driver, bytes);
        break;
      default:
        device->run();
    }
  }
  device->run();
}

}  // namespace nacre::virtio::testing
