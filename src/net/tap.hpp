// Tap: a guest on a tap interface of the host's kernel, which does checksums and segmentation. It must be
// there and be ours to use. docs/network.md.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "host/fd.hpp"
#include "net/intake.hpp"
#include "net/port.hpp"

namespace nacre::net {

class Tap final : public Port {
 public:
  static Result<std::unique_ptr<Tap>> create(const std::string& name);

  [[nodiscard]] host::ThreadRole role() const override { return host::ThreadRole::Link; }
  bool send(const Header& header, const virtio::Segment* pieces, unsigned count) override;
  usize receive(u8* to, Header& header) override;
  void set_offloads(const virtio::net::Offloads& offloads) override;
  int wait_for(std::vector<pollfd>& descriptors) override;
  void happened(std::span<const pollfd> descriptors) override;

 private:
  explicit Tap(host::UniqueFd file) : file_(std::move(file)) {}
  void tell_kernel();

  host::UniqueFd file_;
  virtio::net::Offloads offloads_;  // the guest's
  // The kernel is told on this port's thread: a vCPU's may not.
  std::atomic<bool> changed_ = true;
  bool readable_ = false;  // there was something to read, and not yet nothing
  bool full_ = false;      // a packet waits for the kernel
  Intake intake_;
  u8 frame_[sizeof(Header) + kMostPacket];
};

}  // namespace nacre::net
