// Hub: what is behind the guest's socket device: connections between ports of the guest and Unix sockets of
// the host, by Firecracker's convention. A program that connects to PATH and sends "CONNECT <port>\n" reaches
// that port of the guest and is answered "OK <port of the host>\n"; a guest that connects to port P of the
// host (CID 2) reaches who listens at PATH_P. What cannot be reached is refused: the socket is closed, or the
// guest gets a reset.
//
// Everything a guest may make it keep is bounded: kMostConnections, kWindow bytes for each, kMostResets
// answers. Threads: made with the machine, then on the thread that runs the device's queues.
#pragma once

#include <deque>
#include <memory>
#include <unordered_map>
#include <vector>

#include "base/result.hpp"
#include "virtio/vsock/device.hpp"
#include "vsock/connection.hpp"
#include "vsock/connector.hpp"

namespace nacre::vsock {

inline constexpr unsigned kMostConnections = 512;  // below the usual limit of open files, 1024

class Hub final : public virtio::vsock::Sockets {
 public:
  // `listener` listens and does not block; empty: nobody connects but by adopt().
  static Result<std::unique_ptr<Hub>> create(host::UniqueFd listener, std::unique_ptr<Connector> connector);
  Hub(const Hub&) = delete;
  Hub& operator=(const Hub&) = delete;

  // Readable while dispatch() has something to do.
  [[nodiscard]] int descriptor() const { return poll_.number(); }
  // A host's program, which has yet to say which port it wants. False: there are too many.
  bool adopt(host::UniqueFd socket);
  [[nodiscard]] usize connections() const { return count_; }

  [[nodiscard]] bool send(const virtio::vsock::PacketHeader& header, const virtio::Segment* pieces,
                          unsigned count) override;
  [[nodiscard]] bool receive(virtio::vsock::PacketHeader& header, u8* to, u32 most) override;
  void dispatch() override;
  void reset() override;

 private:
  using PacketHeader = virtio::vsock::PacketHeader;
  using Operation = virtio::vsock::Operation;

  Hub(host::UniqueFd poll, host::UniqueFd listener, std::unique_ptr<Connector> connector);
  Status watch(int file, u64 name, u32 events);

  Connection* make();
  Connection* find(u32 host_port, u32 guest_port);
  bool name(Connection& connection, u32 host_port, u32 guest_port);
  void remove(Connection& connection);
  void refuse(u32 host_port, u32 guest_port);
  // What has come of a change: something to tell, or the end.
  void settle(Connection& connection);

  void open(const PacketHeader& header);
  void deliver(Connection& connection, const PacketHeader& header, const virtio::Segment* pieces,
               unsigned count);
  bool respond(Connection& connection);
  void end_for_guest(Connection& connection);
  void accept_all();
  void take_answers();
  void happened(Connection& connection, u32 events);
  void greet(Connection& connection);
  u32 free_host_port(u32 guest_port);
  bool next_of(Connection& connection, PacketHeader& header, u8* to, u32 most);

  host::UniqueFd poll_, listener_;
  std::unique_ptr<Connector> connector_;
  bool waiting_outside_ = true;  // somebody may be at the listener
  std::vector<std::unique_ptr<Connection>> slots_;
  usize count_ = 0;
  u32 next_generation_ = 0;
  std::unordered_map<u64, Connection*> by_ports_;
  std::deque<Connection*> ready_;           // have a packet for the guest
  std::deque<Connection*> asking_;          // wait for the connector; null: gone in the meantime
  std::deque<std::pair<u32, u32>> resets_;  // (host, guest) ports
  u32 next_host_port_ = 1u << 30;
};

}  // namespace nacre::vsock
