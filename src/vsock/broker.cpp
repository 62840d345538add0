#include "vsock/broker.hpp"

#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstring>

#include "host/confine.hpp"
#include "host/error.hpp"

namespace nacre::vsock {
namespace {

// One message per answer: a byte, and the socket where there is one.
struct Answer {
  char byte = 0;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  iovec part = {&byte, 1};
  msghdr message = {};

  Answer() {
    message.msg_iov = &part;
    message.msg_iovlen = 1;
  }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;
};

bool send_answer(int channel, const host::UniqueFd& socket) {
  Answer answer;
  if (socket) {
    answer.message.msg_control = answer.control;
    answer.message.msg_controllen = sizeof answer.control;
    cmsghdr* header = CMSG_FIRSTHDR(&answer.message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    const int number = socket.number();
    std::memcpy(CMSG_DATA(header), &number, sizeof number);
  }
  ssize_t sent;
  do {
    sent = sendmsg(channel, &answer.message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == 1;
}

// Only what this process needs stays open; the machine's files and its standard streams are not for it.
void close_all_but(int& channel) {
  const int kept = 3;
  if (channel != kept) {
    dup2(channel, kept);
    channel = kept;
  }
  syscall(SYS_close_range, kept + 1, ~0U, 0);
  for (int standard = 0; standard < kept; ++standard) close(standard);
}

[[noreturn]] void serve(int channel, const std::string& path, dev_t device, ino_t inode) {
  // Signals to the machine's group (Ctrl-C) are the machine's, whose end is seen at the channel.
  setpgid(0, 0);
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  prctl(PR_SET_NAME, "nacre-vsock");
  close_all_but(channel);
  const bool confined = host::confine(host::ThreadRole::Broker).ok();
  const std::string prefix = path + "_";
  while (confined) {
    u32 port = 0;
    const ssize_t got = recv(channel, &port, sizeof port, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got != static_cast<ssize_t>(sizeof port)) break;
    auto socket = connect_to(prefix + std::to_string(port));
    if (!send_answer(channel, socket ? socket.take() : host::UniqueFd())) break;
  }
  // Not another's who has put his own there in the meantime.
  struct stat found = {};
  if (lstat(path.c_str(), &found) == 0 && found.st_dev == device && found.st_ino == inode)
    unlink(path.c_str());
  _exit(0);
}

}  // namespace

Result<std::unique_ptr<Broker>> Broker::start(const std::string& path, const Listener& listener) {
  int ends[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    const int error = errno;
    unlink(path.c_str());
    return host::error_with_number(error, "Cannot make a pair of sockets");
  }
  host::UniqueFd ours(ends[0]), theirs(ends[1]);
  const pid_t process = fork();
  if (process < 0) {
    const int error = errno;
    unlink(path.c_str());
    return host::error_with_number(error, "Cannot start a process");
  }
  if (process == 0) serve(theirs.number(), path, listener.device, listener.inode);
  const int flags = fcntl(ours.number(), F_GETFL);
  fcntl(ours.number(), F_SETFL, flags | O_NONBLOCK);
  return std::unique_ptr<Broker>(new Broker(std::move(ours), process));
}

Broker::~Broker() {
  channel_ = host::UniqueFd();
  while (waitpid(process_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

bool Broker::ask(u32 port) {
  return send(channel_.number(), &port, sizeof port, MSG_NOSIGNAL) == static_cast<ssize_t>(sizeof port);
}

bool Broker::answer(host::UniqueFd& socket) {
  Answer answer;
  answer.message.msg_control = answer.control;
  answer.message.msg_controllen = sizeof answer.control;
  // At the channel's end there is nobody to connect: everything is refused.
  const ssize_t got = recvmsg(channel_.number(), &answer.message, MSG_CMSG_CLOEXEC);
  if (got < 0) return false;
  socket = host::UniqueFd();
  const cmsghdr* header = CMSG_FIRSTHDR(&answer.message);
  if (header != nullptr && header->cmsg_type == SCM_RIGHTS && header->cmsg_len == CMSG_LEN(sizeof(int))) {
    int number = -1;
    std::memcpy(&number, CMSG_DATA(header), sizeof number);
    socket = host::UniqueFd(number);
  }
  return true;
}

}  // namespace nacre::vsock
