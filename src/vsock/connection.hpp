// Connection: one stream between a port of the guest and a Unix socket of the host, with the credit that each
// side has given the other. Virtio 1.2, 5.10.6.3 and 5.10.6.5. It moves bytes and knows what the guest must
// be told; finding connections and making packets is the Hub's. On the thread that runs the device's queues.
#pragma once

#include <sys/uio.h>

#include <vector>

#include "host/fd.hpp"
#include "virtio/chain.hpp"
#include "virtio/vsock/registers.hpp"

namespace nacre::vsock {

// What the guest may send ahead of a host's program that does not read. Memory is taken only while it does
// not.
inline constexpr u32 kWindow = 128 * kKiB;

struct Closed {  // bits of a Shutdown packet's flags
  static constexpr u32 receive = 1, send = 2, both = 3;
};

class Connection {
 public:
  enum class Stage : u8 {
    Greeting,    // the host's program has connected; its line is awaited
    Requested,   // the guest was asked
    Connecting,  // the guest has asked; the host's socket is awaited
    Open,
    Lingering,  // over for the guest; what it sent before is still to be written
  };
  // What the guest is to be told, beside data.
  struct Tell {
    static constexpr u8 request = 1, response = 2, shutdown = 4, credit = 8, ask_credit = 16;
  };

  Connection(u32 which, u32 time) : slot(which), generation(time) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  const u32 slot, generation;  // the Hub's
  bool queued = false;         // the Hub's

  Stage stage = Stage::Greeting;
  u32 host_port = 0, guest_port = 0;
  u8 to_tell = 0;

  void attach(host::UniqueFd socket) { socket_ = std::move(socket); }
  [[nodiscard]] int descriptor() const { return socket_.number(); }
  // What epoll has found: EPOLL* bits.
  void happened(u32 events);

  // Takes one line of at most 31 characters off the socket. Partial: not yet whole.
  enum class Greeted : u8 { Partial, Bad, Port };
  Greeted greet();
  // Answers it. False: the program is gone.
  bool welcome();

  // The guest's word about its buffer, in every packet of its.
  void credit(u32 buffer, u32 forwarded) {
    guest_buffer_ = buffer;
    guest_forwarded_ = forwarded;
  }
  // Payload from the guest. False: more than it has credit for, or after it said that no more comes.
  [[nodiscard]] bool take(const virtio::Segment* pieces, unsigned count, u32 bytes);
  // The guest will not receive or send any more.
  void guest_closes(u32 flags);
  // Writes what waits, as far as the socket takes it.
  void flush();

  // Payload for the guest: up to `most` bytes; 0: none now.
  [[nodiscard]] u32 read(u8* to, u32 most);
  // There is something to tell or perhaps to send.
  [[nodiscard]] bool has_packet() const { return to_tell != 0 || (can_read() && guest_credit() != 0); }
  // Both sides have ended it and nothing waits.
  [[nodiscard]] bool is_over() const { return guest_closed_ == Closed::both && waiting() == 0; }
  [[nodiscard]] bool guest_sends_no_more() const { return (guest_closed_ & Closed::send) != 0; }
  [[nodiscard]] usize waiting() const { return waiting_.size() - written_; }

  // For a packet's header.
  [[nodiscard]] u32 host_closed() const { return host_closed_; }
  u32 tell_forwarded() { return told_ = forwarded_; }

 private:
  [[nodiscard]] bool can_read() const {
    return stage == Stage::Open && readable_ && !read_ended_ && (guest_closed_ & Closed::receive) == 0;
  }
  [[nodiscard]] u32 guest_credit() const {
    const u32 under_way = sent_ - guest_forwarded_;
    return under_way < guest_buffer_ ? guest_buffer_ - under_way : 0;
  }
  void host_closes(u32 flags);
  void ask_credit_if_stuck();
  void forwarded(u64 bytes);
  void end_writing();
  // How much of it the socket took now.
  u64 write(const iovec* parts, usize count);

  host::UniqueFd socket_;
  bool readable_ = false, writable_ = true, hung_up_ = false;
  bool read_ended_ = false, write_failed_ = false, write_ended_ = false, asked_credit_ = false;
  u32 guest_closed_ = 0, host_closed_ = 0;
  u32 sent_ = 0, guest_buffer_ = 0, guest_forwarded_ = 0;  // towards the guest; modulo 2^32, as in packets
  u32 received_ = 0, forwarded_ = 0, told_ = 0;            // from the guest
  std::vector<u8> waiting_;  // from the guest, not yet written but for `written_` bytes
  usize written_ = 0;
  char line_[32] = {};
  unsigned line_length_ = 0;
};

}  // namespace nacre::vsock
