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

Result<std::unique_ptr<Tap>> Tap::create(const std::string& name) {
  ifreq request = {};
  if (name.empty() || name.size() >= sizeof request.ifr_name)
    return Error("A tap interface's name has 1 to 15 letters, as in --net tap=tap0.");
  if (if_nametoindex(name.c_str()) == 0) {
    return Error("There is no network interface ")
        .append(name.c_str())
        .append("; root makes one: ip tuntap add dev ")
        .append(name.c_str())
        .append(" mode tap user YOU, and ip link set it up.");
  }
  host::UniqueFd file(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
  if (!file) return host::errno_error("Cannot open /dev/net/tun, which tap interfaces need");
  name.copy(request.ifr_name, sizeof request.ifr_name - 1);
  request.ifr_flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR;
  if (ioctl(file.number(), TUNSETIFF, &request) != 0) {
    const int why = errno;
    return Error("Cannot use the network interface ")
        .append(name.c_str())
        .append(why == EPERM   ? ": it is not yours; root gives it: ip tuntap add dev NAME mode tap user YOU."
                : why == EBUSY ? ": another program has it."
                : why == EINVAL ? ": it is not a tap interface of this kind."
                                : ": the system refused it.");
  }
  int header_bytes = sizeof(Header);
  if (ioctl(file.number(), TUNSETVNETHDRSZ, &header_bytes) != 0)
    return host::errno_error("Cannot set up the tap interface");
  return std::unique_ptr<Tap>(new Tap(std::move(file)));
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
  // Where it is refused, intake_ does it.
  static_cast<void>(ioctl(file_.number(), TUNSETOFFLOAD, flags));
}

bool Tap::send(const Header& header, const virtio::Segment* pieces, unsigned count) {
  Header clean = header;
  clean.buffers = 0;
  std::memcpy(frame_, &clean, sizeof clean);
  const usize bytes = sizeof clean + gather(pieces, count, frame_ + sizeof clean);
  const ssize_t written = write(file_.number(), frame_, bytes);
  full_ = written < 0 && (errno == EAGAIN || errno == EINTR);
  return !full_;  // what the kernel does not want otherwise is lost, as on a cable that is not plugged in
}

usize Tap::receive(u8* to, Header& header) {
  tell_kernel();
  while (!intake_.waiting()) {
    if (!readable_) return 0;
    Header got;
    const iovec parts[] = {{&got, sizeof got}, {intake_.buffer(), kMostPacket}};
    const ssize_t bytes = readv(file_.number(), parts, 2);
    if (bytes < static_cast<ssize_t>(sizeof got)) {
      if (bytes >= 0 || errno == EINTR) continue;
      readable_ = false;
      return 0;
    }
    intake_.accept(got, static_cast<usize>(bytes) - sizeof got, offloads_);
  }
  return intake_.next(to, header);
}

int Tap::wait_for(std::vector<pollfd>& descriptors) {
  // What is readable already waits for the guest's buffers.
  const int events = (readable_ ? 0 : POLLIN) | (full_ ? POLLOUT : 0);
  descriptors.push_back({file_.number(), static_cast<short>(events), 0});
  return -1;
}

void Tap::happened(std::span<const pollfd> descriptors) {
  if ((descriptors[0].revents & POLLIN) != 0) readable_ = true;
}

}  // namespace nacre::net
