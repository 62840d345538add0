#include "net/cable.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>
#include <string_view>

#include "host/error.hpp"

namespace nacre::net {
namespace {

// A few large packets; the kernel gives less where its limit is lower.
constexpr int kBufferBytes = 1 << 20;

enum class Written : u8 { Yes, Full, Gone };

Written write_message(int socket, const u8* from, usize bytes) {
  for (;;) {
    if (write(socket, from, bytes) >= 0) return Written::Yes;
    if (errno == EINTR) continue;
    return errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM ? Written::Full : Written::Gone;
  }
}

}  // namespace

Result<std::pair<host::UniqueFd, host::UniqueFd>> make_cable() {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends) != 0)
    return host::errno_error("Cannot make a pair of sockets");
  for (const int end : ends) setsockopt(end, SOL_SOCKET, SO_SNDBUF, &kBufferBytes, sizeof kBufferBytes);
  return std::pair(host::UniqueFd(ends[0]), host::UniqueFd(ends[1]));
}

bool Cable::send(const Header& header, const virtio::Segment* pieces, unsigned count, unsigned) {
  if (over_ || hung_up_) return true;
  Header clean = header;
  clean.buffers = 0;
  std::memcpy(message_, &clean, sizeof clean);
  const usize bytes = sizeof clean + gather(pieces, count, message_ + sizeof clean);
  const Written written = write_message(socket_.number(), message_, bytes);
  full_ = written == Written::Full;
  return !full_;  // to nobody: lost, as on a cable that is not plugged in
}

usize Cable::receive(u8* to, Header& header, unsigned&) {
  while (!intake_.waiting()) {
    if (!readable_) return 0;
    Header got;
    const ssize_t bytes = read(socket_.number(), message_, sizeof message_);
    if (bytes < 0 && errno == EINTR) continue;
    if (bytes <= 0) {
      readable_ = false;
      if (bytes == 0 || (errno != EAGAIN && errno != ENOBUFS)) lost();
      return 0;
    }
    if (bytes < static_cast<ssize_t>(sizeof got + kEthernetBytes)) continue;
    std::memcpy(&got, message_, sizeof got);
    const usize length = static_cast<usize>(bytes) - sizeof got;
    std::memcpy(intake_.buffer(), message_ + sizeof got, length);
    intake_.accept(got, length, offloads_);
  }
  return intake_.next(to, header);
}

void Cable::lost() {
  if (std::exchange(over_, true)) return;
  constexpr std::string_view kWords =
      "nacre: The process of an attached network has ended; its card hears nothing any more.\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kWords.data(), kWords.size());
}

int Cable::wait_for(std::vector<pollfd>& descriptors) {
  // A hang-up is told of whether asked for or not. What is readable already waits for the guest's buffers.
  const int events = (readable_ ? 0 : POLLIN) | (full_ ? POLLOUT : 0);
  descriptors.push_back({over_ || hung_up_ ? -1 : socket_.number(), static_cast<short>(events), 0});
  return -1;
}

void Cable::happened(std::span<const pollfd> descriptors) {
  const short events = descriptors[0].revents;
  if ((events & (POLLHUP | POLLERR)) != 0) hung_up_ = true;
  if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) readable_ = true;
}

CableServer::CableServer(Port& port, host::UniqueFd socket) : port_(port), socket_(std::move(socket)) {
  // What the guest does not take of it is done at the machine's end.
  port_.set_offloads({.csum = true, .tso4 = true, .tso6 = true});
}

void CableServer::run() {
  while (turn(-1)) {
  }
}

bool CableServer::turn(int milliseconds) {
  if (!wait(milliseconds)) return false;
  more_ = false;
  from_machine();
  to_machine();
  return true;
}

bool CableServer::wait(int milliseconds) {
  entries_.clear();
  const int events = (coming_ == 0 ? POLLIN : 0) | (going_ != 0 ? POLLOUT : 0);
  entries_.push_back({socket_.number(), static_cast<short>(events), 0});
  const int wanted = port_.wait_for(entries_);
  if (wanted >= 0 && (milliseconds < 0 || wanted < milliseconds)) milliseconds = wanted;
  if (poll(entries_.data(), entries_.size(), more_ ? 0 : milliseconds) < 0) {
    for (pollfd& entry : entries_) entry.revents = 0;
  }
  port_.happened(std::span(entries_).subspan(1));
  return (entries_[0].revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
}

void CableServer::from_machine() {
  for (unsigned carried = 0;; ++carried) {
    if (carried == kBudget) {
      more_ = true;
      return;
    }
    if (coming_ == 0) {
      const ssize_t bytes = read(socket_.number(), in_, sizeof in_);
      if (bytes < 0 && errno == EINTR) continue;
      if (bytes <= 0) return;
      if (bytes < static_cast<ssize_t>(sizeof(Header) + kEthernetBytes)) continue;
      coming_ = static_cast<usize>(bytes) - sizeof(Header);
    }
    Header header;
    std::memcpy(&header, in_, sizeof header);
    const virtio::Segment frame = {in_ + sizeof header, 0, static_cast<u32>(coming_)};
    if (!port_.send(header, &frame, 1, 0)) return;
    coming_ = 0;
  }
}

void CableServer::to_machine() {
  for (unsigned carried = 0;; ++carried) {
    if (going_ == 0) {
      if (carried == kBudget) {
        more_ = true;
        return;
      }
      Header header;
      unsigned pair = virtio::net::Network::kAnyPair;
      const usize bytes = port_.receive(out_ + sizeof header, header, pair);
      if (bytes == 0) return;
      std::memcpy(out_, &header, sizeof header);
      going_ = sizeof header + bytes;
    }
    if (write_message(socket_.number(), out_, going_) == Written::Full) return;
    going_ = 0;
  }
}

}  // namespace nacre::net
