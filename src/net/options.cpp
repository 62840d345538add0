#include "net/options.hpp"

#include <arpa/inet.h>
#include <sys/random.h>

#include <charconv>
#include <string_view>

#include "net/capture.hpp"
#include "net/switch_port.hpp"
#include "net/tap.hpp"

namespace nacre::net {
namespace {

constexpr u16 kLeastMtu = 1280;  // RFC 8200, 5
constexpr u16 kMostMtu = 65520;

Error wrong(const char* what, std::string_view text, const char* advice) {
  return Error("--net does not understand ")
      .append(what)
      .append(" \"")
      .append(std::string(text).c_str())
      .append("\"; ")
      .append(advice);
}

template <typename T>
bool number(std::string_view text, T least, T most, T& value, int base = 10) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  return !text.empty() && error == std::errc() && end == text.data() + text.size() && value >= least &&
         value <= most;
}

// Cuts off what stands before the next `mark`.
std::string_view take(std::string_view& text, char mark) {
  const usize end = text.find(mark);
  const std::string_view part = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  return part;
}

// [ADDRESS:]HOST:GUEST[/udp|/tcp]
Result<Publish> parse_publish(std::string_view text) {
  constexpr const char* kAdvice =
      "it wants HOST:GUEST, as in publish=8080:80, publish=5353:53/udp or publish=0.0.0.0:8080:80.";
  std::string_view rest = text;
  std::string_view ports = take(rest, '/');
  Publish publish;
  publish.udp = rest == "udp";
  if (!rest.empty() && rest != "udp" && rest != "tcp") return wrong("publish", text, kAdvice);
  const usize last = ports.rfind(':');
  if (last == std::string_view::npos) return wrong("publish", text, kAdvice);
  const std::string_view guest = ports.substr(last + 1);
  std::string_view host = ports.substr(0, last);
  const usize colon = host.rfind(':');
  if (colon != std::string_view::npos) {
    const std::string address(host.substr(0, colon));
    if (inet_pton(AF_INET, address.c_str(), publish.address.data()) != 1)
      return wrong("publish", text, kAdvice);
    host = host.substr(colon + 1);
  }
  if (!number<u16>(host, 1, 65535, publish.host) || !number<u16>(guest, 1, 65535, publish.guest))
    return wrong("publish", text, kAdvice);
  return publish;
}

Result<Mac> parse_mac(std::string_view text) {
  constexpr const char* kAdvice = "it wants six bytes, the first of them even, as in mac=02:00:00:00:00:01.";
  Mac mac = {};
  std::string_view rest = text;
  for (u8& byte : mac) {
    const std::string_view part = take(rest, ':');
    if (part.size() != 2 || !number<u8>(part, 0, 255, byte, 16)) return wrong("mac", text, kAdvice);
  }
  if (!rest.empty() || text.ends_with(':') || (mac[0] & 1) != 0 || mac == Mac{})
    return wrong("mac", text, kAdvice);
  return mac;
}

bool is_hostname(std::string_view text) {
  if (text.empty() || text.size() > 32 || text.front() == '-' || text.back() == '-') return false;
  return text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-") ==
         std::string_view::npos;
}

Status apply(NetConfig& config, std::string_view name, std::string_view value) {
  const bool user = config.kind == NetConfig::Kind::User;
  if (name == "mac") {
    config.mac = TRY(parse_mac(value));
  } else if (name == "mtu") {
    u16 mtu = 0;
    if (!number<u16>(value, kLeastMtu, kMostMtu, mtu)) return wrong("mtu", value, "it wants 1280 to 65520.");
    config.mtu = mtu;
    config.user.mtu = mtu;
  } else if (name == "queues") {
    if (!number<unsigned>(value, 1, virtio::net::Net::kPairs, config.queues))
      return wrong("queues", value, "it wants 1 to 8: as many as the guest has processors.");
  } else if (name == "capture") {
    if (value.empty()) return wrong("capture", value, "it wants a file, as in capture=net.pcap.");
    config.capture = value;
  } else if (user && name == "publish") {
    config.user.publish.push_back(TRY(parse_publish(value)));
  } else if (user && name == "hostname") {
    if (!is_hostname(value))
      return wrong("hostname", value,
                   "it wants at most 32 letters, digits and hyphens, as in hostname=web-1.");
    config.user.hostname = value;
  } else if (user && name == "host") {
    if (value != "yes" && value != "no") return wrong("host", value, "it wants yes or no.");
    config.user.host_reachable = value == "yes";
  } else {
    return wrong("option", name,
                 user ? "a user network has publish, hostname, host, mac, mtu, queues and capture."
                      : "this kind of network has mac, mtu, queues and capture.");
  }
  return {};
}

}  // namespace

Result<NetConfig> parse(const std::string& text) {
  NetConfig config;
  std::string_view rest = text;
  std::string_view place = take(rest, ',');
  const bool has_place = place.find('=') != std::string_view::npos;
  const std::string_view kind = take(place, '=');
  config.place = place;
  if (kind == "tap" && has_place) {
    config.kind = NetConfig::Kind::Tap;
  } else if (kind == "switch" && has_place) {
    config.kind = NetConfig::Kind::Switch;
  } else if (kind != "user" || has_place) {
    return wrong("network", text,
                 "there are user (as in --net user,publish=8080:80), tap=NAME and switch=FOLDER.");
  }
  while (!rest.empty()) {
    std::string_view value = take(rest, ',');
    const std::string_view name = take(value, '=');
    if (auto status = apply(config, name, value); !status) return status.error();
  }
  return config;
}

Result<std::unique_ptr<Port>> open(const NetConfig& config) {
  std::unique_ptr<Port> port;
  switch (config.kind) {
    case NetConfig::Kind::User:
      port = TRY(UserNetwork::create(config.user));
      break;
    case NetConfig::Kind::Tap:
      port = TRY(Tap::create(config.place, config.queues));
      break;
    case NetConfig::Kind::Switch:
      port = TRY(SwitchPort::create(config.place));
      break;
  }
  if (config.capture.empty()) return port;
  return Capture::create(std::move(port), config.capture);
}

Mac mac_of(const NetConfig& config, unsigned index) {
  if (config.mac) return *config.mac;
  // Locally administered. A guest is alone in its user network; elsewhere two may not have the same.
  if (config.kind != NetConfig::Kind::User) {
    Mac mac;
    while (getrandom(mac.data(), mac.size(), 0) != static_cast<ssize_t>(mac.size())) {
    }
    mac[0] = 0x02;
    return mac;
  }
  return {0x02, 'n', 'a', 'c', 'r', static_cast<u8>(index + 1)};
}

u16 mtu_of(const NetConfig& config) {
  return config.kind == NetConfig::Kind::User ? config.user.mtu : config.mtu.value_or(0);
}

}  // namespace nacre::net
