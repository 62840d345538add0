// Tap: a guest on a tap interface of the host's kernel, which does checksums and segmentation. It must be
// there and be ours to use. An interface with several queues (IFF_MULTI_QUEUE) has a descriptor for each, and
// the kernel sends a flow's packets by the queue that the flow came from: they are the guest's queue pairs.
// docs/network.md.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "host/fd.hpp"
#include "net/intake.hpp"
#include "net/port.hpp"

namespace nacre::net {

class Tap final : public Port {
 public:
  static Result<std::unique_ptr<Tap>> create(const std::string& name, unsigned queues);

  [[nodiscard]] host::ThreadRole role() const override { return host::ThreadRole::Link; }
  bool send(const Header& header, const virtio::Segment* pieces, unsigned count,
            unsigned pair) override;
  usize receive(u8* to, Header& header, unsigned& pair) override;
  void set_offloads(const virtio::net::Offloads& offloads) override;
  int wait_for(std::vector<pollfd>& descriptors) override;
  void happened(std::span<const pollfd> descriptors) override;

 private:
  struct Queue {
    host::UniqueFd file;
    bool readable = false;  // there was something to read, and not yet nothing
    bool full = false;      // a packet waits for the kernel
  };

  explicit Tap(std::vector<Queue> queues) : queues_(std::move(queues)) {}
  void tell_kernel();
  // The next packet of any queue into intake_; false: there is none.
  bool read_next();

  static constexpr unsigned kMostInTurn = 256;

  std::vector<Queue> queues_;
  usize turn_ = 0;                  // whose packet intake_ has
  unsigned in_turn_ = 0;
  virtio::net::Offloads offloads_;  // the guest's
  // The kernel is told on this port's thread: a vCPU's may not.
  std::atomic<bool> changed_ = true;
  Intake intake_;
  u8 frame_[sizeof(Header) + kMostPacket];
};

}  // namespace nacre::net
