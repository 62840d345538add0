// The interpreter's own cache of translations: one small direct-mapped table per access type and
// privilege view. An entry is exactly what the page walker said, so a hit needs no further check but
// SMAP's, which depends on RFLAGS.AC. SDM vol. 3, 4.10. Freestanding; owned by the vCPU's thread.
#pragma once

#include "cpu/mmu.hpp"

namespace nacre::interp {

struct TlbEntry {
  static constexpr u64 kInvalid = ~u64{0};
  u64 page = kInvalid;      // linear page number
  u8* host = nullptr;       // start of the page in host memory; null: not RAM (nor, for reads, ROM)
  u64 physical = 0;         // start of the page
  u8* flags = nullptr;      // memory::PageFlag byte of a RAM page
  u64 page_bytes = 0;       // of the mapping it is part of
  bool user = false;
  bool global = false;
};

class Tlb {
 public:
  [[nodiscard]] TlbEntry& slot(u64 linear, cpu::AccessType type, cpu::Privilege privilege) {
    const unsigned user = privilege == cpu::Privilege::User ? 1 : 0;
    return entries_[static_cast<unsigned>(type)][user][linear >> kPageShift & (kEntries - 1)];
  }

  template <typename Predicate>
  void flush_if(Predicate stale) {
    for (auto& type : entries_) {
      for (auto& view : type) {
        for (TlbEntry& entry : view) {
          if (stale(entry)) entry.page = TlbEntry::kInvalid;
        }
      }
    }
  }
  void flush_all() {
    flush_if([](const TlbEntry&) { return true; });
  }
  void flush_non_global() {
    flush_if([](const TlbEntry& entry) { return !entry.global; });
  }
  // The whole mapping that `linear` is part of, whatever its size.
  void flush_page(u64 linear) {
    flush_if([linear](const TlbEntry& entry) {
      return ((entry.page << kPageShift) ^ linear) < entry.page_bytes;
    });
  }

 private:
  static constexpr usize kEntries = 256;
  TlbEntry entries_[3][2][kEntries];
};

}  // namespace nacre::interp
