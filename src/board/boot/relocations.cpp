#include "board/boot/relocations.hpp"

namespace nacre::board::boot {
namespace {

constexpr usize kEntry = 4;
constexpr usize kMaxLists = 3;

template <typename T, typename Change>
bool for_each(Bytes list, std::span<u8> image, u64 base, Change change) {
  for (usize at = 0; at < list.size(); at += kEntry) {
    i32 low_half = 0;
    if (!read_at(list, at, low_half)) return false;
    const u64 offset = static_cast<u64>(i64{low_half}) - base;
    T value{};
    if (!read_at(image, offset, value)) return false;
    value = change(value);
    __builtin_memcpy(image.data() + offset, &value, sizeof value);
  }
  return true;
}

}  // namespace

Relocations find_relocations(const Elf& elf, Bytes file) {
  const u64 end = elf.file_end();
  if (end >= file.size()) return {};
  const Bytes tail = file.subspan(end);
  Bytes lists[kMaxLists];
  usize count = 0;
  usize begin = 0;
  for (usize at = 0; at < tail.size(); at += kEntry) {
    u32 entry = 0;
    if (!read_at(tail, at, entry) || (at == 0 && entry != 0)) return {};
    if (entry != 0) continue;
    if (count == kMaxLists) return {};
    if (count > 0) lists[count - 1] = tail.subspan(begin, at - begin);
    ++count;
    begin = at + kEntry;
  }
  if (count > 0) lists[count - 1] = tail.subspan(begin);
  // The list of inverse relocations went away with per-CPU data at absolute zero, in Linux 6.15.
  if (count == 3) return {.add_64 = lists[0], .subtract_32 = lists[1], .add_32 = lists[2]};
  if (count == 2) return {.add_64 = lists[0], .subtract_32 = {}, .add_32 = lists[1]};
  return {};
}

bool relocate(const Relocations& relocations, std::span<u8> image, u64 base, u64 delta) {
  return for_each<u32>(relocations.add_32, image, base,
                       [delta](u32 v) { return static_cast<u32>(v + delta); }) &&
         for_each<u32>(relocations.subtract_32, image, base,
                       [delta](u32 v) { return static_cast<u32>(v - delta); }) &&
         for_each<u64>(relocations.add_64, image, base, [delta](u64 v) { return v + delta; });
}

}  // namespace nacre::board::boot
