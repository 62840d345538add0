#include "host/passed_files.hpp"

#include <sys/socket.h>

#include <cerrno>
#include <cstring>

namespace nacre::host {
namespace {

struct Message {
  alignas(cmsghdr) char control[CMSG_SPACE(kMostPassedFiles * sizeof(int))] = {};
  iovec part;
  msghdr header = {};

  Message(void* bytes, usize count, usize control_bytes) : part{bytes, count} {
    header.msg_iov = &part;
    header.msg_iovlen = 1;
    header.msg_control = control_bytes == 0 ? nullptr : control;
    header.msg_controllen = control_bytes;
  }
  Message(const Message&) = delete;
  Message& operator=(const Message&) = delete;
};

}  // namespace

ssize_t send_with_files(int socket, std::span<const u8> bytes, std::span<const UniqueFd> files, int flags) {
  if (files.size() > kMostPassedFiles) {
    errno = ETOOMANYREFS;
    return -1;
  }
  const usize room = files.empty() ? 0 : CMSG_SPACE(files.size() * sizeof(int));
  Message message(const_cast<u8*>(bytes.data()), bytes.size(), room);
  if (!files.empty()) {
    cmsghdr* header = CMSG_FIRSTHDR(&message.header);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(files.size() * sizeof(int));
    for (usize i = 0; i < files.size(); ++i) {
      const int number = files[i].number();
      std::memcpy(CMSG_DATA(header) + i * sizeof number, &number, sizeof number);
    }
  }
  ssize_t sent;
  do {
    sent = sendmsg(socket, &message.header, flags | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

ssize_t receive_with_files(int socket, std::span<u8> bytes, std::vector<UniqueFd>& files, int flags) {
  Message message(bytes.data(), bytes.size(), sizeof message.control);
  const ssize_t got = recvmsg(socket, &message.header, flags | MSG_CMSG_CLOEXEC);
  if (got < 0) return got;
  for (cmsghdr* header = CMSG_FIRSTHDR(&message.header); header != nullptr;
       header = CMSG_NXTHDR(&message.header, header)) {
    if (header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) continue;
    const usize count = (header->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (usize i = 0; i < count; ++i) {
      int number = -1;
      std::memcpy(&number, CMSG_DATA(header) + i * sizeof number, sizeof number);
      files.emplace_back(number);
    }
  }
  return got;
}

}  // namespace nacre::host
