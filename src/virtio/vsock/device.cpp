#include "virtio/vsock/device.hpp"

#include "virtio/registers.hpp"

namespace nacre::virtio::vsock {
namespace {

constexpr unsigned kBudget = 64;  // packets one way before the other has its turn

}  // namespace

Vsock::Vsock(const memory::AddressSpace& space, const Ports& ports, Sockets& sockets, u64 guest_cid)
    : Device({.name = "vsock", .id = DeviceId::Vsock, .class_code = 0x028000}, queue_, space, ports),
      sockets_(sockets),
      guest_cid_(guest_cid) {}

u64 Vsock::config_read(u64 offset, unsigned size) {
  return config_bytes(&guest_cid_, sizeof guest_cid_, offset, size);
}

void Vsock::started(u64) {
  stalled_ = held_ = false;
  reset_count_ = 0;
}

// Not in started(), which is on a processor's thread.
bool Vsock::stopped() {
  sockets_.reset();
  return true;
}

void Vsock::process(unsigned index) {
  if (index == kTransmit) transmit();
  if (index == kReceive || index == kTransmit) receive();
}

void Vsock::poll() {
  sockets_.dispatch();
  if (stalled_) transmit();
  receive();
}

void Vsock::transmit() {
  Queue& q = queue(kTransmit);
  stalled_ = false;
  unsigned sent = 0;
  do {
    q.suppress_doorbell(memory());
    while (!is_stopping() && !is_broken()) {
      if (sent == kBudget) {
        publish(kTransmit);
        q.allow_doorbell(memory());
        return ring_again(kTransmit);
      }
      // Without room for an answer no more questions: else a guest could make us keep any number of them.
      if (reset_count_ == kResets) receive();
      stalled_ = reset_count_ == kResets;
      if (stalled_ || !pop(kTransmit, chain_)) break;
      if (!send_one(stalled_)) return fail("a packet has no header, or less payload than it says");
      if (stalled_) {
        q.unpop(chain_.id);
        break;
      }
      q.push(chain_.id, 0);
      ++sent;
    }
    publish(kTransmit);
  } while (!stalled_ && !is_stopping() && !is_broken() && q.allow_doorbell(memory()));
}

// The packet in chain_. False: it is not one.
bool Vsock::send_one(bool& taken_back) {
  ChainReader reader(chain_);
  PacketHeader header;
  if (!reader.read(header) || header.bytes > reader.left()) return false;
  if (header.source_cid != guest_cid_ || header.target_cid != kHostCid) return true;  // nobody's: it is lost
  if (header.type != PacketType::stream || header.bytes > kMostPayload) {
    refuse(header);
    return true;
  }
  unsigned count = 0;
  for (u64 left = header.bytes; left != 0;) {
    pieces_[count] = reader.take(left);
    left -= pieces_[count++].bytes;
  }
  taken_back = !sockets_.send(header, pieces_, count);
  return true;
}

// 5.10.6.4.1: what is not known is answered with a reset, which itself never is.
void Vsock::refuse(const PacketHeader& header) {
  if (static_cast<Operation>(header.operation) == Operation::Reset) return;
  PacketHeader& answer = resets_[reset_count_++];
  answer = PacketHeader{};
  answer.source_port = header.target_port;
  answer.target_port = header.source_port;
  answer.type = header.type;
  answer.operation = static_cast<u16>(Operation::Reset);
}

bool Vsock::next_packet() {
  if (held_) return true;
  held_header_ = PacketHeader{};
  if (reset_count_ != 0) {
    held_header_ = resets_[--reset_count_];
    held_ = true;
  } else {
    held_header_.type = PacketType::stream;
    held_ = sockets_.receive(held_header_, payload_, kMostPayload);
    NACRE_CHECK(!held_ || held_header_.bytes <= kMostPayload);
  }
  held_header_.source_cid = kHostCid;
  held_header_.target_cid = guest_cid_;
  return held_;
}

void Vsock::receive() {
  Queue& q = queue(kReceive);
  for (unsigned received = 0; !is_stopping() && !is_broken() && next_packet(); ++received) {
    if (received == kBudget) {
      ring_again(kReceive);
      break;
    }
    // No room: the driver is asked to ring; it may have made some just before it heard.
    if (!deliver() && (is_broken() || !q.allow_doorbell(memory()) || !deliver())) break;
    // There may be room for answers again, and no other event need come.
    if (stalled_) ring_again(kTransmit);
  }
  publish(kReceive);
}

// The packet held into one buffer; what does not fit follows as another packet of the same stream. False: no
// buffer.
bool Vsock::deliver() {
  if (!pop(kReceive, chain_)) return false;
  if (chain_.writable_bytes < sizeof(PacketHeader) + (held_header_.bytes != 0 ? 1 : 0)) {
    fail("a receive buffer has no room for the header");
    return false;
  }
  ChainWriter writer(chain_, memory());
  PacketHeader header = held_header_;
  const u64 room = writer.left() - sizeof header;
  if (header.bytes > room) header.bytes = static_cast<u32>(room);
  writer.write(header);
  writer.write(payload_, header.bytes);
  queue(kReceive).push(chain_.id, writer.written());
  const u32 left = held_header_.bytes - header.bytes;
  held_ = left != 0;
  // To the front; forwards, so that overlapping does no harm.
  for (u32 i = 0; i < left; ++i) payload_[i] = payload_[header.bytes + i];
  held_header_.bytes = left;
  return true;
}

}  // namespace nacre::virtio::vsock
