#include "engine/soft/library.hpp"

#include <sys/mman.h>

#include <cstring>
#include <type_traits>

namespace nacre::soft {

// Followed by: InstructionInfos, PlannedExits, Fixups, LookedAts, the guest's bytes (the block's, then those
// looked at), code. In the code each fixup's field holds what does not depend on the place: a stub's offset
// in the code cache, a cell's number from the block's first one, an exit's likewise, a linear address less
// the block's.
struct alignas(16) Library::Entry {
  u64 physical, linear;
  u32 mode, next;  // as in buckets
  u16 bytes, hot_bytes, guest_bytes, cells;
  u16 infos, exits, fixups, looked_at;
  bool tied;

  [[nodiscard]] const InstructionInfo* first_info() const {
    return reinterpret_cast<const InstructionInfo*>(this + 1);
  }
  [[nodiscard]] const PlannedExit* first_exit() const {
    return reinterpret_cast<const PlannedExit*>(first_info() + infos);
  }
  [[nodiscard]] const Fixup* first_fixup() const {
    return reinterpret_cast<const Fixup*>(first_exit() + exits);
  }
  [[nodiscard]] const LookedAt* first_looked_at() const {
    return reinterpret_cast<const LookedAt*>(first_fixup() + fixups);
  }
  [[nodiscard]] const u8* guest() const { return reinterpret_cast<const u8*>(first_looked_at() + looked_at); }
};

namespace {

// Every linear address that a block here knows of is coded in eight bytes, and none is special.
constexpr u64 kFarFirst = u64{1} << 33, kFarEnd = (u64{1} << 47) - (u64{1} << 33);
bool is_far(u64 linear) {
  return linear >= kFarFirst && linear < kFarEnd;
}

// Entries of one bucket, the newest first, that are looked at. Where code is written at the same place again
// and again, older ones are not worth a search that the others wait for.
constexpr unsigned kMostLooked = 16;

template <typename T>
T get(const u8* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void put(u8* to, T value) {
  std::memcpy(to, &value, sizeof value);
}

template <typename T>
u8* append(u8* to, const T* from, usize count) {
  if (count != 0) std::memcpy(to, from, count * sizeof(T));  // of nothing, `from` may be null
  return to + count * sizeof(T);
}

}  // namespace

Result<std::unique_ptr<Library>> Library::create(usize bytes) {
  auto memory = TRY(host::Mapping::anonymous(bytes));
  return std::unique_ptr<Library>(new Library(std::move(memory), bytes));
}

Library::Library(host::Mapping memory, usize bytes) : memory_(std::move(memory)) {
  const usize room = bytes / kShelves & ~(kAlign - 1);
  for (usize i = 0; i < kShelves; i++) {
    shelves_[i].first = memory_.data() + i * room;
    shelves_[i].room = room;
    shelves_[i].buckets.fill(0);
  }
}

bool Library::admits(const Stubs& stubs, u64 code_base) {
  static_assert(std::has_unique_object_representations_v<Stubs> && sizeof(Stubs) % sizeof(u64) == 0);
  std::array<u64, sizeof(Stubs) / sizeof(u64)> offsets;
  std::memcpy(offsets.data(), &stubs, sizeof stubs);
  for (u64& offset : offsets) offset -= code_base;
  const std::lock_guard held(shelves_[0].lock);
  if (!stubs_known_) stubs_ = offsets;
  stubs_known_ = true;
  return offsets == stubs_;
}

usize Library::bucket(u64 physical, u32 mode) {
  return ((physical ^ (u64{mode} << 40)) * 0x9e3779b97f4a7c15 >> 40) & (kBuckets - 1);
}

void Library::empty(Shelf& shelf) {
  shelf.used = 0;
  shelf.buckets.fill(0);
  shelf.statistics.emptied++;
}

bool Library::fits(const Entry& entry, const TranslationInput& input, u64 physical) {
  if (entry.physical != physical || entry.mode != input.mode || entry.guest_bytes > input.available)
    return false;
  if (entry.linear != input.linear && (entry.tied || !is_far(entry.linear) || !is_far(input.linear)))
    return false;
  const u8* guest = entry.guest();
  if (std::memcmp(guest, input.bytes, entry.guest_bytes) != 0) return false;
  guest += entry.guest_bytes;
  const u8* page = input.bytes - (input.linear & (kPageSize - 1));
  for (usize i = 0; i < entry.looked_at; i++) {
    const LookedAt& range = entry.first_looked_at()[i];
    if (std::memcmp(guest, page + range.offset, range.bytes) != 0) return false;
    guest += range.bytes;
  }
  return true;
}

bool Library::copy(const TranslationInput& input, u64 physical, const Place& place, Translation& to) {
  Shelf& from = shelf(physical);
  const std::lock_guard held(from.lock);
  const Entry* entry = nullptr;
  unsigned looked = 0;
  for (u32 at = from.buckets[bucket(physical, input.mode)]; at != 0; at = entry->next) {
    entry = reinterpret_cast<const Entry*>(from.first + (at - 1) * kAlign);
    if (fits(*entry, input, physical)) break;
    if (entry->next == 0 || ++looked == kMostLooked) return false;
  }
  if (entry == nullptr) return false;
  from.statistics.copies++;
  to.bytes = entry->bytes;
  to.hot_bytes = entry->hot_bytes;
  to.guest_bytes = entry->guest_bytes;
  to.cells = entry->cells;
  to.infos.assign(entry->first_info(), entry->first_info() + entry->infos);
  to.exits.assign(entry->first_exit(), entry->first_exit() + entry->exits);
  const u64 delta = input.linear - entry->linear;
  for (PlannedExit& exit : to.exits) {
    exit.target += delta;
    if ((input.mode & Mode::code32) != 0) exit.target = static_cast<u32>(exit.target);
    if (exit.is_cell) exit.cell += input.first_cell;
  }
  const LookedAt* looked_at = entry->first_looked_at();
  const u8* code = entry->guest() + entry->guest_bytes;
  for (usize i = 0; i < entry->looked_at; i++) code += looked_at[i].bytes;
  std::memcpy(place.writable, code, entry->bytes);
  for (usize i = 0; i < entry->fixups; i++) {
    const Fixup fixup = entry->first_fixup()[i];
    u8* field = place.writable + fixup.at;
    switch (fixup.kind) {
      case Fixup::Kind::Stub:
        put<u32>(field, get<u32>(field) - static_cast<u32>(place.offset + fixup.at + 4));
        break;
      case Fixup::Kind::Cell:
        put<u32>(field, static_cast<u32>(input.first_cell_address + get<u32>(field) * sizeof(u64) -
                                         (place.executable + fixup.at + 4)));
        break;
      case Fixup::Kind::ExitNumber:
        put<u32>(field, get<u32>(field) + input.first_exit);
        break;
      case Fixup::Kind::Linear:
        put<u64>(field, get<u64>(field) + input.linear);
        break;
    }
  }
  return true;
}

void Library::keep(const TranslationInput& input, u64 physical, const Place& place, const Translation& made,
                   std::span<const Fixup> fixups, bool tied) {
  usize looked_at = 0;
  for (const LookedAt& range : made.looked_at) looked_at += range.bytes;
  const usize bytes = sizeof(Entry) + made.infos.size() * sizeof(InstructionInfo) +
                      made.exits.size() * sizeof(PlannedExit) + fixups.size() * sizeof(Fixup) +
                      made.looked_at.size() * sizeof(LookedAt) + made.guest_bytes + looked_at + made.bytes;
  Shelf& to = shelf(physical);
  const std::lock_guard held(to.lock);
  if (bytes + kAlign > to.room) return;
  if (to.used + bytes + kAlign > to.room) empty(to);
  u8* at = to.first + to.used;
  u32& head = to.buckets[bucket(physical, input.mode)];
  auto* entry = new (at) Entry{.physical = physical,
                               .linear = input.linear,
                               .mode = input.mode,
                               .next = head,
                               .bytes = static_cast<u16>(made.bytes),
                               .hot_bytes = static_cast<u16>(made.hot_bytes),
                               .guest_bytes = static_cast<u16>(made.guest_bytes),
                               .cells = static_cast<u16>(made.cells),
                               .infos = static_cast<u16>(made.infos.size()),
                               .exits = static_cast<u16>(made.exits.size()),
                               .fixups = static_cast<u16>(fixups.size()),
                               .looked_at = static_cast<u16>(made.looked_at.size()),
                               .tied = tied};
  head = static_cast<u32>(to.used / kAlign) + 1;
  to.used = (to.used + bytes + kAlign - 1) & ~(kAlign - 1);
  to.statistics.kept++;

  u8* next = reinterpret_cast<u8*>(entry + 1);
  next = append(next, made.infos.data(), made.infos.size());
  for (PlannedExit exit : made.exits) {
    if (exit.is_cell) exit.cell -= input.first_cell;
    next = append(next, &exit, 1);
  }
  next = append(next, fixups.data(), fixups.size());
  next = append(next, made.looked_at.data(), made.looked_at.size());
  next = append(next, input.bytes, made.guest_bytes);
  const u8* page = input.bytes - (input.linear & (kPageSize - 1));
  for (const LookedAt& range : made.looked_at) next = append(next, page + range.offset, range.bytes);
  u8* code = next;
  append(code, place.writable, made.bytes);
  for (const Fixup& fixup : fixups) {
    u8* field = code + fixup.at;
    switch (fixup.kind) {
      case Fixup::Kind::Stub:
        put<u32>(field, get<u32>(field) + static_cast<u32>(place.offset + fixup.at + 4));
        break;
      case Fixup::Kind::Cell: {
        const u64 cell = place.executable + fixup.at + 4 + static_cast<u64>(i64{get<i32>(field)});
        put<u32>(field, static_cast<u32>((cell - input.first_cell_address) / sizeof(u64)));
        break;
      }
      case Fixup::Kind::ExitNumber:
        put<u32>(field, get<u32>(field) - input.first_exit);
        break;
      case Fixup::Kind::Linear:
        put<u64>(field, get<u64>(field) - input.linear);
        break;
    }
  }
}

Library::Statistics Library::statistics() {
  Statistics all;
  for (Shelf& one : shelves_) {
    const std::lock_guard held(one.lock);
    all.copies += one.statistics.copies;
    all.kept += one.statistics.kept;
    all.emptied += one.statistics.emptied;
    all.bytes += one.used;
  }
  return all;
}

}  // namespace nacre::soft
