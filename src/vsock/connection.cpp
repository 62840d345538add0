#include "vsock/connection.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace nacre::vsock {
namespace {

constexpr usize kParts = 64;  // pieces written at once

}  // namespace

void Connection::happened(u32 events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0) writable_ = true;
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) hung_up_ = true;
  if (hung_up_ && read_ended_) host_closes(Closed::both);
  ask_credit_if_stuck();
}

// A byte at a time: what follows the line is the guest's. "CONNECT <port>\n" is the convention of
// Firecracker.
Connection::Greeted Connection::greet() {
  for (;;) {
    char byte;
    const ssize_t got = ::read(descriptor(), &byte, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) return Greeted::Partial;
    if (got != 1 || line_length_ == sizeof line_ - 1) return Greeted::Bad;
    if (byte == '\n') break;
    line_[line_length_++] = byte;
  }
  readable_ = true;  // there may be more behind it, of which no event will tell
  constexpr std::string_view kWord = "CONNECT ";
  const std::string_view line(line_, line_length_);
  if (!line.starts_with(kWord) || line.size() == kWord.size() || line.size() > kWord.size() + 10)
    return Greeted::Bad;
  u64 port = 0;
  for (const char digit : line.substr(kWord.size())) {
    if (digit < '0' || digit > '9') return Greeted::Bad;
    port = port * 10 + static_cast<u64>(digit - '0');
  }
  if (port >= 0xffff'ffff) return Greeted::Bad;  // VMADDR_PORT_ANY is no port
  guest_port = static_cast<u32>(port);
  return Greeted::Port;
}

bool Connection::welcome() {
  char text[24];
  const int length = snprintf(text, sizeof text, "OK %u\n", host_port);
  // The first bytes of an empty socket: they fit.
  return send(descriptor(), text, static_cast<usize>(length), MSG_NOSIGNAL) == length;
}

u64 Connection::write(const iovec* parts, usize count) {
  if (!writable_ || write_failed_) return 0;
  msghdr message = {};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = count;
  for (;;) {
    const ssize_t sent = sendmsg(descriptor(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return static_cast<u64>(sent);
    if (errno == EINTR) continue;
    if (errno == EAGAIN) {
      writable_ = false;
      return 0;
    }
    write_failed_ = true;
    return 0;
  }
}

// 5.10.6.3: the guest hears of room when it might otherwise have to wait for it.
void Connection::forwarded(u64 bytes) {
  forwarded_ += static_cast<u32>(bytes);
  if (received_ - told_ >= kWindow / 2 && forwarded_ != told_) to_tell |= Tell::credit;
}

void Connection::host_closes(u32 flags) {
  if ((host_closed_ & flags) == flags) return;
  host_closed_ |= flags;
  to_tell |= Tell::shutdown;
}

// The program has gone or wants no more: what waits for it is lost, as with any socket.
void Connection::end_writing() {
  forwarded(waiting());
  waiting_.clear();
  written_ = 0;
  host_closes(Closed::receive);
}

bool Connection::take(const virtio::Segment* pieces, unsigned count, u32 bytes) {
  if (guest_sends_no_more() || bytes > kWindow - (received_ - forwarded_)) return false;
  received_ += bytes;
  if (waiting() == 0) {
    waiting_.clear();
    written_ = 0;
  }
  for (unsigned first = 0; first < count; first += kParts) {
    iovec parts[kParts];
    usize n = 0;
    u64 total = 0;
    for (unsigned i = first; i < count && n < kParts; ++i, ++n) {
      parts[n] = {pieces[i].host, pieces[i].bytes};
      total += pieces[i].bytes;
    }
    u64 done = waiting() == 0 ? write(parts, n) : 0;
    forwarded(done);
    if (done == total) continue;
    if (waiting_.capacity() < kWindow) waiting_.reserve(kWindow);
    for (usize i = 0; i < n; ++i) {
      const u64 skipped = done < parts[i].iov_len ? done : parts[i].iov_len;
      done -= skipped;
      const u8* from = static_cast<const u8*>(parts[i].iov_base);
      waiting_.insert(waiting_.end(), from + skipped, from + parts[i].iov_len);
    }
  }
  if (write_failed_) end_writing();
  return true;
}

void Connection::flush() {
  while (waiting() != 0 && writable_ && !write_failed_) {
    const iovec part = {waiting_.data() + written_, waiting()};
    const u64 done = write(&part, 1);
    written_ += done;
    forwarded(done);
  }
  if (write_failed_) end_writing();
  if (waiting() == 0) {
    std::vector<u8>().swap(waiting_);
    written_ = 0;
    if (guest_sends_no_more() && !write_ended_) {
      write_ended_ = true;
      shutdown(descriptor(), SHUT_WR);
    }
  } else if (written_ >= kWindow / 2) {
    waiting_.erase(waiting_.begin(), waiting_.begin() + static_cast<std::ptrdiff_t>(written_));
    written_ = 0;
  }
}

void Connection::guest_closes(u32 flags) {
  const u32 added = flags & Closed::both & ~guest_closed_;
  guest_closed_ |= added;
  if ((added & Closed::receive) != 0 && descriptor() >= 0) shutdown(descriptor(), SHUT_RD);
}

void Connection::ask_credit_if_stuck() {
  if (!can_read() || guest_credit() != 0 || asked_credit_) return;
  asked_credit_ = true;
  to_tell |= Tell::ask_credit;
}

u32 Connection::read(u8* to, u32 most) {
  while (can_read() && guest_credit() != 0) {
    asked_credit_ = false;
    const u32 room = guest_credit();
    const ssize_t got = ::read(descriptor(), to, most < room ? most : room);
    if (got > 0) {
      sent_ += static_cast<u32>(got);
      ask_credit_if_stuck();
      return static_cast<u32>(got);
    }
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      readable_ = false;
      return 0;
    }
    read_ended_ = true;
    host_closes(got < 0 || hung_up_ ? Closed::both : Closed::send);
  }
  return 0;
}

}  // namespace nacre::vsock
