#include "net/intake.hpp"

#include <cstring>

namespace nacre::net {

void Intake::accept(const Header& header, usize bytes, const virtio::net::Offloads& guest) {
  whole_ = 0;
  header_ = {};
  if (bytes < kEthernetBytes || bytes > kMostPacket) return;
  const u8 kind = header.gso_type & static_cast<u8>(~Header::ecn);
  const bool unfinished = (header.flags & Header::needs_csum) != 0;
  const bool in_frame = usize{header.csum_start} + header.csum_offset + 2 <= bytes;
  if (kind == Header::none) {
    if (unfinished && guest.csum && in_frame) {
      header_.flags = Header::needs_csum;
      header_.csum_start = header.csum_start;
      header_.csum_offset = header.csum_offset;
    } else if (!finish_checksum(header, {frame_, bytes})) {
      return;
    } else if ((header.flags & Header::data_valid) != 0 && guest.csum) {
      header_.flags = Header::data_valid;
    }
    whole_ = bytes;
    return;
  }
  // Whether it is what it says; then it is cut, or goes on as it is.
  if (!unfinished || !in_frame || !segmenter_.start(header, {frame_, bytes})) return;
  if (guest.csum && (kind == Header::tcp4 ? guest.tso4 : guest.tso6)) {
    segmenter_ = {};
    header_ = header;
    header_.flags = Header::needs_csum;
    header_.gso_type = kind;  // the one bit more is for those who asked for it
    header_.buffers = 0;
    whole_ = bytes;
  }
}

usize Intake::next(u8* to, Header& header) {
  header = header_;
  if (whole_ == 0) return segmenter_.next(to);
  const usize bytes = whole_;
  whole_ = 0;
  std::memcpy(to, frame_, bytes);
  return bytes;
}

}  // namespace nacre::net
