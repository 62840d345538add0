// Tlb: keeps the three views' software TLBs and jump caches in Context, and a small cache of code-page
// translations. All are exact copies of what the page walker said; flush when the architecture says so.
// Owned by the vCPU's thread.
#pragma once

#include <vector>

#include "cpu/mmu.hpp"
#include "engine/soft/context.hpp"
#include "engine/soft/crew.hpp"

namespace nacre::soft {

class Tlb {
 public:
  Tlb(Context& context, memory::AddressSpace& memory, cpu::TranslationObserver& observer, Crew& crew, unsigned me);

  // Where jump caches lead when they know no better.
  void set_jump_miss(u64 code);

  // Makes an entry for the page of `linear` as `view` sees it. False: not RAM, not allowed, or holds
  // translated code (writes): the interpreter must do the access.
  bool fill(View view, u64 linear, bool write);

  // The same, and remembers the page as the one the stack is in.
  bool fill_stack(View view, u64 linear, bool write);

  struct CodePage {
    u64 linear = 1;  // of the page; 1: empty
    u64 physical = 0;
    const u8* host = nullptr;
    u8* flags = nullptr;
    bool global = false;
  };
  // The page that code at `linear` is fetched from, or null (fault, or not RAM).
  const CodePage* code_page(View view, u64 linear);

  void remember_jump(View view, u64 target, u64 code, bool global);
  void forget_jumps(View view);

  void flush_all();
  void flush_non_global();
  // Returns the size of the naturally aligned range that was dropped, in bytes.
  u64 flush_page(u64 linear);
  // No page of guest RAM at this host address may be written past the interpreter any more.
  void protect_code_page(const u8* host_page);

 private:
  static constexpr usize kCodePages = 256;
  // Past this many, clearing everything is quicker than clearing what was filled.
  static constexpr usize kManyFilled = kTlbEntries;

  void clear_entry(View view, usize index);
  void note_page_size(View view, u64 bytes);
  void clear_view(View view);
  void clear_stack(View view);
  static usize code_index(u64 linear) { return (linear >> kPageShift) & (kCodePages - 1); }

  Context& context_;
  memory::AddressSpace& memory_;
  cpu::TranslationObserver& observer_;
  Crew& crew_;
  unsigned me_;
  u64 jump_miss_ = 0;
  std::vector<u32> filled_[kViews];
  std::vector<u16> jumps_[kViews];
  u64 jumps_low_[kViews] = {~u64{0}, ~u64{0}, ~u64{0}}, jumps_high_[kViews] = {};  // where they lead
  // What an address-space switch takes away: entries by their index (all, when the list is full), and jumps.
  std::vector<u32> non_global_[kViews];
  bool has_global_[kViews] = {};  // entries or jumps
  bool has_non_global_jumps_[kViews] = {};
  u64 largest_page_[kViews] = {kPageSize, kPageSize, kPageSize};  // ever seen, in bytes
  CodePage code_pages_[2][kCodePages];  // user, kernel
};

}  // namespace nacre::soft
