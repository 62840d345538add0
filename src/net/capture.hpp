// Capture: writes down what goes through a port, in the format of libpcap (nanoseconds, Ethernet), as tcpdump
// and Wireshark read it. Packets that are segmented later stand there whole, with their checksums finished.
// On the port's thread.
#pragma once

#include <memory>
#include <string>

#include "host/fd.hpp"
#include "net/port.hpp"

namespace nacre::net {

class Capture final : public Port {
 public:
  static Result<std::unique_ptr<Port>> create(std::unique_ptr<Port> port, const std::string& path);

  [[nodiscard]] host::ThreadRole role() const override { return port_->role(); }
  bool send(const virtio::net::Header& header, const virtio::Segment* pieces, unsigned count,
            unsigned pair) override;
  usize receive(u8* to, virtio::net::Header& header, unsigned& pair) override;
  void set_offloads(const virtio::net::Offloads& offloads) override { port_->set_offloads(offloads); }
  int wait_for(std::vector<pollfd>& descriptors) override { return port_->wait_for(descriptors); }
  void happened(std::span<const pollfd> descriptors) override { port_->happened(descriptors); }

 private:
  struct Record {
    u32 seconds = 0, nanoseconds = 0;
    u32 stored = 0, length = 0;
  };

  Capture(std::unique_ptr<Port> port, host::UniqueFd file) : port_(std::move(port)), file_(std::move(file)) {}
  // The packet in record_, behind room for its head.
  void write_down(const virtio::net::Header& header, usize bytes);

  std::unique_ptr<Port> port_;
  host::UniqueFd file_;
  bool over_ = false;  // the file could not be written
  u8 record_[sizeof(Record) + virtio::net::kMostPacket];
};

}  // namespace nacre::net
