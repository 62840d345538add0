// The network device. Virtio 1.2, 5.1: mergeable buffers, checksum and TCP segmentation offload both ways,
// several queue pairs, control queue, link status and announcements. It does not filter: what the network
// gives, the guest gets.
//
// Queues: receive and transmit of pair 0, of pair 1 …, then control.
// Freestanding. Threads: as virtio/device.hpp says; Network is called on the queues' side.
#pragma once

#include "virtio/device.hpp"
#include "virtio/net/registers.hpp"

namespace nacre::virtio::net {

// What may be left to the guest: a packet with more than that must not come from receive().
struct Offloads {
  bool csum = false, tso4 = false, tso6 = false;
  constexpr bool operator==(const Offloads&) const = default;
};

// The backend: where the cable ends.
class Network {
 public:
  static constexpr unsigned kAnyPair = ~0U;

  // A packet from the guest, in pieces, by queue pair `pair`. False: not now; it is offered again when the
  // device is next run.
  [[nodiscard]] virtual bool send(const Header& header, const Segment* pieces, unsigned count,
                                  unsigned pair) = 0;
  // The next packet for the guest: its bytes at `to` (room for kMostPacket), its length, its header but for
  // `buffers`. 0: none. `pair` is kAnyPair, and left so where the network does not care.
  [[nodiscard]] virtual usize receive(u8* to, Header& header, unsigned& pair) = 0;
  virtual void set_offloads(const Offloads& offloads) = 0;

 protected:
  ~Network() = default;
};

struct NetOptions {
  u8 mac[6] = {};
  unsigned pairs = 1;  // to Net::kPairs
  u16 mtu = 0;         // 0: the guest is not told
};

class Net final : public Device {
 public:
  static constexpr unsigned kPairs = 8;

  struct State {
    static constexpr u32 kVersion = 1;
    u32 version = kVersion;
    u16 link = LinkStatus::up;
    u8 mac[6] = {};
    u32 active_pairs = 1;
    u32 offloads = 0;  // bit 0: csum, 1: tso4, 2: tso6
    constexpr bool operator==(const State&) const = default;
  };

  Net(const memory::AddressSpace& space, const Ports& ports, Network& network, const NetOptions& options);

  u64 config_read(u64 offset, unsigned size) override;
  [[nodiscard]] bool accepts(u64 features) const override;

  // Under the board's lock; then PciTransport::config_interrupt(). announce(): the guest is asked to make
  // itself known, as after a move to another host; only where it has negotiated that.
  void set_link(bool up);
  void announce();

  // While neither side runs; load() after the transport's.
  [[nodiscard]] State state() const;
  Status load(const State& state);

 private:
  void process(unsigned index) override;
  void poll() override;
  void started(u64 features) override;
  void reset_config() override;
  bool stopped() override;

  void transmit(unsigned index);
  bool send_one(unsigned pair, bool& taken_back);
  void receive();
  bool deliver(unsigned index);
  void control(unsigned index);
  u8 obey(ChainReader& reader);
  [[nodiscard]] unsigned pair_for(const u8* packet, usize bytes, unsigned wanted) const;
  void store_mac(const u8* mac);
  void tell_offloads(const Offloads& offloads);

  Network& network_;
  const NetOptions options_;
  // Both sides': the guest changes them by the control queue, and reads them in configuration space.
  std::atomic<u64> mac_ = 0;
  std::atomic<u16> link_ = LinkStatus::up;
  unsigned active_pairs_ = 1;  // by phase, as the queues
  Offloads offloads_;
  u64 stalled_ = 0;       // transmit queues that the network did not take from
  usize held_bytes_ = 0;  // a packet that waits for buffers in packet_; 0: none
  Header held_;
  unsigned held_pair_ = 0;
  Queue queue_[2 * kPairs + 1];
  Chain chain_;
  Segment pieces_[kMaxQueueSize];
  u8 packet_[kMostPacket];
};

}  // namespace nacre::virtio::net
