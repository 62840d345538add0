#include "net/capture.hpp"

#include <time.h>

#include <cstring>

#include "net/frame.hpp"

namespace nacre::net {
namespace {

// The file's head: draft-ietf-opsawg-pcap, 4.
struct Head {
  u32 magic = 0xa1b23c4d;  // nanoseconds
  u16 major = 2, minor = 4;
  u32 reserved[2] = {};
  u32 most = 262144;
  u32 link = 1;  // Ethernet
};
static_assert(sizeof(Head) == 24);

}  // namespace

Result<std::unique_ptr<Port>> Capture::create(std::unique_ptr<Port> port, const std::string& path) {
  auto file = TRY(host::open_for_writing(path.c_str()));
  const Head head;
  if (!host::write_all(file.number(), {reinterpret_cast<const u8*>(&head), sizeof head}))
    return Error("Cannot write the capture file ").append(path.c_str()).append(".");
  return std::unique_ptr<Port>(new Capture(std::move(port), std::move(file)));
}

void Capture::write_down(const virtio::net::Header& header, usize bytes) {
  timespec now = {};
  clock_gettime(CLOCK_REALTIME, &now);
  const u32 length = static_cast<u32>(bytes);
  const Record record = {static_cast<u32>(now.tv_sec), static_cast<u32>(now.tv_nsec), length, length};
  std::memcpy(record_, &record, sizeof record);
  static_cast<void>(finish_checksum(header, {record_ + sizeof record, bytes}));
  if (host::write_all(file_.number(), {record_, sizeof record + bytes})) return;
  over_ = true;
  constexpr std::string_view kWords = "nacre: The capture file cannot be written; it ends here.\n";
  [[maybe_unused]] const ssize_t written = write(STDERR_FILENO, kWords.data(), kWords.size());
}

bool Capture::send(const virtio::net::Header& header, const virtio::Segment* pieces, unsigned count, unsigned pair) {
  // The guest may change the packet meanwhile: what is written down is then not what was sent.
  if (!port_->send(header, pieces, count, pair)) return false;
  if (!over_) write_down(header, gather(pieces, count, record_ + sizeof(Record)));
  return true;
}

usize Capture::receive(u8* to, virtio::net::Header& header, unsigned& pair) {
  const usize bytes = port_->receive(to, header, pair);
  if (bytes != 0 && !over_) {
    std::memcpy(record_ + sizeof(Record), to, bytes);
    write_down(header, bytes);
  }
  return bytes;
}

}  // namespace nacre::net
