// SwitchPort: a place on a network among guests of this host. A folder is the network; every guest has a
// datagram socket in it and sends to the others', so there is nobody whose end would end it, and nothing to
// start. A frame goes to the socket whence its target's address has been seen, or to all. With it goes the
// virtio header, so that large packets and checksums stay undone from guest to guest. docs/network.md.
//
// Who may write to the folder is on the network. The sockets of guests that were killed stay until the next
// guest comes.
#pragma once

#include <dirent.h>
#include <sys/un.h>

#include <memory>
#include <string>
#include <unordered_map>

#include "host/fd.hpp"
#include "net/intake.hpp"
#include "net/port.hpp"

namespace nacre::net {

class SwitchPort final : public Port {
 public:
  // Makes the folder, for its owner alone, where there is none.
  static Result<std::unique_ptr<SwitchPort>> create(const std::string& folder);
  ~SwitchPort() override;

  [[nodiscard]] host::ThreadRole role() const override { return host::ThreadRole::Link; }
  bool send(const Header& header, const virtio::Segment* pieces, unsigned count,
            unsigned pair) override;
  usize receive(u8* to, Header& header, unsigned& pair) override;
  void set_offloads(const virtio::net::Offloads& offloads) override { offloads_ = offloads; }
  int wait_for(std::vector<pollfd>& descriptors) override;
  void happened(std::span<const pollfd> descriptors) override;

 private:
  enum class Sent : u8 { Yes, Full, Gone };

  SwitchPort(host::UniqueFd socket, DIR* folder, std::string path, std::string name)
      : socket_(std::move(socket)), folder_(folder), path_(std::move(path)), name_(std::move(name)) {}
  [[nodiscard]] Sent send_to(const std::string& name, usize bytes);
  void send_to_all(usize bytes);
  void learn(const u8* mac, const sockaddr_un& from, usize length);

  // A guest that stands still holds up who sends to it for so many milliseconds a packet.
  static constexpr unsigned kPatience = 50;
  static constexpr usize kMostLearned = 1024;

  host::UniqueFd socket_;
  DIR* folder_;
  const std::string path_;                        // of the folder, without links
  const std::string name_;                        // of our socket in it
  std::unordered_map<u64, std::string> learned_;  // who has an address
  virtio::net::Offloads offloads_;
  bool readable_ = false;
  unsigned waited_ = 0;  // with the packet that could not be sent
  Intake intake_;
  u8 message_[sizeof(Header) + kMostPacket];
};

}  // namespace nacre::net
