// Cable: packets between a machine and a network that is in another process (net/process.hpp), over a pair of
// sockets. A message is a packet behind its virtio header, so that large packets and checksums stay undone on
// the way; each end checks what comes, since the other may have been taken over by a guest or by the network.
//
// Cable is the machine's end, a port like any other. It needs nothing but read, write and poll on a socket
// that it is given, so any thread of a virtio device may have it, also in a process that is confined already.
// CableServer is the network's end. docs/adr/0016-hot-plug.md.
#pragma once

#include <memory>
#include <utility>

#include "host/fd.hpp"
#include "net/intake.hpp"
#include "net/port.hpp"

namespace nacre::net {

// Both ends: the machine's first. They do not block.
Result<std::pair<host::UniqueFd, host::UniqueFd>> make_cable();

class Cable final : public Port {
 public:
  explicit Cable(host::UniqueFd socket) : socket_(std::move(socket)) {}

  [[nodiscard]] host::ThreadRole role() const override { return host::ThreadRole::Device; }
  bool send(const Header& header, const virtio::Segment* pieces, unsigned count, unsigned pair) override;
  usize receive(u8* to, Header& header, unsigned& pair) override;
  void set_offloads(const virtio::net::Offloads& offloads) override { offloads_ = offloads; }
  int wait_for(std::vector<pollfd>& descriptors) override;
  void happened(std::span<const pollfd> descriptors) override;

 private:
  void lost();

  host::UniqueFd socket_;
  virtio::net::Offloads offloads_;
  bool readable_ = false;  // there was something to read, and not yet nothing
  bool full_ = false;      // a packet waits for room
  bool hung_up_ = false;   // the other end is gone; what it had sent may still be there
  bool over_ = false;      // and that has been read
  Intake intake_;
  u8 message_[sizeof(Header) + kMostPacket];
};

class CableServer {
 public:
  CableServer(Port& port, host::UniqueFd socket);
  // Carries packets until the machine's end is closed. On the port's thread.
  void run();
  // One turn: waits for at most so long (-1: no limit), then carries what there is. False: the machine's end
  // is closed.
  bool turn(int milliseconds);

 private:
  static constexpr unsigned kBudget = 128;  // packets of one direction before the other has its turn

  bool wait(int milliseconds);
  void from_machine();
  void to_machine();

  Port& port_;
  host::UniqueFd socket_;
  std::vector<pollfd> entries_;
  bool more_ = false;  // a turn was cut short
  usize coming_ = 0;   // bytes of the frame in in_ that the port does not take yet
  usize going_ = 0;    // of the message in out_ for which there is no room yet
  u8 in_[sizeof(Header) + kMostPacket];
  u8 out_[sizeof(Header) + kMostPacket];
};

}  // namespace nacre::net
