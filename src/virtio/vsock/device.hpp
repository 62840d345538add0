// The socket device: carries packets of stream sockets between guest and host. Virtio 1.2, 5.10. Connections
// and their credit are the backend's; what is here is that a packet is whole, from this guest and to this
// host, and that a reset goes back for one that is not a stream's.
//
// Queues: receive, transmit, event. Freestanding. Threads: as virtio/device.hpp says; Sockets is called on
// the queues' side.
#pragma once

#include "virtio/device.hpp"
#include "virtio/vsock/registers.hpp"

namespace nacre::virtio::vsock {

class Sockets {
 public:
  // A packet from the guest; `header.bytes` of payload in pieces. False: not now; it is offered again when
  // the device is next run.
  [[nodiscard]] virtual bool send(const PacketHeader& header, const Segment* pieces, unsigned count) = 0;
  // The next packet for the guest: `header` (addresses and length are filled in by the device) and up to
  // `most` bytes of payload at `to`, whose number goes to header.bytes. False: none.
  [[nodiscard]] virtual bool receive(PacketHeader& header, u8* to, u32 most) = 0;
  // What has happened on the host's side is looked at; the device asks for packets afterwards.
  virtual void dispatch() {}
  // The guest's driver has let go of the device: all connections are gone. On the queues' side, or on the
  // machine's owner's while neither side runs.
  virtual void reset() = 0;

 protected:
  ~Sockets() = default;
};

class Vsock final : public Device {
 public:
  Vsock(const memory::AddressSpace& space, const Ports& ports, Sockets& sockets, u64 guest_cid);

  u64 config_read(u64 offset, unsigned size) override;

 private:
  static constexpr unsigned kReceive = 0, kTransmit = 1;
  static constexpr unsigned kResets = 64;

  void process(unsigned index) override;
  void poll() override;
  void started(u64 features) override;
  bool stopped() override;

  void transmit();
  bool send_one(bool& taken_back);
  void receive();
  bool deliver();
  bool next_packet();
  void refuse(const PacketHeader& header);

  Sockets& sockets_;
  const u64 guest_cid_;
  bool stalled_ = false;  // Sockets did not take a packet
  bool held_ = false;     // a packet waits for a buffer
  PacketHeader held_header_;
  unsigned reset_count_ = 0;  // answers to packets that were refused
  PacketHeader resets_[kResets];
  Queue queue_[3];
  Chain chain_;
  Segment pieces_[kMaxQueueSize];
  u8 payload_[kMostPayload];
};

}  // namespace nacre::virtio::vsock
