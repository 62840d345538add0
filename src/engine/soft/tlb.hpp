// Tlb: keeps the three views' software TLBs and jump caches in Context, and a small cache of code-page
// translations. All are exact copies of what the page walker said; flush when the architecture says so.
// Owned by the vCPU's thread.
#pragma once

#include <vector>

#include "cpu/mmu.hpp"
#include "engine/soft/context.hpp"
#include "engine/soft/crew.hpp"
#include "engine/soft/spaces.hpp"

namespace nacre::soft {

class Tlb {
 public:
  Tlb(Context& context, memory::AddressSpace& memory, cpu::TranslationObserver& observer, Crew& crew,
      unsigned me);

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
    Lasting lasting = Lasting::Space;
  };
  // The page that code at `linear` is fetched from, or null (fault, or not RAM).
  const CodePage* code_page(View view, u64 linear);

  void remember_jump(View view, u64 target, u64 code, Lasting lasting);
  // The code that jumps of this view lead to is gone.
  void forget_jumps(View view);
  // The same of one, if it leads there.
  void forget_jump(View view, u64 target, u64 code);
  // Grows whenever that happens.
  [[nodiscard]] u64 jumps_age() const { return jumps_age_; }

  // Everything but jumps into the kernel's steady pages. These are in doubt until it has been asked whether
  // they stand.
  void flush_all();
  [[nodiscard]] bool steady_pages_in_doubt() const { return steady_in_doubt_; }
  // False: one has changed. Jumps into all of them are forgotten then.
  [[nodiscard]] bool steady_pages_stand();
  void flush_non_global();
  // The same, but what is dropped is put into the space; nothing where there is no telling what is global.
  void flush_non_global_into(Space& space);
  // What was put there is there again. Nothing non-global may have been cached since.
  void take_back(const Space& space);
  // The sizes of the naturally aligned ranges that were dropped, in bytes.
  struct Dropped {
    u64 user, kernel;
  };
  Dropped flush_page(u64 linear);
  // No page of guest RAM at this host address may be written past the interpreter any more.
  void protect_code_page(const u8* host_page);

 private:
  static constexpr usize kCodePages = 256;
  // Past this many, clearing everything is quicker than clearing what was filled.
  static constexpr usize kManyFilled = kTlbEntries;

  void clear_entry(View view, usize index);
  void clear_jumps(View view);
  void clear_unsteady_jumps(View view);
  // Whether the page is in one that is listed as steady, or can be.
  bool is_steady(u64 linear, const cpu::Translation& walked);
  void clear_jumps_to(View view, u64 linear, u64 bytes);
  void list_jump(usize view, u16 target, bool steady);
  void put_away(View view, Space& space);
  [[nodiscard]] bool is_global(usize view, usize index) const {
    return (global_[view][index / 64] >> index % 64 & 1) != 0;
  }
  void note_page_size(View view, u64 linear, u64 bytes);
  [[nodiscard]] u64 page_bytes_at(usize view, u64 linear) const {
    const LargePages& large = large_[view][large_kind(linear)];
    return linear >= large.first && linear <= large.last ? large.bytes : kPageSize;
  }
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
  // Where the jump caches are not empty: jumps that go with a flush of everything, and those that stay. An
  // entry that was overwritten may be in both; what it is now, steady_jump_ says.
  std::vector<u16> jumps_[kViews], steady_jumps_[kViews];
  std::vector<u64> steady_jump_[kViews];
  u64 jumps_low_[kViews] = {~u64{0}, ~u64{0}, ~u64{0}}, jumps_high_[kViews] = {};  // where they lead
  // What an address-space switch takes away: entries by their index (all, when the list is full), and jumps.
  std::vector<u32> non_global_[kViews];
  bool has_global_[kViews] = {};               // entries or jumps
  u64 global_[kViews][kTlbEntries / 64] = {};  // of the entries that are not empty
  u64 jumps_age_ = 0;
  bool has_non_global_jumps_[kViews] = {};
  // Where large pages were seen, ever, and the size of the largest. The kernel's map of all memory is made of
  // them, and itself is; between the two lie those that come and go. So this is kept for each 512 GiB apart,
  // or what counts as the same.
  struct LargePages {
    u64 first = ~u64{0}, last = 0, bytes = kPageSize;
  };
  static constexpr usize kLargeKinds = 16;
  static usize large_kind(u64 linear) { return linear >> 39 & (kLargeKinds - 1); }
  LargePages large_[kViews][kLargeKinds];
  CodePage code_pages_[2][kCodePages];  // user, kernel
  struct SteadyPage {
    u64 linear, physical, bytes;
  };
  static constexpr usize kMostSteady = 32;  // 2 MiB each: a kernel's code
  SteadyPage steady_[kMostSteady];
  usize steady_count_ = 0;
  bool steady_in_doubt_ = false;
};

}  // namespace nacre::soft
