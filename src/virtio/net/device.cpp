#include "virtio/net/device.hpp"

#include "virtio/registers.hpp"

namespace nacre::virtio::net {
namespace {

using F = NetFeature;

constexpr unsigned kBudget = 128;  // packets of one queue before the others have their turn

u64 features_of(const NetOptions& options) {
  u64 features = F::csum | F::guest_csum | F::ctrl_guest_offloads | F::mac | F::guest_tso4 | F::guest_tso6 |
                 F::host_tso4 | F::host_tso6 | F::mergeable | F::status | F::ctrl_vq | F::guest_announce |
                 F::ctrl_mac_addr;
  if (options.mtu != 0) features |= F::mtu;
  return options.pairs > 1 ? features | F::multi_queue : features;
}

// What a feature needs: 5.1.3.1.
constexpr struct {
  u64 feature, needs;
} kNeeds[] = {{F::guest_tso4, F::guest_csum},  {F::guest_tso6, F::guest_csum},
              {F::host_tso4, F::csum},         {F::host_tso6, F::csum},
              {F::guest_announce, F::ctrl_vq}, {F::multi_queue, F::ctrl_vq},
              {F::ctrl_mac_addr, F::ctrl_vq},  {F::ctrl_guest_offloads, F::ctrl_vq}};

Offloads offloads_of(u64 features) {
  return {.csum = (features & F::guest_csum) != 0,
          .tso4 = (features & F::guest_tso4) != 0,
          .tso6 = (features & F::guest_tso6) != 0};
}

}  // namespace

Net::Net(const memory::AddressSpace& space, const Ports& ports, Network& network, const NetOptions& options)
    : Device({.name = "net", .id = DeviceId::Net, .class_code = 0x020000, .features = features_of(options)},
             {queue_, 2 * options.pairs + 1}, space, ports),
      network_(network),
      options_(options) {
  NACRE_CHECK(options.pairs >= 1 && options.pairs <= kPairs);
  store_mac(options.mac);
}

void Net::store_mac(const u8* mac) {
  u64 value = 0;
  for (unsigned i = 0; i < 6; ++i) value |= u64{mac[i]} << (8 * i);
  mac_.store(value, std::memory_order_relaxed);
}

u64 Net::config_read(u64 offset, unsigned size) {
  Config config;
  const u64 mac = mac_.load(std::memory_order_relaxed);
  for (unsigned i = 0; i < 6; ++i) config.mac[i] = static_cast<u8>(mac >> (8 * i));
  config.status = link_.load(std::memory_order_relaxed);
  config.pairs = static_cast<u16>(options_.pairs);
  config.mtu = options_.mtu;
  return config_bytes(&config, sizeof config, offset, size);
}

bool Net::accepts(u64 features) const {
  for (const auto& need : kNeeds) {
    if ((features & need.feature) != 0 && (features & need.needs) == 0) return false;
  }
  return true;
}

void Net::set_link(bool up) {
  link_.store(up ? LinkStatus::up : 0, std::memory_order_relaxed);
  config_changed();
}

void Net::announce() {
  link_.fetch_or(LinkStatus::announce, std::memory_order_relaxed);
  config_changed();
}

void Net::reset_config() {
  store_mac(options_.mac);
  link_.fetch_and(static_cast<u16>(~LinkStatus::announce), std::memory_order_relaxed);
}

void Net::tell_offloads(const Offloads& offloads) {
  offloads_ = offloads;
  network_.set_offloads(offloads);
}

void Net::started(u64 features) {
  active_pairs_ = 1;
  held_bytes_ = 0;
  stalled_ = 0;
  tell_offloads(offloads_of(features));
}

bool Net::stopped() {
  held_bytes_ = 0;
  stalled_ = 0;
  return true;
}

void Net::process(unsigned index) {
  // The control queue follows the pairs that the driver knows of. 5.1.2.
  if (index == (has(F::multi_queue) ? 2 * options_.pairs : 2)) return control(index);
  if (index % 2 == 1) transmit(index);
  receive();  // there are buffers again, or what was sent has been answered at once
}

void Net::poll() {
  for (u64 stalled = stalled_; stalled != 0; stalled &= stalled - 1) {
    const unsigned index = static_cast<unsigned>(__builtin_ctzll(stalled));
    stalled_ &= ~(u64{1} << index);
    transmit(index);
  }
  receive();
}

// --- from the guest ---

void Net::transmit(unsigned index) {
  Queue& q = queue(index);
  unsigned sent = 0;
  do {
    q.suppress_doorbell(memory());
    while (!is_stopping() && !is_broken()) {
      if (sent == kBudget) {
        publish(index);
        q.allow_doorbell(memory());
        return ring_again(index);
      }
      if (!pop(index, chain_)) break;
      bool taken_back = false;
      if (!send_one(index / 2, taken_back)) return fail("a packet has no header");
      if (taken_back) {
        q.unpop(chain_.id);
        stalled_ |= u64{1} << index;
        return publish(index);
      }
      q.push(chain_.id, 0);
      ++sent;
    }
    publish(index);
  } while (!is_stopping() && !is_broken() && q.allow_doorbell(memory()));
}

// The packet in chain_. What asks for more than was negotiated, or is too long, is dropped, as a cable would.
bool Net::send_one(unsigned pair, bool& taken_back) {
  ChainReader reader(chain_);
  Header header;
  if (!reader.read(header)) return false;
  const u64 bytes = reader.left();
  const u8 gso = header.gso_type & static_cast<u8>(~Header::ecn);
  const bool known = gso == Header::none || (gso == Header::tcp4 && has(F::host_tso4)) ||
                     (gso == Header::tcp6 && has(F::host_tso6));
  const bool csum_known = (header.flags & Header::needs_csum) == 0 || has(F::csum);
  if (bytes < 14 || bytes > kMostPacket || !known || !csum_known) return true;
  if ((header.flags & Header::needs_csum) != 0 && u64{header.csum_start} + header.csum_offset + 2 > bytes)
    return true;
  if (gso != Header::none && (header.gso_bytes == 0 || (header.flags & Header::needs_csum) == 0)) return true;
  unsigned count = 0;
  while (reader.left() != 0) pieces_[count++] = reader.take(reader.left());
  if ((link_.load(std::memory_order_relaxed) & LinkStatus::up) == 0) return true;
  taken_back = !network_.send(header, pieces_, count, pair);
  return true;
}

// --- to the guest ---

// Packets of one flow stay in one pair, so that they stay in order: the network's, or by addresses and ports,
// where it is IPv4. The driver may use fewer pairs than the network knows of.
unsigned Net::pair_for(const u8* packet, usize bytes, unsigned wanted) const {
  if (wanted != Network::kAnyPair) return wanted % active_pairs_;
  if (active_pairs_ == 1 || bytes < 38 || packet[12] != 0x08 || packet[13] != 0x00) return 0;
  u32 hash = packet[23];
  for (usize i = 26; i < 38; ++i) hash = hash * 31 + packet[i];
  return (hash ^ hash >> 16) % active_pairs_;
}

void Net::receive() {
  u64 filled = 0;
  for (unsigned received = 0; received < kBudget && !is_stopping() && !is_broken(); ++received) {
    if (held_bytes_ == 0) {
      held_ = Header{};
      held_pair_ = Network::kAnyPair;
      held_bytes_ = network_.receive(packet_, held_, held_pair_);
      if (held_bytes_ == 0) break;
      NACRE_CHECK(held_bytes_ <= kMostPacket);
      if ((link_.load(std::memory_order_relaxed) & LinkStatus::up) == 0) {
        held_bytes_ = 0;
        continue;
      }
    }
    const unsigned index = 2 * pair_for(packet_, held_bytes_, held_pair_);
    Queue& q = queue(index);
    if (!deliver(index)) {
      // No room. The driver is asked to ring; it may have made some just before it heard.
      if (is_broken() || !q.allow_doorbell(memory())) break;
      if (!deliver(index)) break;
    }
    held_bytes_ = 0;
    filled |= u64{1} << index;
    if (received + 1 == kBudget) ring_again(index);
  }
  for (; filled != 0; filled &= filled - 1) publish(static_cast<unsigned>(__builtin_ctzll(filled)));
}

// The packet held into as many buffers as it needs. False: there are not enough now, and none was used.
bool Net::deliver(unsigned index) {
  Queue& q = queue(index);
  ChainId ids[kMaxQueueSize];
  u32 lengths[kMaxQueueSize];
  unsigned count = 0;
  u8* buffers_field[2] = {};
  u64 done = 0;
  const bool mergeable = has(F::mergeable);
  while (count == 0 || done < held_bytes_) {
    const bool full = count == q.size() || (count == 1 && !mergeable);
    if (full || !pop(index, chain_)) {
      if (count == 1 && !mergeable) {  // too small for it: the packet is lost, the buffer is not
        q.unpop(ids[0]);
        return true;
      }
      while (count != 0) q.unpop(ids[--count]);
      return full && q.size() != 0;  // never enough: lost
    }
    ChainWriter writer(chain_, memory());
    if (count == 0) {
      if (writer.left() < sizeof held_) {
        fail("a receive buffer has no room for the header");
        return false;
      }
      Cursor cursor(chain_.segments + chain_.readable, chain_.total - chain_.readable);
      for (u64 skipped = 0; skipped < 10;) skipped += cursor.take(10 - skipped).bytes;
      for (u8*& byte : buffers_field) byte = cursor.take(1).host;
      writer.write(held_);
    }
    done += writer.write(packet_ + done, held_bytes_ - done);
    ids[count] = chain_.id;
    lengths[count++] = writer.written();
  }
  *buffers_field[0] = static_cast<u8>(count);
  *buffers_field[1] = static_cast<u8>(count >> 8);
  for (unsigned i = 0; i < count; ++i) q.push(ids[i], lengths[i]);
  return true;
}

// --- control ---

void Net::control(unsigned index) {
  serve_queue(index, chain_, 16, 1, [this](const Chain& chain) -> u32 {
    ChainReader reader(chain);
    ChainWriter writer(chain, memory());
    const u8 answer = obey(reader);
    return writer.write(answer) ? 1 : 0;
  });
}

u8 Net::obey(ChainReader& reader) {
  u8 command_class = 0, command = 0;
  if (!reader.read(command_class) || !reader.read(command)) return Control::error;
  switch (command_class << 8 | command) {
    case Control::mac_addr_set: {
      u8 mac[6];
      if (!has(F::ctrl_mac_addr) || reader.left() != sizeof mac || !reader.read(mac)) return Control::error;
      store_mac(mac);
      return Control::ok;
    }
    case Control::announce_ack:
      link_.fetch_and(static_cast<u16>(~LinkStatus::announce), std::memory_order_relaxed);
      return Control::ok;
    case Control::pairs_set: {
      u16 pairs = 0;
      if (!has(F::multi_queue) || !reader.read(pairs) || pairs == 0 || pairs > options_.pairs)
        return Control::error;
      active_pairs_ = pairs;
      return Control::ok;
    }
    case Control::offloads_set: {
      u64 wanted = 0;
      if (!has(F::ctrl_guest_offloads) || !reader.read(wanted)) return Control::error;
      if ((wanted & ~F::guest_offloads) != 0 || !has(wanted) || !accepts(wanted)) return Control::error;
      tell_offloads(offloads_of(wanted));
      return Control::ok;
    }
    default:
      return Control::error;
  }
}

}  // namespace nacre::virtio::net
