#include "net/names.hpp"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "net/frame.hpp"

namespace nacre::net {
namespace {

constexpr u8 kIcmp = 1, kTcp = 6, kUdp = 17, kIcmp6 = 58;
constexpr usize kIp6Bytes = 40, kUdpBytes = 8, kDnsBytes = 12;
constexpr u16 kNamePort = 53;
constexpr u16 kTypeA = 1, kTypeAaaa = 28, kClassInternet = 1;

// RFC 1624, eqn. 3, for each word of an address.
void replace_in_sum(u8* sum, std::span<const u8> old_bytes, std::span<const u8> new_bytes) {
  u32 value = static_cast<u16>(~load16(sum));
  for (usize i = 0; i < old_bytes.size(); i += 2) {
    value += static_cast<u16>(~load16(&old_bytes[i]));
    value += load16(&new_bytes[i]);
  }
  while (value >> 16 != 0) value = (value & 0xffff) + (value >> 16);
  store16(sum, static_cast<u16>(~value));
}

char lower(u8 c) {
  return static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
}

}  // namespace

struct Names::Packet {
  std::span<u8> frame;
  bool v6 = false;
  u8 protocol = 0;
  usize transport = 0;  // offset of the UDP or TCP header

  // Null when the frame is not the beginning of a whole UDP or TCP packet.
  static std::optional<Packet> find(std::span<u8> frame) {
    Packet packet = {.frame = frame};
    if (frame.size() < kEthernetBytes + 20) return {};
    const u8* ip = frame.data() + kEthernetBytes;
    const u16 type = load16(frame.data() + 12);
    if (type == 0x0800) {
      packet.protocol = ip[9];
      packet.transport = kEthernetBytes + (ip[0] & 15) * 4U;
      if (ip[0] >> 4 != 4 || (ip[0] & 15) < 5 || (load16(ip + 6) & 0x3fff) != 0) return {};
    } else if (type == 0x86dd && frame.size() >= kEthernetBytes + kIp6Bytes && ip[0] >> 4 == 6) {
      packet.v6 = true;
      packet.protocol = ip[6];
      packet.transport = kEthernetBytes + kIp6Bytes;
    } else {
      return {};
    }
    const usize least = packet.protocol == kTcp ? 20 : kUdpBytes;
    if (packet.protocol != kTcp && packet.protocol != kUdp) return {};
    if (frame.size() < packet.transport + least) return {};
    return packet;
  }
  [[nodiscard]] u8* header() const { return frame.data() + transport; }
  [[nodiscard]] u16 source_port() const { return load16(header()); }
  [[nodiscard]] u16 target_port() const { return load16(header() + 2); }
  [[nodiscard]] std::span<u8> source() const {
    return frame.subspan(kEthernetBytes + (v6 ? 8 : 12), v6 ? 16 : 4);
  }
  [[nodiscard]] std::span<u8> target() const {
    return frame.subspan(kEthernetBytes + (v6 ? 24 : 16), v6 ? 16 : 4);
  }
  void replace(std::span<u8> address, std::span<const u8> with) const {
    u8* sum = header() + (protocol == kTcp ? 16 : 6);
    const bool no_sum = protocol == kUdp && load16(sum) == 0;
    if (!no_sum) replace_in_sum(sum, address, with);
    if (!no_sum && protocol == kUdp && load16(sum) == 0) store16(sum, 0xffff);
    if (!v6) replace_in_sum(frame.data() + kEthernetBytes + 10, address, with);
    std::copy(with.begin(), with.end(), address.begin());
  }
};

NameServers NameServers::parse(std::string_view text) {
  NameServers found;
  while (!text.empty()) {
    const usize end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    constexpr std::string_view kWord = "nameserver";
    if (!line.starts_with(kWord) || line.size() <= kWord.size()) continue;
    line.remove_prefix(kWord.size());
    if (line[0] != ' ' && line[0] != '\t') continue;
    const usize begin = line.find_first_not_of(" \t");
    if (begin == std::string_view::npos) continue;
    const std::string address(line.substr(begin, line.find_first_of(" \t\r", begin) - begin));
    Address4 four;
    Address6 six;
    // A link-local address with its %interface is not understood, and passed over.
    if (!found.v4 && inet_pton(AF_INET, address.c_str(), four.data()) == 1) found.v4 = four;
    if (!found.v6 && inet_pton(AF_INET6, address.c_str(), six.data()) == 1) found.v6 = six;
  }
  return found;
}

Plan Plan::beside(const NameServers& servers) {
  Plan plan;
  if (servers.v4 && std::equal(plan.network.begin(), plan.network.begin() + 3, servers.v4->begin())) {
    for (Address4* address : {&plan.network, &plan.host, &plan.names, &plan.guest}) (*address)[2] = 3;
  }
  if (servers.v6 && std::equal(plan.prefix6.begin(), plan.prefix6.begin() + 8, servers.v6->begin())) {
    for (Address6* address : {&plan.prefix6, &plan.host6, &plan.names6}) (*address)[7] = 3;
  }
  return plan;
}

Names::Ports& Names::ports(const Packet& packet) {
  return ports_[(packet.v6 ? 2 : 0) + (packet.protocol == kTcp ? 1 : 0)];
}

Names::Fate Names::from_guest(std::span<u8> frame) {
  if (frame.size() < kEthernetBytes + 20) {
    return frame.size() < kEthernetBytes ? Fate::Drop : Fate::Pass;
  }
  const u8* ip = frame.data() + kEthernetBytes;
  const u16 type = load16(frame.data() + 12);
  bool to_names = false;
  if (type == 0x0800) {
    // 127.0.0.0/8 and 0.0.0.0/8 are this host to its sockets; the guest's name for it is plan_.host.
    if (ip[16] == 127 || ip[16] == 0) return Fate::Drop;
    to_names = std::memcmp(ip + 16, plan_.names.data(), 4) == 0;
    if (to_names && ip[9] == kIcmp) return Fate::Pass;  // the translation answers for it
  } else if (type == 0x86dd) {
    if (frame.size() < kEthernetBytes + kIp6Bytes) return Fate::Drop;
    // ::/64 has the loopback address and IPv4 addresses in IPv6's clothes.
    constexpr u8 kZeros[8] = {};
    if (std::memcmp(ip + 24, kZeros, sizeof kZeros) == 0) return Fate::Drop;
    to_names = std::memcmp(ip + 24, plan_.names6.data(), 16) == 0;
    if (to_names && ip[6] == kIcmp6) return Fate::Pass;
  } else {
    return Fate::Pass;
  }
  const auto packet = Packet::find(frame);
  if (!to_names) {
    if (packet) ports(*packet).reset(packet->source_port());
    return Fate::Pass;
  }
  if (!packet || packet->target_port() != kNamePort) return Fate::Drop;
  const bool reachable = packet->v6 ? servers_.v6.has_value() : servers_.v4.has_value();
  if (packet->protocol == kUdp && answer_question(*packet, reachable)) return Fate::Answer;
  if (!reachable) return Fate::Drop;
  return packet->v6 ? forward(*packet, *servers_.v6) : forward(*packet, *servers_.v4);
}

Names::Fate Names::forward(const Packet& packet, std::span<const u8> server) {
  packet.replace(packet.target(), server);
  ports(packet).set(packet.source_port());
  return Fate::Pass;
}

void Names::to_guest(std::span<u8> frame) {
  const auto packet = Packet::find(frame);
  if (!packet || packet->source_port() != kNamePort || !ports(*packet).test(packet->target_port())) return;
  const auto is = [&](std::span<const u8> server) { return std::ranges::equal(packet->source(), server); };
  if (packet->v6 && servers_.v6 && is(*servers_.v6)) packet->replace(packet->source(), plan_.names6);
  if (!packet->v6 && servers_.v4 && is(*servers_.v4)) packet->replace(packet->source(), plan_.names);
}

// One question, as resolvers ask it, for a name that is ours, or for any where there is no server to ask.
bool Names::answer_question(const Packet& packet, bool reachable) {
  const std::span<const u8> message = packet.frame.subspan(packet.transport + kUdpBytes);
  if (message.size() < kDnsBytes || (message[2] & 0xf8) != 0 || load16(&message[4]) != 1) return false;
  std::string name;
  usize at = kDnsBytes;
  while (at < message.size() && message[at] != 0) {
    const usize length = message[at];
    if (length > 63 || at + 1 + length >= message.size() || at + length > kDnsBytes + 254) return false;
    if (!name.empty()) name += '.';
    for (usize i = 1; i <= length; ++i) name += lower(message[at + i]);
    at += 1 + length;
  }
  if (at + 5 > message.size()) return false;
  const u16 type = load16(&message[at + 1]), kind = load16(&message[at + 3]);
  const usize question_end = at + 5;
  const std::string suffix = "." + std::string(kDomain);
  const bool ours = name == kDomain || name.ends_with(suffix);
  if (!ours && reachable) return false;

  constexpr u8 kNoName = 3, kServerFailure = 2;
  const usize start = packet.transport + kUdpBytes;
  const bool host = name == "host" + suffix;
  std::copy_n(packet.frame.begin(), start, answer_.begin());
  u8* reply = answer_.data() + start;
  std::copy_n(message.begin(), question_end, reply);
  reply[2] = static_cast<u8>(0x84 | (message[2] & 1));  // an authoritative answer
  reply[3] = static_cast<u8>(0x80 | (!ours ? kServerFailure : host || name == kDomain ? 0 : kNoName));
  for (usize i = 6; i < kDnsBytes; ++i) reply[i] = 0;
  usize bytes = question_end;
  if (host && kind == kClassInternet && (type == kTypeA || type == kTypeAaaa)) {
    const std::span<const u8> address =
        type == kTypeA ? std::span<const u8>(plan_.host) : std::span<const u8>(plan_.host6);
    reply[7] = 1;
    // The name by reference to the question, type, class, an hour to live, the address.
    const u8 record[] = {0xc0, kDnsBytes, 0, static_cast<u8>(type), 0, kClassInternet, 0, 0, 0x0e, 0x10, 0};
    std::copy(std::begin(record), std::end(record), reply + bytes);
    bytes += sizeof record;
    reply[bytes++] = static_cast<u8>(address.size());
    std::copy(address.begin(), address.end(), reply + bytes);
    bytes += address.size();
  }
  finish_answer(packet, bytes);
  return true;
}

// The headers of the question, turned round. Options of IPv4 come back as they were.
void Names::finish_answer(const Packet& packet, usize message_bytes) {
  answer_bytes_ = packet.transport + kUdpBytes + message_bytes;
  u8* const frame = answer_.data();
  u8* const ip = frame + kEthernetBytes;
  std::swap_ranges(frame, frame + 6, frame + 6);
  const usize addresses = packet.v6 ? 8 : 12, size = packet.v6 ? 16 : 4;
  std::swap_ranges(ip + addresses, ip + addresses + size, ip + addresses + size);
  u8* const udp = frame + packet.transport;
  std::swap_ranges(udp, udp + 2, udp + 2);
  store16(udp + 4, static_cast<u32>(kUdpBytes + message_bytes));
  store16(udp + 6, 0);
  const u16 sum = transport_checksum({ip + addresses, 2 * size}, kUdp, {udp, kUdpBytes + message_bytes});
  store16(udp + 6, sum);
  if (packet.v6) {
    store16(ip + 4, static_cast<u32>(kUdpBytes + message_bytes));
  } else {
    ip[8] = 64;
    store16(ip + 2, static_cast<u32>(answer_bytes_ - kEthernetBytes));
    store16(ip + 10, 0);
    store16(ip + 10, static_cast<u16>(~ones_sum({ip, packet.transport - kEthernetBytes})));
  }
}

}  // namespace nacre::net
