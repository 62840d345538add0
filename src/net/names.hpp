// Names: what stands between a guest and the address translation of user networks: it turns the name server
// that the guest was told of into the host's, answers for the names in .nacre.internal itself, and keeps the
// guest from the addresses that would reach further than the network is meant to. So the translation never
// looks for a name server by itself, which would take reading files on a thread that may not.
//
// The guest's frames are hostile; those of the network are as hostile as the Internet is. RFC 1035 (names),
// 1624 (checksums). One thread.
#pragma once

#include <array>
#include <bitset>
#include <optional>
#include <span>
#include <string_view>

#include "base/types.hpp"

namespace nacre::net {

using Address4 = std::array<u8, 4>;
using Address6 = std::array<u8, 16>;

// The host's first name server of each family.
struct NameServers {
  std::optional<Address4> v4 = {};
  std::optional<Address6> v6 = {};
  // From the text of a resolv.conf(5).
  static NameServers parse(std::string_view text);
};

// Addresses in the guest's network.
struct Plan {
  Address4 network = {10, 0, 2, 0}, host = {10, 0, 2, 2}, names = {10, 0, 2, 3}, guest = {10, 0, 2, 15};
  Address6 prefix6 = {0xfe, 0xc0}, host6 = {0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2},
           names6 = {0xfe, 0xc0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3};
  // 10.0.3.0 where the host has its own name server in 10.0.2.0: it is then a guest of this kind itself.
  static Plan beside(const NameServers& servers);
};

class Names {
 public:
  static constexpr std::string_view kDomain = "nacre.internal";

  enum class Fate : u8 { Pass, Drop, Answer };

  Names(const Plan& plan, const NameServers& servers) : plan_(plan), servers_(servers) {}

  // A frame from the guest, changed in place where it is passed on. Answer: answer() has a frame for the
  // guest.
  Fate from_guest(std::span<u8> frame);
  [[nodiscard]] std::span<u8> answer() { return {answer_.data(), answer_bytes_}; }
  // A frame for the guest, changed in place.
  void to_guest(std::span<u8> frame);

 private:
  struct Packet;  // where things are in a frame of UDP or TCP
  // Flows between the guest's port and the name server; one that goes to another server is not translated.
  using Ports = std::bitset<65536>;

  [[nodiscard]] Fate forward(const Packet& packet, std::span<const u8> server);
  [[nodiscard]] bool answer_question(const Packet& packet, bool reachable);
  void finish_answer(const Packet& packet, usize message_bytes);
  Ports& ports(const Packet& packet);

  const Plan plan_;
  const NameServers servers_;
  std::array<Ports, 4> ports_ = {};  // UDP, TCP; the same over IPv6
  std::array<u8, 512> answer_ = {};
  usize answer_bytes_ = 0;
};

}  // namespace nacre::net
