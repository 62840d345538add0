// The interpreter's own cache of translations: one small direct-mapped table per access type and
// privilege view. An entry is exactly what the page walker said, so a hit needs no further check but
// SMAP's, which depends on RFLAGS.AC. Flushing is a change of generation, not a walk over the tables:
// the translator sends every MOV CR3 and INVLPG of its guest through here. SDM vol. 3, 4.10.
// Freestanding; owned by the vCPU's thread.
#pragma once

#include "cpu/mmu.hpp"

namespace nacre::interp {

struct TlbEntry {
  u64 page = 0;         // linear page number
  u64 generation = 0;   // the one it was filled in; 0 is never current
  u8* host = nullptr;   // start of the page in host memory; null: not RAM (nor, for reads, ROM)
  u64 physical = 0;     // start of the page
  u8* flags = nullptr;  // memory::PageFlag byte of a RAM page
  u32 pages = 0;        // 4 KiB pages in the mapping it is part of
  bool user = false;
  bool global = false;
};

class Tlb {
 public:
  [[nodiscard]] TlbEntry& slot(u64 linear, cpu::AccessType type, cpu::Privilege privilege) {
    const unsigned user = privilege == cpu::Privilege::User ? 1 : 0;
    return entries_[static_cast<unsigned>(type)][user][linear >> kPageShift & (kEntries - 1)];
  }
  [[nodiscard]] bool holds(const TlbEntry& entry, u64 linear) const {
    return entry.page == linear >> kPageShift && entry.generation == generation_[entry.global ? 1 : 0];
  }
  // Makes `entry`, whose other members are set, the current translation of `linear`.
  void install(TlbEntry& entry, u64 linear) {
    entry.page = linear >> kPageShift;
    entry.generation = generation_[entry.global ? 1 : 0];
    if (entry.pages > 1) widen_large(entry.page & ~u64{entry.pages - 1}, entry.page | (entry.pages - 1));
  }

  void flush_all() {
    generation_[0] = ++last_generation_;
    generation_[1] = ++last_generation_;
    large_first_ = ~u64{0};
    large_last_ = 0;
  }
  void flush_non_global() { generation_[0] = ++last_generation_; }
  // The whole mapping that `linear` is part of, whatever its size.
  void flush_page(u64 linear) {
    const u64 page = linear >> kPageShift;
    if (page >= large_first_ && page <= large_last_) return flush_around(page);
    for (auto& type : entries_) {
      for (auto& view : type) {
        TlbEntry& entry = view[page & (kEntries - 1)];
        if (entry.page == page) entry.generation = 0;
      }
    }
  }

 private:
  static constexpr usize kEntries = 256;

  // A large mapping lies in many slots.
  void flush_around(u64 page) {
    for (auto& type : entries_) {
      for (auto& view : type) {
        for (TlbEntry& entry : view) {
          if ((entry.page ^ page) < entry.pages) entry.generation = 0;
        }
      }
    }
  }
  void widen_large(u64 first, u64 last) {
    if (first < large_first_) large_first_ = first;
    if (last > large_last_) large_last_ = last;
  }

  TlbEntry entries_[3][2][kEntries];
  u64 generation_[2] = {1, 2};  // of entries that are not global, and of those that are
  u64 last_generation_ = 2;
  // All pages of large mappings filled since the last flush_all() lie within.
  u64 large_first_ = ~u64{0};
  u64 large_last_ = 0;
};

}  // namespace nacre::interp
