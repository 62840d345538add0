#include "board/boot/placer.hpp"

namespace nacre::board::boot {
namespace {

u64 align_up(u64 value, u64 align) {
  return (value + align - 1) & ~(align - 1);
}
u64 align_down(u64 value, u64 align) {
  return value & ~(align - 1);
}

}  // namespace

bool Placer::is_ram(u64 base, u64 size) const {
  for (const MemoryRange& range : map_.ranges()) {
    if (range.type != MemoryType::Ram || base < range.base || base >= range.end()) continue;
    return size <= range.end() - base;
  }
  return false;
}

const Placer::Claim* Placer::overlapping(u64 base, u64 size) const {
  for (usize i = 0; i < count_; ++i) {
    if (claims_[i].base < base + size && base < claims_[i].end) return &claims_[i];
  }
  return nullptr;
}

Status Placer::take(u64 base, u64 size, const char* what) {
  if (count_ == kMaxClaims) {
    return Error(what)
        .append(" is one piece too many to load; join modules or segments to at most ")
        .append_number(kMaxClaims);
  }
  claims_[count_++] = {.base = base, .end = base + size, .what = what};
  return {};
}

Status Placer::claim(u64 base, u64 size, const char* what) {
  if (size == 0) return {};
  if (!is_ram(base, size)) {
    return Error(what)
        .append(" wants ")
        .append_number(size, 16)
        .append(" bytes at ")
        .append_number(base, 16)
        .append(", which is not all RAM in a guest of ")
        .append_number(memory_bytes_ / kMiB)
        .append(" MiB; give it more memory, or link it for addresses from 1 MiB on");
  }
  if (const Claim* other = overlapping(base, size); other != nullptr) {
    return Error(what)
        .append(" at ")
        .append_number(base, 16)
        .append(" overlaps ")
        .append(other->what)
        .append(" at ")
        .append_number(other->base, 16)
        .append("; the file is damaged or linked wrongly");
  }
  return take(base, size, what);
}

Error Placer::no_room(u64 size, const char* what) const {
  return Error("no room for ")
      .append(what)
      .append(" of ")
      .append_number(size / kKiB + (size % kKiB != 0 ? 1 : 0))
      .append(" KiB in a guest of ")
      .append_number(memory_bytes_ / kMiB)
      .append(" MiB; give the guest more memory");
}

Result<u64> Placer::lowest(u64 size, u64 align, u64 low, u64 high, const char* what) {
  for (const MemoryRange& range : map_.ranges()) {
    if (range.type != MemoryType::Ram) continue;
    const u64 end = range.end() < high ? range.end() : high;
    u64 base = align_up(range.base > low ? range.base : low, align);
    while (base < end && size <= end - base) {
      const Claim* other = overlapping(base, size);
      if (other == nullptr) {
        TRY(take(base, size, what));
        return base;
      }
      base = align_up(other->end, align);  // above `base`, so this ends after at most count_ rounds
    }
  }
  return no_room(size, what);
}

Result<u64> Placer::highest(u64 size, u64 align, u64 low, u64 high, const char* what) {
  const auto ranges = map_.ranges();
  for (usize i = ranges.size(); i-- > 0;) {
    const MemoryRange& range = ranges[i];
    if (range.type != MemoryType::Ram) continue;
    const u64 start = range.base > low ? range.base : low;
    u64 end = range.end() < high ? range.end() : high;
    while (end > start && size <= end - start) {
      const u64 base = align_down(end - size, align);
      if (base < start) break;
      const Claim* other = overlapping(base, size);
      if (other == nullptr) {
        TRY(take(base, size, what));
        return base;
      }
      end = other->base;  // below `end`, so this ends after at most count_ rounds
    }
  }
  return no_room(size, what);
}

}  // namespace nacre::board::boot
