#include "vsock/hub.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "host/error.hpp"

namespace nacre::vsock {
namespace {

using Stage = Connection::Stage;
using Tell = Connection::Tell;

constexpr usize kMostResets = 256;
constexpr u32 kFirstHostPort = 1u << 30, kLastHostPort = (1u << 31) - 1;
constexpr u32 kEdges = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
// Names of descriptors in epoll; a connection's is its generation and its slot.
constexpr u64 kListenerName = ~u64{0}, kConnectorName = ~u64{0} - 1;

constexpr u64 name_of(const Connection& connection) {
  return u64{connection.generation} << 32 | connection.slot;
}
constexpr u64 ports_of(u32 host, u32 guest) {
  return u64{host} << 32 | guest;
}

}  // namespace

Hub::Hub(host::UniqueFd poll, host::UniqueFd listener, std::unique_ptr<Connector> connector)
    : poll_(std::move(poll)),
      listener_(std::move(listener)),
      connector_(std::move(connector)),
      slots_(kMostConnections) {}

Result<std::unique_ptr<Hub>> Hub::create(host::UniqueFd listener, std::unique_ptr<Connector> connector) {
  host::UniqueFd poll(epoll_create1(EPOLL_CLOEXEC));
  if (!poll) return host::errno_error("Cannot watch sockets");
  std::unique_ptr<Hub> hub(new Hub(std::move(poll), std::move(listener), std::move(connector)));
  if (hub->listener_) TRY(hub->watch(hub->listener_.number(), kListenerName, EPOLLIN | EPOLLET));
  if (hub->connector_->descriptor() >= 0)
    TRY(hub->watch(hub->connector_->descriptor(), kConnectorName, EPOLLIN | EPOLLET));
  return hub;
}

Status Hub::watch(int file, u64 name, u32 events) {
  epoll_event event = {};
  event.events = events;
  event.data.u64 = name;
  if (epoll_ctl(poll_.number(), EPOLL_CTL_ADD, file, &event) != 0)
    return host::errno_error("Cannot watch a socket");
  return {};
}

// --- connections ---

Connection* Hub::make() {
  const auto free = std::find(slots_.begin(), slots_.end(), nullptr);
  if (free == slots_.end()) return nullptr;
  *free =
      std::make_unique<Connection>(static_cast<u32>(free - slots_.begin()), next_generation_++ & 0x7fff'ffff);
  ++count_;
  return free->get();
}

Connection* Hub::find(u32 host_port, u32 guest_port) {
  const auto found = by_ports_.find(ports_of(host_port, guest_port));
  return found == by_ports_.end() ? nullptr : found->second;
}

bool Hub::name(Connection& connection, u32 host_port, u32 guest_port) {
  connection.host_port = host_port;
  connection.guest_port = guest_port;
  return by_ports_.emplace(ports_of(host_port, guest_port), &connection).second;
}

void Hub::end_for_guest(Connection& connection) {
  const auto found = by_ports_.find(ports_of(connection.host_port, connection.guest_port));
  if (found != by_ports_.end() && found->second == &connection) by_ports_.erase(found);
  if (connection.queued) std::erase(ready_, &connection);
  connection.queued = false;
  connection.to_tell = 0;
}

void Hub::remove(Connection& connection) {
  end_for_guest(connection);
  if (connection.stage == Stage::Connecting)
    std::replace(asking_.begin(), asking_.end(), &connection, static_cast<Connection*>(nullptr));
  --count_;
  slots_[connection.slot].reset();
}

void Hub::refuse(u32 host_port, u32 guest_port) {
  resets_.emplace_back(host_port, guest_port);
}

void Hub::settle(Connection& connection) {
  if (connection.descriptor() >= 0 && connection.stage >= Stage::Open) connection.flush();
  if (connection.stage == Stage::Lingering) {
    if (connection.waiting() == 0) remove(connection);
    return;
  }
  if (connection.stage == Stage::Open && connection.is_over()) {  // 5.10.6.5: a reset confirms it
    refuse(connection.host_port, connection.guest_port);
    return remove(connection);
  }
  if (!connection.queued && connection.has_packet()) {
    connection.queued = true;
    ready_.push_back(&connection);
  }
}

void Hub::reset() {
  for (auto& slot : slots_) slot.reset();
  count_ = 0;
  by_ports_.clear();
  ready_.clear();
  std::fill(asking_.begin(), asking_.end(), nullptr);
  resets_.clear();
}

// --- from the guest ---

bool Hub::send(const PacketHeader& header, const virtio::Segment* pieces, unsigned count) {
  // Every packet may need a reset for an answer; those that the guest does not fetch must not heap up.
  if (resets_.size() >= kMostResets) return false;
  Connection* connection = find(header.target_port, header.source_port);
  const auto operation = static_cast<Operation>(header.operation);
  if (connection != nullptr) {
    connection->credit(header.buffer_bytes, header.forwarded);
    deliver(*connection, header, pieces, count);
  } else if (operation == Operation::Request) {
    open(header);
  } else if (operation != Operation::Reset) {
    refuse(header.target_port, header.source_port);
  }
  return true;
}

void Hub::open(const PacketHeader& header) {
  Connection* connection = make();
  if (connection == nullptr) return refuse(header.target_port, header.source_port);
  connection->stage = Stage::Connecting;
  name(*connection, header.target_port, header.source_port);
  connection->credit(header.buffer_bytes, header.forwarded);
  if (connector_->ask(header.target_port)) return asking_.push_back(connection);
  refuse(header.target_port, header.source_port);
  remove(*connection);
}

void Hub::deliver(Connection& connection, const PacketHeader& header, const virtio::Segment* pieces,
                  unsigned count) {
  bool fine = true;
  switch (static_cast<Operation>(header.operation)) {
    case Operation::Response:
      fine = connection.stage == Stage::Requested && respond(connection);
      break;
    case Operation::Reset:
      // After its Shutdown this is only the end of a wait for ours; what it sent before is not lost.
      if (connection.stage == Stage::Open && connection.guest_sends_no_more() && connection.waiting() != 0) {
        end_for_guest(connection);
        connection.stage = Stage::Lingering;
        return;
      }
      return remove(connection);
    case Operation::Shutdown:
      fine = connection.stage == Stage::Open;
      if (fine) connection.guest_closes(header.flags);
      break;
    case Operation::ReadWrite:
      fine = connection.stage == Stage::Open && connection.take(pieces, count, header.bytes);
      break;
    case Operation::CreditUpdate:
      break;
    case Operation::CreditRequest:
      connection.to_tell |= Tell::credit;
      break;
    default:
      fine = false;
      break;
  }
  if (fine) return settle(connection);
  refuse(header.target_port, header.source_port);
  remove(connection);
}

bool Hub::respond(Connection& connection) {
  connection.stage = Stage::Open;
  return connection.welcome();
}

// --- to the guest ---

bool Hub::receive(PacketHeader& header, u8* to, u32 most) {
  if (!resets_.empty()) {
    header.source_port = resets_.front().first;
    header.target_port = resets_.front().second;
    header.operation = static_cast<u16>(Operation::Reset);
    resets_.pop_front();
    return true;
  }
  while (!ready_.empty()) {
    Connection& connection = *ready_.front();
    ready_.pop_front();
    connection.queued = false;
    const bool found = next_of(connection, header, to, most);
    if (found) {
      header.source_port = connection.host_port;
      header.target_port = connection.guest_port;
      header.buffer_bytes = kWindow;
      header.forwarded = connection.tell_forwarded();
    }
    settle(connection);
    if (found) return true;
  }
  accept_all();  // some may have ended since the last look
  return false;
}

bool Hub::next_of(Connection& connection, PacketHeader& header, u8* to, u32 most) {
  const auto told = [&](u8 what, Operation operation) {
    if ((connection.to_tell & what) == 0) return false;
    connection.to_tell = static_cast<u8>(connection.to_tell & ~what);
    header.operation = static_cast<u16>(operation);
    return true;
  };
  if (told(Tell::request, Operation::Request) || told(Tell::response, Operation::Response)) return true;
  header.bytes = connection.read(to, most);
  if (header.bytes != 0) {
    header.operation = static_cast<u16>(Operation::ReadWrite);
    // It says what a CreditUpdate would.
    connection.to_tell = static_cast<u8>(connection.to_tell & ~Tell::credit);
    return true;
  }
  // Behind the last byte.
  header.flags = connection.host_closed();
  if (told(Tell::shutdown, Operation::Shutdown)) return true;
  header.flags = 0;
  return told(Tell::credit, Operation::CreditUpdate) || told(Tell::ask_credit, Operation::CreditRequest);
}

// --- from the host ---

void Hub::dispatch() {
  epoll_event events[64];
  for (unsigned round = 0; round < 8; ++round) {
    const int found = epoll_wait(poll_.number(), events, std::size(events), 0);
    for (int i = 0; i < found; ++i) {
      const u64 name = events[i].data.u64;
      if (name == kListenerName) {
        waiting_outside_ = true;
      } else if (name == kConnectorName) {
        take_answers();
      } else {
        // One that has been removed since is not there any more, or is another.
        Connection* connection = slots_[static_cast<u32>(name)].get();
        if (connection != nullptr && name_of(*connection) == name) happened(*connection, events[i].events);
      }
    }
    if (found < static_cast<int>(std::size(events))) break;
  }
  accept_all();
}

void Hub::accept_all() {
  while (waiting_outside_ && listener_ && count_ < kMostConnections && resets_.size() < kMostResets) {
    host::UniqueFd socket(accept4(listener_.number(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket && (errno == EINTR || errno == ECONNABORTED)) continue;
    if (!socket) {
      // Without descriptors it is tried again when something has happened.
      waiting_outside_ = errno != EAGAIN;
      return;
    }
    adopt(std::move(socket));
  }
}

bool Hub::adopt(host::UniqueFd socket) {
  Connection* connection = make();
  if (connection == nullptr) return false;
  connection->attach(std::move(socket));
  if (!watch(connection->descriptor(), name_of(*connection), kEdges)) {
    remove(*connection);
    return false;
  }
  return true;
}

void Hub::take_answers() {
  host::UniqueFd socket;
  while (!asking_.empty() && connector_->answer(socket)) {
    Connection* connection = asking_.front();
    asking_.pop_front();
    if (connection == nullptr) continue;
    connection->stage = Stage::Open;
    const bool connected = static_cast<bool>(socket);
    connection->attach(std::move(socket));
    if (!connected || !watch(connection->descriptor(), name_of(*connection), kEdges)) {
      refuse(connection->host_port, connection->guest_port);
      remove(*connection);
      continue;
    }
    connection->to_tell |= Tell::response;
    settle(*connection);
  }
}

void Hub::happened(Connection& connection, u32 events) {
  connection.happened(events);
  switch (connection.stage) {
    case Stage::Greeting:
      return greet(connection);
    case Stage::Requested:
      // Who has gone away before the guest has answered wants no connection any more.
      if ((events & (EPOLLHUP | EPOLLERR)) == 0) return;
      refuse(connection.host_port, connection.guest_port);
      return remove(connection);
    default:
      return settle(connection);
  }
}

void Hub::greet(Connection& connection) {
  switch (connection.greet()) {
    case Connection::Greeted::Partial:
      return;
    case Connection::Greeted::Bad:
      return remove(connection);
    case Connection::Greeted::Port:
      break;
  }
  connection.stage = Stage::Requested;
  name(connection, free_host_port(connection.guest_port), connection.guest_port);
  connection.to_tell |= Tell::request;
  settle(connection);
}

u32 Hub::free_host_port(u32 guest_port) {
  for (;;) {  // fewer connections than ports
    const u32 port = next_host_port_;
    next_host_port_ = port == kLastHostPort ? kFirstHostPort : port + 1;
    if (find(port, guest_port) == nullptr) return port;
  }
}

}  // namespace nacre::vsock
