#include "net/tap.hpp"

#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <sys/ioctl.h>
#include <sys/uio.h>

#include <cerrno>
#include <cstring>

#include "host/error.hpp"

extern "C" unsigned if_nametoindex(const char* name) noexcept;  // net/if.h disagrees with linux/if.h

namespace nacre::net {

namespace {

Error refused(const std::string& name, unsigned queues, int why) {
  Error error = Error("Cannot use the network interface ").append(name.c_str());
  if (why == EPERM)
    return error.append(": it is not yours; root gives it: ip tuntap add dev NAME mode tap user YOU.");
  if (why == EBUSY) return error.append(": another program has it.");
  // The kernel does not say which.
  if (why == EINVAL && queues > 1)
    return error.append(
        ": it is not a tap interface of several queues; root makes one: ip tuntap add dev NAME mode tap "
        "multi_queue user YOU.");
  if (why == EINVAL)
    return error.append(
        ": it is not a tap interface of this kind; one made with multi_queue wants queues=2 or more.");
  if (why == E2BIG) return error.append(": it has no queue left.");
  return error.append(": the system refused it.");
}

}  // namespace

Result<std::unique_ptr<Tap>> Tap::create(const std::string& name, unsigned queues) {
  ifreq request = {};
  if (name.empty() || name.size() >= sizeof request.ifr_name)
    return Error("A tap interface's name has 1 to 15 letters, as in --net tap=tap0.");
  if (if_nametoindex(name.c_str()) == 0) {
    return Error("There is no network interface ")
        .append(name.c_str())
        .append("; root makes one: ip tuntap add dev ")
        .append(name.c_str())
        .append(queues > 1 ? " mode tap multi_queue user YOU" : " mode tap user YOU")
        .append(", and ip link set it up.");
  }
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (queues > 1) request.ifr_flags |= IFF_MULTI_QUEUE;
  std::vector<Queue> opened(queues);
  for (Queue& queue : opened) {
    queue.file = host::UniqueFd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!queue.file) return host::errno_error("Cannot open /dev/net/tun, which tap interfaces need");
    ifreq mine = request;
    if (ioctl(queue.file.number(), TUNSETIFF, &mine) != 0) return refused(name, queues, errno);
    int header_bytes = sizeof(Header);
    if (ioctl(queue.file.number(), TUNSETVNETHDRSZ, &header_bytes) != 0)
      return host::errno_error("Cannot set up the tap interface");
  }
  return std::unique_ptr<Tap>(new Tap(std::move(opened)));
}

void Tap::set_offloads(const virtio::net::Offloads& offloads) {
  offloads_ = offloads;
  changed_.store(true, std::memory_order_release);
}

void Tap::tell_kernel() {
  if (!changed_.exchange(false, std::memory_order_acquire)) return;
  unsigned long flags = 0;
  if (offloads_.csum) flags |= TUN_F_CSUM;
  if (offloads_.csum && offloads_.tso4) flags |= TUN_F_TSO4;
  if (offloads_.csum && offloads_.tso6) flags |= TUN_F_TSO6;
  // It is the interface's, not a queue's. Where it is refused, intake_ does it.
  static_cast<void>(ioctl(queues_[0].file.number(), TUNSETOFFLOAD, flags));
}

bool Tap::send(const Header& header, const virtio::Segment* pieces, unsigned count, unsigned pair) {
  Header clean = header;
  clean.buffers = 0;
  std::memcpy(frame_, &clean, sizeof clean);
  const usize bytes = sizeof clean + gather(pieces, count, frame_ + sizeof clean);
  Queue& queue = queues_[pair % queues_.size()];
  const ssize_t written = write(queue.file.number(), frame_, bytes);
  queue.full = written < 0 && (errno == EAGAIN || errno == EINTR);
  return !queue
              .full;  // what the kernel does not want otherwise is lost, as on a cable that is not plugged in
}

// A queue is read until it is empty, or others have waited long: a flow that the kernel moves to another has
// less of it left behind.
bool Tap::read_next() {
  if (++in_turn_ > kMostInTurn) turn_ = (turn_ + 1) % queues_.size(), in_turn_ = 0;
  for (usize looked = 0; looked < queues_.size();
       ++looked, turn_ = (turn_ + 1) % queues_.size(), in_turn_ = 0) {
    Queue& queue = queues_[turn_];
    while (queue.readable) {
      Header got;
      const iovec parts[] = {{&got, sizeof got}, {intake_.buffer(), kMostPacket}};
      const ssize_t bytes = readv(queue.file.number(), parts, 2);
      if (bytes >= static_cast<ssize_t>(sizeof got)) {
        intake_.accept(got, static_cast<usize>(bytes) - sizeof got, offloads_);
        return true;
      }
      if (bytes < 0 && errno != EINTR) queue.readable = false;
    }
  }
  return false;
}

usize Tap::receive(u8* to, Header& header, unsigned& pair) {
  tell_kernel();
  while (!intake_.waiting()) {
    if (!read_next()) return 0;
  }
  pair = static_cast<unsigned>(turn_);
  return intake_.next(to, header);
}

int Tap::wait_for(std::vector<pollfd>& descriptors) {
  for (const Queue& queue : queues_) {
    // What is readable already waits for the guest's buffers.
    const int events = (queue.readable ? 0 : POLLIN) | (queue.full ? POLLOUT : 0);
    descriptors.push_back({queue.file.number(), static_cast<short>(events), 0});
  }
  return -1;
}

void Tap::happened(std::span<const pollfd> descriptors) {
  for (usize i = 0; i < queues_.size(); ++i) {
    if ((descriptors[i].revents & POLLIN) != 0) queues_[i].readable = true;
  }
}

}  // namespace nacre::net
