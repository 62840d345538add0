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

// A page that can never be looked up at this index.
u64 empty_tag(usize index) {
  return (u64{index} ^ 1) << kPageShift;
}

usize tlb_index(u64 linear) {
  return (linear >> kPageShift) & (kTlbEntries - 1);
}

}  // namespace

Tlb::Tlb(Context& context, memory::AddressSpace& memory, cpu::TranslationObserver& observer, Crew& crew, unsigned me)
    : context_(context), memory_(memory), observer_(observer), crew_(crew), me_(me) {
  for (unsigned v = 0; v < kViews; v++) {
    for (usize i = 0; i < kTlbEntries; i++) clear_entry(static_cast<View>(v), i);
    clear_stack(static_cast<View>(v));
    // Never grows afterwards: growing would use vector registers, which may hold the guest's values.
    filled_[v].reserve(kManyFilled);
    non_global_[v].reserve(kManyFilled);
    jumps_[v].reserve(kJumpCacheEntries);
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
  if (walked.value().global) {
    has_global_[static_cast<usize>(view)] = true;
  } else if (auto& list = non_global_[static_cast<usize>(view)]; list.size() < kManyFilled) {
    list.push_back(static_cast<u32>(index));
  }
  note_page_size(view, walked.value().page_bytes);
  return true;
}

void Tlb::note_page_size(View view, u64 bytes) {
  if (bytes > largest_page_[static_cast<usize>(view)]) largest_page_[static_cast<usize>(view)] = bytes;
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
  cached = {page, physical.value(), memory_.host(physical, false), flags, walked.value().global};
  note_page_size(view, walked.value().page_bytes);
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

void Tlb::remember_jump(View view, u64 target, u64 code, bool global) {
  const usize v = static_cast<usize>(view);
  u64& entry = context_.jump_cache[v][target & (kJumpCacheEntries - 1)];
  if (entry == jump_miss_) jumps_[v].push_back(static_cast<u16>(target));
  entry = code;
  if (target < jumps_low_[v]) jumps_low_[v] = target;
  if (target > jumps_high_[v]) jumps_high_[v] = target;
  (global ? has_global_ : has_non_global_jumps_)[v] = true;
}

void Tlb::forget_jumps(View view) {
  const usize v = static_cast<usize>(view);
  for (const u16 target : jumps_[v]) context_.jump_cache[v][target] = jump_miss_;
  jumps_[v].clear();
  jumps_low_[v] = ~u64{0};
  jumps_high_[v] = 0;
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
  forget_jumps(view);
  non_global_[v].clear();
  has_global_[v] = false;
  has_non_global_jumps_[v] = false;
  for (CodePage& page : code_pages_[view == View::User ? 0 : 1]) page.linear = 1;
}

void Tlb::flush_all() {
  for (unsigned v = 0; v < kViews; v++) clear_view(static_cast<View>(v));
}

void Tlb::flush_non_global() {
  // User pages are hardly ever global, and kernel pages hardly ever not. But a kernel without SMAP sees both in
  // one view.
  for (unsigned v = 0; v < kViews; v++) {
    const View view = static_cast<View>(v);
    if (!has_global_[v] || non_global_[v].size() == kManyFilled) {
      clear_view(view);
      continue;
    }
    if (!non_global_[v].empty()) clear_stack(view);
    for (const u32 index : non_global_[v]) clear_entry(view, index);
    non_global_[v].clear();
    if (has_non_global_jumps_[v]) forget_jumps(view);
    has_non_global_jumps_[v] = false;
  }
  for (auto& pages : code_pages_) {
    for (CodePage& page : pages) {
      if (!page.global) page.linear = 1;
    }
  }
}

// INVLPG drops every translation made from the page, which may have been a large one: SDM vol. 3, 4.10.4.1.
// How large is not known any more, so all that a page of the largest size seen would hold goes.
u64 Tlb::flush_page(u64 linear) {
  u64 widest = kPageSize;
  for (unsigned v = 0; v < kViews; v++) {
    const u64 bytes = largest_page_[v];
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
    if (jumps_low_[v] <= first + (bytes - 1) && jumps_high_[v] >= first) forget_jumps(static_cast<View>(v));
    for (CodePage& page : code_pages_[v == static_cast<unsigned>(View::User) ? 0 : 1]) {
      if (inside(page.linear)) page.linear = 1;
    }
  }
  return widest;
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
