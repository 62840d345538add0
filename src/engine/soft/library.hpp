// Library: every translation that one of a guest's vCPUs has made, for all of them to take a copy of. Most
// blocks are wanted again and again: by another vCPU, at another linear address by the next process (address
// space randomization), by the same after its store was full. A copy costs a quarter of a translation.
// docs/soft-engine.md, "The library".
//
// An entry holds the guest's bytes that its translation depends on, all of them, and is taken only where
// guest memory has the same ones: so nothing ever has to be dropped because a page was written.
//
// Any thread; its vector registers must not hold the guest's values.
#pragma once

#include <array>
#include <memory>
#include <mutex>
#include <span>

#include "base/result.hpp"
#include "engine/soft/translator.hpp"
#include "host/mapping.hpp"

namespace nacre::soft {

// Where a block is to stand.
struct Place {
  u8* writable = nullptr;
  usize offset = 0;    // in the code cache
  u64 executable = 0;  // address of the same
};

class Library {
 public:
  // `bytes`: room for entries, touched only as it fills.
  static Result<std::unique_ptr<Library>> create(usize bytes);

  // Whether a vCPU with these stubs, in a code cache that runs at `code_base`, may use it: they stand at the
  // same offsets as everybody else's.
  [[nodiscard]] bool admits(const Stubs& stubs, u64 code_base);

  // Puts the block's code at `place` and the rest into `to`. `physical`: of its first byte. False: not known.
  [[nodiscard]] bool copy(const TranslationInput& input, u64 physical, const Place& place, Translation& to);
  // Keeps what was just made at `place` and not changed since, from bytes that have not changed either.
  void keep(const TranslationInput& input, u64 physical, const Place& place, const Translation& made,
            std::span<const Fixup> fixups, bool tied);

  struct Statistics {
    u64 copies = 0, kept = 0, emptied = 0, bytes = 0;
  };
  [[nodiscard]] Statistics statistics();

 private:
  struct Entry;
  static constexpr usize kShelves = 8;
  static constexpr usize kBuckets = 1 << 14;
  // Entries of some pages, one behind the other. When it is full it is emptied.
  struct Shelf {
    std::mutex lock;
    u8* first = nullptr;
    usize room = 0, used = 0;
    std::array<u32, kBuckets> buckets;  // offset of an entry, in units of kAlign, plus one
    Statistics statistics;
  };
  static constexpr usize kAlign = 16;

  Library(host::Mapping memory, usize bytes);
  [[nodiscard]] Shelf& shelf(u64 physical) { return shelves_[(physical >> kPageShift) % kShelves]; }
  static usize bucket(u64 physical, u32 mode);
  static bool fits(const Entry& entry, const TranslationInput& input, u64 physical);
  static void empty(Shelf& shelf);

  host::Mapping memory_;
  std::array<Shelf, kShelves> shelves_;
  std::array<u64, sizeof(Stubs) / sizeof(u64)> stubs_ = {};  // under the first shelf's lock
  bool stubs_known_ = false;
};

}  // namespace nacre::soft
