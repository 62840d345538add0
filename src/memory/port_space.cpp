#include "memory/port_space.hpp"

#include "base/bits.hpp"

namespace nacre::memory {
namespace {

Error& append_ports(Error& error, u32 first, u32 count) {
  return error.append("ports ").append_number(first, 16).append(" to ").append_number(first + count - 1, 16);
}

}  // namespace

Status PortSpace::claim(u16 first, u32 count, PortHandler& handler, unsigned widest) {
  NACRE_CHECK(widest == 1 || widest == 2 || widest == 4);
  Error error("port map: ");
  if (count == 0 || first + count > 0x10000) {
    return error.append("a range from ").append_number(first, 16).append(" on must hold ports below 0x10000");
  }
  if (count_ == kMaxRanges) {
    return append_ports(error, first, count).append(" are one range too many; merge some of those before it");
  }
  usize at = 0;
  while (at < count_ && ranges_[at].first < first) ++at;
  const Range* neighbour = nullptr;
  if (at > 0 && ranges_[at - 1].first + ranges_[at - 1].count > first) neighbour = &ranges_[at - 1];
  if (at < count_ && first + count > ranges_[at].first) neighbour = &ranges_[at];
  if (neighbour != nullptr) {
    append_ports(error, first, count).append(" overlap ");
    return append_ports(error, neighbour->first, neighbour->count).append("; move one of them");
  }
  for (usize i = count_; i > at; --i) ranges_[i] = ranges_[i - 1];
  ranges_[at] = {.first = first, .count = count, .widest = widest, .handler = &handler};
  ++count_;
  return {};
}

const PortSpace::Range* PortSpace::find(u32 port) const {
  usize low = 0;
  usize high = count_;  // the range, if any, is the last one that starts not above the port
  while (low < high) {
    const usize middle = (low + high) / 2;
    if (ranges_[middle].first <= port) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0) return nullptr;
  const Range* range = &ranges_[low - 1];
  return port - range->first < range->count ? range : nullptr;
}

PortSpace::Piece PortSpace::piece_at(u32 port, unsigned left) const {
  const Range* range = find(port);
  if (range == nullptr) return {};
  const u32 room = range->count - (port - range->first);
  unsigned size = range->widest;
  while (size > left || size > room) size /= 2;
  return {.range = range, .size = size};
}

u32 PortSpace::read(u16 port, unsigned size) const {
  u32 value = 0;
  for (unsigned done = 0; done < size;) {
    const u32 at = u32{port} + done;
    const Piece piece = piece_at(at, size - done);
    u32 part = ~u32{0};
    if (piece.range != nullptr) {
      part = piece.range->handler->read(static_cast<u16>(at - piece.range->first), piece.size);
    }
    value |= (part & static_cast<u32>(low_bytes_mask(piece.size))) << (8 * done);
    done += piece.size;
  }
  return value;
}

void PortSpace::write(u16 port, unsigned size, u32 value) const {
  for (unsigned done = 0; done < size;) {
    const u32 at = u32{port} + done;
    const Piece piece = piece_at(at, size - done);
    if (piece.range != nullptr) {
      const u32 part = (value >> (8 * done)) & static_cast<u32>(low_bytes_mask(piece.size));
      piece.range->handler->write(static_cast<u16>(at - piece.range->first), piece.size, part);
    }
    done += piece.size;
  }
}

}  // namespace nacre::memory
