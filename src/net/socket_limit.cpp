#include "net/socket_limit.hpp"

#include <algorithm>
#include <string_view>

#include "net/frame.hpp"

namespace nacre::net {
namespace {

constexpr u8 kIcmp = 1, kTcp = 6, kUdp = 17, kIcmp6 = 58;
constexpr u8 kSyn = 0x02, kReset = 0x04, kAck = 0x10;
constexpr usize kIp4Bytes = 20, kIp6Bytes = 40, kTcpBytes = 20;

}  // namespace

// Where things are. What the translation would not understand either is not found.
struct SocketLimit::Packet {
  std::span<const u8> frame;
  bool v6 = false, fragment = false;
  u8 protocol = 0;
  usize transport = 0;  // offset
  usize end = 0;        // of the packet; an Ethernet frame may be longer

  static Packet find(std::span<const u8> frame) {
    Packet packet;
    if (frame.size() < kEthernetBytes + kIp4Bytes) return packet;
    const u8* ip = frame.data() + kEthernetBytes;
    const u16 type = load16(frame.data() + 12);
    usize bytes = 0, head = 0;
    if (type == 0x0800) {
      head = (ip[0] & 15) * 4U;
      if (head < kIp4Bytes) return packet;
      packet.protocol = ip[9];
      packet.fragment = (load16(ip + 6) & 0x3fff) != 0;  // more are to come, or it is not the first
      bytes = load16(ip + 2);
    } else if (type == 0x86dd && frame.size() >= kEthernetBytes + kIp6Bytes) {
      head = kIp6Bytes;
      packet.v6 = true;
      packet.protocol = ip[6];
      bytes = kIp6Bytes + load16(ip + 4);
    }
    packet.transport = kEthernetBytes + head;
    packet.end = std::min(frame.size(), kEthernetBytes + bytes);
    if (head != 0 && packet.transport + 8 <= packet.end) packet.frame = frame;
    return packet;
  }
  [[nodiscard]] const u8* header() const { return frame.data() + transport; }
  [[nodiscard]] std::span<const u8> addresses() const {
    return frame.subspan(kEthernetBytes + (v6 ? 8 : 12), v6 ? 32 : 8);
  }
  [[nodiscard]] bool is_tcp() const { return protocol == kTcp; }
  [[nodiscard]] bool is_datagram() const { return protocol == kUdp || protocol == (v6 ? kIcmp6 : kIcmp); }
  // Only this begins a connection. Options and data of it do not matter.
  [[nodiscard]] bool is_syn() const {
    return is_tcp() && transport + kTcpBytes <= end && (header()[13] & (kSyn | kReset | kAck)) == kSyn;
  }
  // Neighbour discovery and the like are no pings, and need no socket.
  [[nodiscard]] bool is_echo() const {
    return (protocol == kIcmp && !v6 && header()[0] == 8) || (protocol == kIcmp6 && v6 && header()[0] == 128);
  }
  // Answered without a socket, and a guest that is refused it loses its address.
  [[nodiscard]] bool is_dhcp() const {
    return protocol == kUdp && !v6 && !fragment && load32(addresses().data() + 4) == 0xffffffff &&
           load16(header() + 2) == 67;
  }
  [[nodiscard]] Flow flow() const {
    Flow flow = {};
    if (frame.empty() || fragment || !(is_tcp() || protocol == kUdp)) return flow;
    flow[0] = static_cast<u8>(protocol | (v6 ? 0x80 : 0));
    const std::span<const u8> both = addresses();
    const usize wanted = is_tcp() ? both.size() : both.size() / 2;
    std::copy_n(both.begin(), wanted, flow.begin() + 1);
    std::copy_n(header(), is_tcp() ? 4 : 2, flow.begin() + 33);
    return flow;
  }
};

usize SocketLimit::Hash::operator()(const Flow& flow) const {
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(flow.data()), flow.size()});
}

SocketLimit::Fate SocketLimit::from_guest(std::span<const u8> frame) {
  const Packet packet = Packet::find(frame);
  current_ = {packet.flow(), packet.is_datagram()};
  if (!full() && (!current_.datagram || datagrams_ < most_datagrams_)) return Fate::Pass;
  if (packet.frame.empty() || packet.is_dhcp() || flows_.contains(current_.flow)) return Fate::Pass;
  if (packet.fragment) return Fate::Drop;  // of what, shows only when it is whole
  if (packet.is_syn()) {
    refuse(packet);
    return Fate::Answer;
  }
  return packet.protocol == kUdp || packet.is_echo() ? Fate::Drop : Fate::Pass;
}

void SocketLimit::opened(int socket) {
  if (socket < 0) return;
  closed(socket);
  Owner owner = current_;
  if (owner.flow != Flow{} && !flows_.insert(owner.flow).second) owner.flow = {};
  if (owner.datagram) ++datagrams_;
  sockets_.emplace(socket, owner);
}

void SocketLimit::closed(int socket) {
  const auto found = sockets_.find(socket);
  if (found == sockets_.end()) return;
  if (found->second.datagram) --datagrams_;
  flows_.erase(found->second.flow);
  sockets_.erase(found);
}

// A reset that acknowledges the beginning: RFC 9293, 3.5.2, group 1.
void SocketLimit::refuse(const Packet& packet) {
  const usize head = packet.v6 ? kIp6Bytes : kIp4Bytes;  // IPv4 options do not come back
  u8* const frame = answer_.data();
  u8* const ip = frame + kEthernetBytes;
  u8* const tcp = ip + head;
  answer_ = {};
  answer_bytes_ = kEthernetBytes + head + kTcpBytes;
  std::copy_n(packet.frame.begin(), kEthernetBytes + head, frame);
  std::swap_ranges(frame, frame + 6, frame + 6);
  const usize addresses = packet.v6 ? 8 : 12, size = packet.v6 ? 16 : 4;
  std::swap_ranges(ip + addresses, ip + addresses + size, ip + addresses + size);
  const u8* const asked = packet.header();
  store16(tcp, load16(asked + 2));
  store16(tcp + 2, load16(asked));
  const usize offset = (asked[12] >> 4) * 4U;
  const usize data = packet.end - packet.transport;
  store32(tcp + 8, load32(asked + 4) + 1 + static_cast<u32>(data > offset ? data - offset : 0));
  tcp[12] = kTcpBytes / 4 << 4;
  tcp[13] = kReset | kAck;
  store16(tcp + 16, transport_checksum({ip + addresses, 2 * size}, kTcp, {tcp, kTcpBytes}));
  if (packet.v6) {
    store16(ip + 4, kTcpBytes);
    ip[7] = 64;
  } else {
    ip[0] = 0x45;
    store16(ip + 2, static_cast<u32>(head + kTcpBytes));
    store32(ip + 4, 0x4000);
    ip[8] = 64;
    store16(ip + 10, 0);
    store16(ip + 10, static_cast<u16>(~ones_sum({ip, head})));
  }
}

}  // namespace nacre::net
