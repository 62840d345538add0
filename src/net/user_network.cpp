#include "net/user_network.hpp"

#include <arpa/inet.h>
#include <slirp/libslirp.h>
#include <time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "host/fd.hpp"
#include "host/file_bytes.hpp"
#include "net/frame.hpp"

namespace nacre::net {
namespace {

constexpr const char* kResolverFile = "/etc/resolv.conf";
constexpr u64 kMostResolverBytes = 1 << 20;
constexpr usize kSpareDescriptors = 16;  // those that are accepted in one turn with the last one allowed

i64 now_ns() {
  timespec time = {};
  clock_gettime(CLOCK_MONOTONIC, &time);
  return i64{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

in_addr address_of(const Address4& bytes) {
  in_addr address = {};
  std::memcpy(&address, bytes.data(), bytes.size());
  return address;
}

in6_addr address_of(const Address6& bytes) {
  in6_addr address = {};
  std::memcpy(&address, bytes.data(), bytes.size());
  return address;
}

NameServers host_name_servers() {
  // Without the file, the guest has a network without names.
  const auto file =
      host::FileBytes::read(kResolverFile, "resolver's configuration", kMostResolverBytes, "its limit", "");
  if (!file) return {};
  const std::span<const u8> bytes = file.value().bytes();
  return NameServers::parse({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
}

}  // namespace

struct UserNetwork::Calls {
  static UserNetwork& self(void* opaque) { return *static_cast<UserNetwork*>(opaque); }

  static ssize_t send_packet(const void* bytes, size_t length, void* opaque) {
    // libslirp's own buffer: not const, and not looked at again.
    self(opaque).put({static_cast<u8*>(const_cast<void*>(bytes)), length});
    return static_cast<ssize_t>(length);
  }
  static void guest_error(const char*, void*) {}  // guests err as they like
  static int64_t clock(void*) { return now_ns(); }
  static void* timer_new(SlirpTimerId, void* argument, void* opaque) {
    self(opaque).timer_argument_ = argument;
    return opaque;
  }
  static void timer_free(void*, void* opaque) { self(opaque).timer_ = kNoTimer; }
  static void timer_mod(void*, int64_t expires, void* opaque) { self(opaque).timer_ = expires; }
  // What to wait for is asked before each poll; here they are counted.
  static void opened(int socket, void* opaque) { self(opaque).limit_.opened(socket); }
  static void closed(int socket, void* opaque) { self(opaque).limit_.closed(socket); }
  static void notify(void*) {}        // one thread: it is here

  static constexpr SlirpCb kTable = {.send_packet = send_packet,
                                     .guest_error = guest_error,
                                     .clock_get_ns = clock,
                                     .timer_new = nullptr,
                                     .timer_free = timer_free,
                                     .timer_mod = timer_mod,
                                     .register_poll_fd = opened,
                                     .unregister_poll_fd = closed,
                                     .notify = notify,
                                     .init_completed = nullptr,
                                     .timer_new_opaque = timer_new};

  static constexpr struct {
    int slirp;
    short poll;
  } kEvents[] = {{SLIRP_POLL_IN, POLLIN},
                 {SLIRP_POLL_OUT, POLLOUT},
                 {SLIRP_POLL_PRI, POLLPRI},
                 {SLIRP_POLL_ERR, POLLERR},
                 {SLIRP_POLL_HUP, POLLHUP}};

  struct Waiting {
    std::vector<pollfd>& descriptors;
    usize first;  // of ours among them
    const SocketLimit& limit;
  };
  static bool listens(int socket) {
    int answer = 0;
    socklen_t bytes = sizeof answer;
    return getsockopt(socket, SOL_SOCKET, SO_ACCEPTCONN, &answer, &bytes) == 0 && answer != 0;
  }
  static int add_poll(int descriptor, int events, void* opaque) {
    auto& waiting = *static_cast<Waiting*>(opaque);
    // Who comes to a published port waits outside while there are too many.
    if (waiting.limit.full() && !waiting.limit.is_flow(descriptor) && listens(descriptor)) return -1;
    pollfd entry = {descriptor, 0, 0};
    for (const auto& event : kEvents) {
      if ((events & event.slirp) != 0) entry.events = static_cast<short>(entry.events | event.poll);
    }
    waiting.descriptors.push_back(entry);
    return static_cast<int>(waiting.descriptors.size() - 1 - waiting.first);
  }
  static int revents(int index, void* opaque) {
    const auto& happened = self(opaque).happened_;
    if (index < 0 || static_cast<usize>(index) >= happened.size()) return 0;
    int events = 0;
    for (const auto& event : kEvents) {
      if ((happened[static_cast<usize>(index)].revents & event.poll) != 0) events |= event.slirp;
    }
    return events;
  }
};

Result<std::unique_ptr<UserNetwork>> UserNetwork::create(const UserOptions& options) {
  const NameServers servers = host_name_servers();
  std::unique_ptr<UserNetwork> network(new UserNetwork(Plan::beside(servers), servers));
  if (auto status = network->start(options); !status) return status.error();
  return network;
}

Plan UserNetwork::plan() {
  return Plan::beside(host_name_servers());
}

UserNetwork::~UserNetwork() {
  if (slirp_ != nullptr) slirp_cleanup(slirp_);
}

Status UserNetwork::start(const UserOptions& options) {
  // They come on top of what the process may have open, so that nobody else's are taken.
  const usize spare = kSpareDescriptors + options.publish.size();
  const usize allowed = host::reserve_descriptors(options.most_sockets + spare);
  limit_.set(std::min(options.most_sockets, allowed > 2 * spare ? allowed - spare : allowed / 2));
  const std::string domain(Names::kDomain);
  const char* search[] = {domain.c_str(), nullptr};
  SlirpConfig config = {};
  config.version = 4;
  config.in_enabled = true;
  config.vnetwork = address_of(plan_.network);
  config.vnetmask = address_of(Address4{255, 255, 255, 0});
  config.vhost = address_of(plan_.host);
  config.vdhcp_start = address_of(plan_.guest);
  config.vnameserver = address_of(plan_.names);
  config.in6_enabled = true;
  config.vprefix_addr6 = address_of(plan_.prefix6);
  config.vprefix_len = 64;
  config.vhost6 = address_of(plan_.host6);
  config.vnameserver6 = address_of(plan_.names6);
  config.vhostname = options.hostname.c_str();
  config.vdnssearch = search;
  config.vdomainname = domain.c_str();
  config.if_mtu = options.mtu;
  config.if_mru = options.mtu;
  config.disable_host_loopback = !options.host_reachable;
  slirp_ = slirp_new(&config, &Calls::kTable, this);
  if (slirp_ == nullptr) return Error{"Cannot make a user network: libslirp refused its settings."};
  for (const Publish& port : options.publish) TRY(publish(port));
  return {};
}

Status UserNetwork::publish(const Publish& port) {
  const in_addr address = address_of(port.address);
  if (slirp_add_hostfwd(slirp_, port.udp ? 1 : 0, address, port.host, address_of(plan_.guest), port.guest) ==
      0)
    return {};
  char text[INET_ADDRSTRLEN] = {};
  inet_ntop(AF_INET, &address, text, sizeof text);
  const int why = errno;
  return Error("Cannot publish ")
      .append(port.udp ? "UDP" : "TCP")
      .append(" port ")
      .append_number(port.host)
      .append(" of ")
      .append(text)
      .append(why == EADDRINUSE ? ": another program has it; take another, as in publish=8081:80."
              : why == EACCES   ? ": ports below 1024 are for root; take a higher one, as in publish=8080:80."
              : why == EADDRNOTAVAIL ? ": this machine does not have that address."
                                     : ": the system refused it.");
}

bool UserNetwork::send(const virtio::net::Header& header, const virtio::Segment* pieces, unsigned count, unsigned) {
  const std::span<u8> frame = {frame_, gather(pieces, count, frame_)};
  // Large packets of IPv4 go on as they are: libslirp takes them. Of IPv6 it takes none longer than the MTU.
  if ((header.gso_type & ~Header::ecn) != Header::tcp6) {
    if (finish_checksum(header, frame)) send_frame(frame);
  } else if (segmenter_.start(header, frame)) {
    while (const usize bytes = segmenter_.next(segment_)) send_frame({segment_, bytes});
  }
  return true;
}

void UserNetwork::send_frame(std::span<u8> frame) {
  switch (names_.from_guest(frame)) {
    case Names::Fate::Pass:
      send_allowed(frame);
      break;
    case Names::Fate::Answer:
      queue_.put(names_.answer());
      break;
    case Names::Fate::Drop:
      break;
  }
}

void UserNetwork::send_allowed(std::span<u8> frame) {
  switch (limit_.from_guest(frame)) {
    case SocketLimit::Fate::Pass:
      slirp_input(slirp_, frame.data(), static_cast<int>(frame.size()));
      limit_.done();
      break;
    case SocketLimit::Fate::Answer:
      queue_.put(limit_.answer());
      break;
    case SocketLimit::Fate::Drop:
      break;
  }
}

void UserNetwork::put(std::span<u8> frame) {
  if (frame.size() > virtio::net::kMostPacket) return;
  names_.to_guest(frame);
  queue_.put(frame);
}

usize UserNetwork::receive(u8* to, virtio::net::Header& header, unsigned&) {
  if (queue_.empty()) return 0;
  const std::span<const u8> frame = queue_.front();
  std::copy(frame.begin(), frame.end(), to);
  joiner_.start(to, frame.size(), offloads_);
  queue_.pop();
  while (!queue_.empty() && joiner_.append(queue_.front())) queue_.pop();
  // It was made in this process: the guest need not look for damage on the wire.
  if (offloads_.csum) header.flags = virtio::net::Header::data_valid;
  return joiner_.finish(header);
}

int UserNetwork::wait_for(std::vector<pollfd>& descriptors) {
  // A guest that takes nothing is sent nothing more.
  asked_ = kQueueBytes - queue_.used() > kEnough;
  if (!asked_) return -1;
  u32 timeout = UINT32_MAX;
  Calls::Waiting waiting = {descriptors, descriptors.size(), limit_};
  slirp_pollfds_fill(slirp_, &timeout, Calls::add_poll, &waiting);
  if (timer_ != kNoTimer) {
    const i64 left = std::clamp<i64>(timer_ - now_ns() / 1'000'000, 0, INT32_MAX);
    timeout = std::min(timeout, static_cast<u32>(left));
  }
  return timeout > INT32_MAX ? -1 : static_cast<int>(timeout);
}

void UserNetwork::happened(std::span<const pollfd> descriptors) {
  if (!asked_) return;
  happened_ = descriptors;
  slirp_pollfds_poll(slirp_, 0, Calls::revents, this);
  happened_ = {};
  if (timer_ != kNoTimer && now_ns() / 1'000'000 >= timer_) {
    timer_ = kNoTimer;
    slirp_handle_timer(slirp_, SLIRP_TIMER_RA, timer_argument_);
  }
}

}  // namespace nacre::net
