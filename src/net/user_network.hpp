// UserNetwork: a network of the guest's own behind address translation, through libslirp: DHCP, DNS, IPv4 and
// IPv6, ports of the host published to the guest. It uses the sockets that any program may use, and no
// privilege. docs/network.md, docs/adr/0013-user-networks.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.hpp"
#include "net/frame.hpp"
#include "net/joiner.hpp"
#include "net/names.hpp"
#include "net/packet_queue.hpp"
#include "net/port.hpp"
#include "net/socket_limit.hpp"

struct Slirp;

namespace nacre::net {

// A port of the host's that leads to one of the guest's.
struct Publish {
  bool udp = false;
  Address4 address = {127, 0, 0, 1};
  u16 host = 0, guest = 0;
};

struct UserOptions {
  std::vector<Publish> publish;
  std::string hostname = "nacre";  // what the guest is told by DHCP
  bool host_reachable = true;      // the host's own services, as those of 10.0.2.2
  u16 mtu = 1500;
  usize most_sockets = 1024;       // that the guest may hold at once
};

class UserNetwork final : public Port {
 public:
  // Binds the published ports and reads the host's resolv.conf.
  static Result<std::unique_ptr<UserNetwork>> create(const UserOptions& options);
  ~UserNetwork() override;
  // The addresses that create() chooses on this host.
  static Plan plan();

  [[nodiscard]] host::ThreadRole role() const override { return host::ThreadRole::Network; }
  bool send(const virtio::net::Header& header, const virtio::Segment* pieces, unsigned count,
            unsigned pair) override;
  usize receive(u8* to, virtio::net::Header& header, unsigned& pair) override;
  void set_offloads(const virtio::net::Offloads& offloads) override { offloads_ = offloads; }
  int wait_for(std::vector<pollfd>& descriptors) override;
  void happened(std::span<const pollfd> descriptors) override;

  // Sockets that the guest holds; the host's name servers.
  [[nodiscard]] usize socket_count() const { return limit_.count(); }
  [[nodiscard]] const NameServers& name_servers() const { return servers_; }

 private:
  struct Calls;  // what libslirp calls

  UserNetwork(const Plan& plan, const NameServers& servers) 
      : servers_(servers), plan_(plan), names_(plan, servers) {}
  Status start(const UserOptions& options);
  Status publish(const Publish& port);
  void send_frame(std::span<u8> frame);
  void send_allowed(std::span<u8> frame);
  // libslirp has a frame for the guest. One for which there is no room is lost, as on a wire.
  void put(std::span<u8> frame);

  static constexpr usize kQueueBytes = usize{4} << 20;
  // What may come at once, from all the sockets that are looked at together, without being lost.
  static constexpr usize kEnough = kQueueBytes / 4;
  static constexpr i64 kNoTimer = INT64_MAX;

  const NameServers servers_;
  const Plan plan_;
  Names names_;
  SocketLimit limit_;
  Slirp* slirp_ = nullptr;
  virtio::net::Offloads offloads_;
  PacketQueue queue_{kQueueBytes};
  bool asked_ = false;    // libslirp was asked what to wait for
  i64 timer_ = kNoTimer;  // of router advertisements: when it fires (ms)
  void* timer_argument_ = nullptr;
  std::span<const pollfd> happened_;  // while libslirp looks at them
  Segmenter segmenter_;
  Joiner joiner_;
  u8 frame_[virtio::net::kMostPacket];
  u8 segment_[virtio::net::kMostPacket];
};

}  // namespace nacre::net
