// SocketLimit: how many sockets of the host's a guest may hold through its user network. Each flow that a
// guest begins is a socket of this process, with up to 256 KiB of buffers: without a limit it could take all
// descriptors of the machine's, and much of the host's memory.
//
// It looks at the guest's frames before the address translation does, for those that would begin a flow, and
// learns from the translation's own calls what became of them. RFC 9293, 3.5.1 (refusing), 791, 8200, 4443.
// One thread.
#pragma once

#include <array>
#include <span>
#include <unordered_map>
#include <unordered_set>

#include "base/types.hpp"

namespace nacre::net {

class SocketLimit {
 public:
  enum class Fate : u8 { Pass, Drop, Answer };

  explicit SocketLimit(usize most = 0) { set(most); }
  // Of datagrams and pings at most half are, so that there is always room for connections.
  void set(usize most) { most_ = most, most_datagrams_ = most / 2; }

  // A frame from the guest. Answer: answer() is for the guest, a connection refused. After Pass, done() when
  // the translation has had it.
  Fate from_guest(std::span<const u8> frame);
  void done() { current_ = {}; }
  [[nodiscard]] std::span<u8> answer() { return {answer_.data(), answer_bytes_}; }

  // The translation has made a socket, or will close it.
  void opened(int socket);
  void closed(int socket);
  [[nodiscard]] bool full() const { return sockets_.size() >= most_; }
  [[nodiscard]] usize count() const { return sockets_.size(); }
  // A flow's, not one that listens.
  [[nodiscard]] bool is_flow(int socket) const { return sockets_.contains(socket); }

 private:
  // Protocol, addresses and ports; of datagrams the guest's address and port only, since one socket serves
  // all that a port of the guest's talks to. All zeros: none, as of a connection that came from outside.
  using Flow = std::array<u8, 37>;
  struct Hash {
    usize operator()(const Flow& flow) const;
  };
  struct Owner {
    Flow flow = {};
    bool datagram = false;
  };
  struct Packet;

  void refuse(const Packet& packet);

  usize most_ = 0, most_datagrams_ = 0;
  usize datagrams_ = 0;
  Owner current_;  // whose frame the translation has
  std::unordered_map<int, Owner> sockets_;
  std::unordered_set<Flow, Hash> flows_;
  std::array<u8, 74> answer_ = {};
  usize answer_bytes_ = 0;
};

}  // namespace nacre::net
