#include "engine/soft/tlb.hpp"

#include "x86/registers.hpp"

namespace nacre::soft {

namespace {

bool is_canonical(u64 linear) {
  return static_cast<u64>(static_cast<i64>(linear << 16) >> 16) == linear;
}

// No page is non-canonical, so nothing is ever found under this tag.
constexpr u64 kNowhere = u64{1} << 63;

cpu::Privilege privilege_of(View view) {
  return view == View::User ? cpu::Privilege::User : cpu::Privilege::Supervisor;
}

usize tlb_index(u64 linear) {
  return (linear >> kPageShift) & (kTlbEntries - 1);
}

}  // namespace

Tlb::Tlb(Context& context, memory::AddressSpace& memory, cpu::TranslationObserver& observer, Crew& crew,
         unsigned me)
    : context_(context), memory_(memory), observer_(observer), crew_(crew), me_(me) {
  for (unsigned v = 0; v < kViews; v++) {
    for (usize i = 0; i < kTlbEntries; i++) clear_entry(static_cast<View>(v), i);
    clear_stack(static_cast<View>(v));
    // Never grows afterwards: growing would use vector registers, which may hold the guest's values.
    filled_[v].reserve(kManyFilled);
    non_global_[v].reserve(kManyFilled);
    jumps_[v].reserve(kJumpCacheEntries);
    steady_jumps_[v].reserve(kJumpCacheEntries);
    steady_jump_[v].assign(kJumpCacheEntries / 64, 0);
  }
}

void Tlb::set_jump_miss(u64 code) {
  jump_miss_ = code;
  for (auto& cache : context_.jump_cache) {
    for (u64& entry : cache) entry = code;
  }
}

void Tlb::clear_entry(View view, usize index) {
  TlbEntry& entry = context_.tlb[static_cast<usize>(view)][index];
  entry.read_tag = entry.write_tag = empty_tag(index);
  entry.host_page = 0;
}

bool Tlb::fill(View view, u64 linear, bool write) {
  if (!is_canonical(linear)) return false;
  const auto walked = cpu::walk(context_.state, memory_, &observer_, GuestLinear(linear),
                                write ? cpu::AccessType::Write : cpu::AccessType::Read, privilege_of(view));
  if (!walked) return false;
  const GuestPhysical physical = walked.value().address.page();
  u8* host = memory_.host(physical, write);
  if (host == nullptr) return false;
  if (write) {
    u8* flags = memory_.page_flags(physical);
    if (flags == nullptr || !crew_.claim_write(me_, flags)) return false;
  }
  const u64 page = linear & ~u64{kPageSize - 1};
  const usize index = tlb_index(linear);
  TlbEntry& entry = context_.tlb[static_cast<usize>(view)][index];
  const u64 host_page = reinterpret_cast<u64>(host);
  if (entry.host_page != host_page || (entry.read_tag != page && entry.write_tag != page)) {
    clear_entry(view, index);
    entry.host_page = host_page;
    entry.addend = host_page - page;
    if (filled_[static_cast<usize>(view)].size() < kManyFilled) {
      filled_[static_cast<usize>(view)].push_back(static_cast<u32>(index));
    }
  }
  entry.read_tag = page;
  if (write) entry.write_tag = page;
  u64& global = global_[static_cast<usize>(view)][index / 64];
  const u64 bit = u64{1} << index % 64;
  global = walked.value().global ? global | bit : global & ~bit;
  if (walked.value().global) {
    has_global_[static_cast<usize>(view)] = true;
  } else if (auto& list = non_global_[static_cast<usize>(view)]; list.size() < kManyFilled) {
    list.push_back(static_cast<u32>(index));
  }
  note_page_size(view, linear, walked.value().page_bytes);
  return true;
}

void Tlb::note_page_size(View view, u64 linear, u64 bytes) {
  if (bytes == kPageSize) return;
  LargePages& large = large_[static_cast<usize>(view)][large_kind(linear)];
  const u64 first = linear & ~(bytes - 1);
  if (first < large.first) large.first = first;
  if (first + (bytes - 1) > large.last) large.last = first + (bytes - 1);
  if (bytes > large.bytes) large.bytes = bytes;
}

const Tlb::CodePage* Tlb::code_page(View view, u64 linear) {
  CodePage& cached = code_pages_[view == View::User ? 0 : 1][code_index(linear)];
  const u64 page = linear & ~u64{kPageSize - 1};
  if (cached.linear == page) return &cached;
  if (!is_canonical(linear)) return nullptr;
  const auto walked = cpu::walk(context_.state, memory_, &observer_, GuestLinear(linear),
                                cpu::AccessType::Execute, privilege_of(view));
  if (!walked) return nullptr;
  const GuestPhysical physical = walked.value().address.page();
  u8* flags = memory_.page_flags(physical);
  if (flags == nullptr) return nullptr;
  Lasting lasting = walked.value().global ? Lasting::Global : Lasting::Space;
  if (view != View::User && is_steady(linear, walked.value())) lasting = Lasting::Steady;
  cached = {page, physical.value(), memory_.host(physical, false), flags, lasting};
  note_page_size(view, linear, walked.value().page_bytes);
  return &cached;
}

bool Tlb::fill_stack(View view, u64 linear, bool write) {
  if (!fill(view, linear, write)) return false;
  TlbEntry& entry = context_.stack_page[static_cast<usize>(view)];
  entry = context_.tlb[static_cast<usize>(view)][tlb_index(linear)];
  // The TLB's empty tag is one that its index rules out; here there is no index.
  if (entry.write_tag != entry.read_tag) entry.write_tag = kNowhere;
  return true;
}

void Tlb::clear_stack(View view) {
  TlbEntry& entry = context_.stack_page[static_cast<usize>(view)];
  entry = {kNowhere, kNowhere, 0, 0};
}

// Pages that a kernel's code is in: few and large, global, and the same until it ends. A flush of everything,
// which a kernel asks for to have something else forgotten, would make all of its code be looked for anew.
bool Tlb::is_steady(u64 linear, const cpu::Translation& walked) {
  if (!walked.global || walked.page_bytes == kPageSize) return false;
  const u64 inside = walked.page_bytes - 1;
  const SteadyPage page = {linear & ~inside, walked.address.value() & ~inside, walked.page_bytes};
  for (usize i = 0; i < steady_count_; i++) {
    const SteadyPage& known = steady_[i];
    if (known.linear == page.linear) return known.physical == page.physical && known.bytes == page.bytes;
  }
  if (steady_count_ == kMostSteady) return false;
  steady_[steady_count_++] = page;
  return true;
}

bool Tlb::steady_pages_stand() {
  steady_in_doubt_ = false;
  for (usize i = 0; i < steady_count_; i++) {
    const SteadyPage& page = steady_[i];
    const auto walked = cpu::glance(context_.state, memory_, GuestLinear(page.linear),
                                    cpu::AccessType::Execute, cpu::Privilege::Supervisor);
    if (walked && walked.value().global && walked.value().page_bytes == page.bytes &&
        walked.value().address.value() == page.physical) {
      continue;
    }
    steady_count_ = 0;
    forget_jumps(View::Kernel);
    forget_jumps(View::KernelUserAccess);
    for (CodePage& code : code_pages_[1]) code.linear = 1;
    return false;
  }
  return true;
}

// One that was forgotten alone is listed already, perhaps more than once.
void Tlb::list_jump(usize view, u16 target, bool steady) {
  auto& list = (steady ? steady_jumps_ : jumps_)[view];
  if (list.size() == kJumpCacheEntries) clear_jumps(static_cast<View>(view));
  list.push_back(target);
  const u64 bit = u64{1} << target % 64;
  u64& bits = steady_jump_[view][target / 64];
  bits = steady ? bits | bit : bits & ~bit;
}

void Tlb::remember_jump(View view, u64 target, u64 code, Lasting lasting) {
  const usize v = static_cast<usize>(view);
  const u16 index = static_cast<u16>(target & (kJumpCacheEntries - 1));
  u64& entry = context_.jump_cache[v][index];
  const bool steady = lasting == Lasting::Steady;
  const bool was_steady = (steady_jump_[v][index / 64] >> index % 64 & 1) != 0;
  if (entry == jump_miss_ || was_steady != steady) list_jump(v, index, steady);
  entry = code;
  if (target < jumps_low_[v]) jumps_low_[v] = target;
  if (target > jumps_high_[v]) jumps_high_[v] = target;
  (lasting == Lasting::Space ? has_non_global_jumps_ : has_global_)[v] = true;
}

void Tlb::forget_jumps(View view) {
  jumps_age_++;
  clear_jumps(view);
}

void Tlb::forget_jump(View view, u64 target, u64 code) {
  if (view == View::User) jumps_age_++;  // spaces that are away may hold it as well
  u64& entry = context_.jump_cache[static_cast<usize>(view)][target & (kJumpCacheEntries - 1)];
  if (entry == code) entry = jump_miss_;  // and stays listed
}

void Tlb::clear_jumps(View view) {
  const usize v = static_cast<usize>(view);
  for (const u16 target : steady_jumps_[v]) {
    context_.jump_cache[v][target] = jump_miss_;
    steady_jump_[v][target / 64] = 0;
  }
  steady_jumps_[v].clear();
  clear_unsteady_jumps(view);
}

void Tlb::clear_unsteady_jumps(View view) {
  const usize v = static_cast<usize>(view);
  for (const u16 target : jumps_[v]) {
    if ((steady_jump_[v][target / 64] >> target % 64 & 1) == 0) context_.jump_cache[v][target] = jump_miss_;
  }
  jumps_[v].clear();
  if (!steady_jumps_[v].empty()) return;
  jumps_low_[v] = ~u64{0};
  jumps_high_[v] = 0;
}

// A target is known by its low 16 bits, which is enough to spare most of those in other pages.
void Tlb::clear_jumps_to(View view, u64 linear, u64 bytes) {
  if (bytes > kPageSize) return clear_jumps(view);
  const usize v = static_cast<usize>(view);
  for (auto* list : {&jumps_[v], &steady_jumps_[v]}) {
    usize kept = 0;
    for (usize i = 0; i < list->size(); i++) {
      const u16 target = (*list)[i];
      if (((target ^ linear) & (kJumpCacheEntries - kPageSize)) == 0) {
        context_.jump_cache[v][target] = jump_miss_;
      } else {
        (*list)[kept++] = target;
      }
    }
    list->resize(kept);
  }
}

void Tlb::clear_view(View view) {
  const usize v = static_cast<usize>(view);
  if (filled_[v].size() < kManyFilled) {
    for (const u32 index : filled_[v]) clear_entry(view, index);
  } else {
    for (usize i = 0; i < kTlbEntries; i++) clear_entry(view, i);
  }
  filled_[v].clear();
  clear_stack(view);
  clear_unsteady_jumps(view);
  non_global_[v].clear();
  has_global_[v] = !steady_jumps_[v].empty();
  has_non_global_jumps_[v] = false;
  for (CodePage& page : code_pages_[view == View::User ? 0 : 1]) {
    if (page.lasting != Lasting::Steady) page.linear = 1;
  }
}

void Tlb::flush_all() {
  for (unsigned v = 0; v < kViews; v++) clear_view(static_cast<View>(v));
  steady_in_doubt_ = steady_count_ != 0;
}

void Tlb::flush_non_global() {
  // User pages are hardly ever global, and kernel pages hardly ever not. But a kernel without SMAP sees both
  // in one view.
  for (unsigned v = 0; v < kViews; v++) {
    const View view = static_cast<View>(v);
    if (!has_global_[v] || non_global_[v].size() == kManyFilled) {
      clear_view(view);
      continue;
    }
    if (!non_global_[v].empty()) clear_stack(view);
    for (const u32 index : non_global_[v]) clear_entry(view, index);
    non_global_[v].clear();
    if (has_non_global_jumps_[v]) clear_unsteady_jumps(view);
    has_non_global_jumps_[v] = false;
  }
  for (auto& pages : code_pages_) {
    for (CodePage& page : pages) {
      if (page.lasting == Lasting::Space) page.linear = 1;
    }
  }
}

// What is at an index now may be newer than what the list remembers, or be there twice.
void Tlb::put_away(View view, Space& space) {
  const usize v = static_cast<usize>(view);
  for (const u32 index : non_global_[v]) {
    const TlbEntry& entry = context_.tlb[v][index];
    if (entry.read_tag == empty_tag(index) || is_global(v, index)) continue;
    if (space.entries.size() == Space::kMostEntries) break;
    space.entries.push_back({entry, static_cast<u16>(index), static_cast<u8>(v)});
    clear_entry(view, index);
  }
  // Jumps of the kernel are global, or few.
  if (view != View::User || has_global_[v]) return;
  for (const u16 target : jumps_[v]) {
    if (space.jumps.size() == Space::kMostJumps) break;
    const u64 code = context_.jump_cache[v][target];
    if (code != jump_miss_) space.jumps.push_back({code, target});
  }
  space.jumps_low = jumps_low_[v];
  space.jumps_high = jumps_high_[v];
  space.jumps_age = jumps_age_;
}

void Tlb::flush_non_global_into(Space& space) {
  for (unsigned v = 0; v < kViews; v++) {
    if (non_global_[v].size() < kManyFilled) put_away(static_cast<View>(v), space);
  }
  flush_non_global();
}

void Tlb::take_back(const Space& space) {
  for (const Space::Entry& saved : space.entries) {
    TlbEntry& entry = context_.tlb[saved.view][saved.index];
    entry = saved.entry;
    global_[saved.view][saved.index / 64] &= ~(u64{1} << saved.index % 64);
    if (filled_[saved.view].size() < kManyFilled) filled_[saved.view].push_back(saved.index);
    if (non_global_[saved.view].size() < kManyFilled) non_global_[saved.view].push_back(saved.index);
  }
  if (space.jumps_age != jumps_age_) return;
  constexpr usize v = static_cast<usize>(View::User);
  for (const Space::Jump& jump : space.jumps) {
    u64& entry = context_.jump_cache[v][jump.target];
    if (entry == jump_miss_) list_jump(v, jump.target, false);
    entry = jump.code;
    has_non_global_jumps_[v] = true;
  }
  if (!space.jumps.empty()) {
    if (space.jumps_low < jumps_low_[v]) jumps_low_[v] = space.jumps_low;
    if (space.jumps_high > jumps_high_[v]) jumps_high_[v] = space.jumps_high;
  }
}

// INVLPG drops every translation made from the page, which may have been a large one: SDM vol. 3, 4.10.4.1.
// How large is not known any more, so where large ones were all that the largest would hold goes.
Tlb::Dropped Tlb::flush_page(u64 linear) {
  Dropped dropped = {kPageSize, kPageSize};
  for (unsigned v = 0; v < kViews; v++) {
    const u64 bytes = page_bytes_at(v, linear);
    u64& widest = static_cast<View>(v) == View::User ? dropped.user : dropped.kernel;
    if (bytes > widest) widest = bytes;
    const auto inside = [&](u64 page) { return ((page ^ linear) & ~(bytes - 1)) == 0; };
    const auto drop = [&](usize index) {
      const TlbEntry& entry = context_.tlb[v][index];
      if (inside(entry.read_tag) || inside(entry.write_tag)) clear_entry(static_cast<View>(v), index);
    };
    if (bytes == kPageSize) {
      drop(tlb_index(linear));
    } else {
      for (usize i = 0; i < kTlbEntries; i++) drop(i);
    }
    clear_stack(static_cast<View>(v));
    // Most often a page of data, far from all code.
    const u64 first = linear & ~(bytes - 1);
    if (jumps_low_[v] <= first + (bytes - 1) && jumps_high_[v] >= first)
      clear_jumps_to(static_cast<View>(v), linear, bytes);
    auto& pages = code_pages_[static_cast<View>(v) == View::User ? 0 : 1];
    if (bytes == kPageSize) {
      CodePage& page = pages[code_index(linear)];
      if (inside(page.linear)) page.linear = 1;
    } else {
      for (CodePage& page : pages) {
        if (inside(page.linear)) page.linear = 1;
      }
    }
  }
  return dropped;
}

void Tlb::protect_code_page(const u8* host_page) {
  const u64 host = reinterpret_cast<u64>(host_page);
  for (unsigned v = 0; v < kViews; v++) {
    clear_stack(static_cast<View>(v));
    const auto forbid = [&](usize index) {
      TlbEntry& entry = context_.tlb[v][index];
      if (entry.host_page == host) entry.write_tag = empty_tag(index);
    };
    if (filled_[v].size() < kManyFilled) {
      for (const u32 index : filled_[v]) forbid(index);
    } else {
      for (usize i = 0; i < kTlbEntries; i++) forbid(i);
    }
  }
}

}  // namespace nacre::soft
