#include "engine/direct/mappings.hpp"

#include <sys/mman.h>

#include <cstring>

#include "engine/direct/page_scan.hpp"

namespace nacre::direct {

namespace {

using cpu::AccessType;

constexpr u64 kUserEnd = 0x7fff'ffff'f000;
constexpr u64 kPageMask = ~u64{kPageSize - 1};
constexpr u64 kLowest = 0x10000;       // hosts let no process map anything below (vm.mmap_min_addr)
constexpr u64 kWindow = 64;            // pages looked at around a fault
constexpr u64 kLargeWindow = 512;      // … in a large page
constexpr u64 kNewCode = 2;            // pages of code that are scanned for being next to one that is wanted
constexpr usize kMostPages = 1 << 18;  // past this everything is forgotten

}  // namespace

Mappings::Mappings(const memory::AddressSpace& memory, cpu::TranslationObserver& observer, PageClaims& claims)
    : memory_(memory), observer_(observer), claims_(claims) {
  const memory::Region* first = memory.find(GuestPhysical(0));
  if (first != nullptr && first->kind == memory::RegionKind::Ram && first->base == GuestPhysical(0))
    ram_ = first->host;
  for (u32 i = 0; i < kCopies; i++) free_copy_[free_copies_++] = static_cast<u16>(i);
}

u32 Mappings::protection(u64 linear) const {
  const auto page = pages_.find(linear & kPageMask);
  return page == pages_.end() ? 0 : page->second.protection;
}

void Mappings::set_forbidden(u64 start, u64 bytes) {
  forbidden_start_ = start;
  forbidden_bytes_ = bytes;
}

void Mappings::reset() {
  pages_.clear();
  physical_.clear();
  all_ = false;
  linear_count_ = physical_count_ = 0;
}

void Mappings::forget_page(u64 linear) {
  if (large_ || linear_count_ == std::size(forgotten_linear_)) {
    all_ = true;
  } else {
    forgotten_linear_[linear_count_++] = linear & kPageMask;
  }
}

void Mappings::forget_physical(u64 page) {
  if (physical_count_ == std::size(forgotten_physical_)) {
    all_ = all_code_ = true;
  } else {
    forgotten_physical_[physical_count_++] = page;
  }
}

bool Mappings::to_file(u64 physical, u64& offset) const {
  const memory::Region* region = memory_.find(GuestPhysical(physical));
  if (ram_ == nullptr || region == nullptr || region->kind != memory::RegionKind::Ram) return false;
  if (region->page_flags == nullptr) return false;
  offset = static_cast<u64>(region->host - ram_) + (physical - region->base.value());
  return true;
}

void Mappings::note(u64 linear, u64 physical, u32 protection) {
  drop(linear);
  pages_[linear] = {physical, protection};
  physical_.emplace(physical, linear);
}

void Mappings::drop(u64 linear) {
  const auto known = pages_.find(linear);
  if (known == pages_.end()) return;
  const auto [begin, end] = physical_.equal_range(known->second.physical);
  for (auto it = begin; it != end; ++it) {
    if (it->second == linear) {
      physical_.erase(it);
      break;
    }
  }
  pages_.erase(known);
}

u32 Mappings::catch_up(Order* orders) {
  u32 count = 0;
  for (u32 i = 0; i < physical_count_; i++) forget_code(forgotten_physical_[i]);
  if (all_code_) {
    while (!code_.empty()) forget_code(code_.begin()->first);
    all_code_ = false;
  }
  if (pages_.size() > kMostPages) all_ = true;
  // Pages that many processes share are rare; many of them at once is a case for forgetting everything.
  usize singles = linear_count_;
  for (u32 i = 0; i < physical_count_; i++) singles += physical_.count(forgotten_physical_[i]);
  if (singles > kMaxForgotten) all_ = true;
  if (all_) {
    if (!pages_.empty()) {
      const u64 after = forbidden_start_ + forbidden_bytes_;
      orders[count++] = {0, forbidden_start_, 0, 0, 0};
      orders[count++] = {after, kUserEnd - after, 0, 0, 0};
    }
    pages_.clear();
    physical_.clear();
    large_ = false;
  } else {
    const auto unmap = [&](u64 linear) {
      if (pages_.find(linear) == pages_.end()) return;
      orders[count++] = {linear, kPageSize, 0, 0, 0};
      drop(linear);
    };
    for (u32 i = 0; i < linear_count_; i++) unmap(forgotten_linear_[i]);
    for (u32 i = 0; i < physical_count_; i++) {
      for (auto it = physical_.find(forgotten_physical_[i]); it != physical_.end();
           it = physical_.find(forgotten_physical_[i])) {
        unmap(it->second);
      }
    }
  }
  all_ = false;
  linear_count_ = physical_count_ = 0;
  return count;
}

// --- code ---------------------------------------------------------------------------------------------

void Mappings::forget_code(u64 physical) {
  const auto known = code_.find(physical);
  if (known == code_.end()) return;
  if (known->second >= 0) free_copy_[free_copies_++] = static_cast<u16>(known->second);
  code_.erase(known);
}

// An instruction may begin in one page and end in the next.
bool Mappings::seam_is_clean(u64 first, u64 second) const {
  u8 last[kSeam] = {}, next[kSeam] = {};
  return memory_.read(GuestPhysical(first + kPageSize - kSeam), last, kSeam) &&
         memory_.read(GuestPhysical(second), next, kSeam) && !seam_holds_refused(last, next);
}

// Scans a page and makes its copy, if it needs one. What may be written may be data, which is read where it
// runs.
i32 Mappings::look_at_code(u64 physical, const u8* host, bool writable) {
  const PageVerdict verdict = scan_page(std::span<const u8, kPageSize>(host, kPageSize));
  i32 number = kAsItIs;
  if (!verdict.may_run || (verdict.patches != 0 && (writable || copies_ == nullptr || free_copies_ == 0))) {
    number = kNever;
  } else if (verdict.patches != 0) {
    number = free_copy_[--free_copies_];
    u8* copy = copies_ + static_cast<u64>(number) * kPageSize;
    std::memcpy(copy, host, kPageSize);
    for (u32 i = 0; i < verdict.patches; i++) copy[verdict.patch[i]] = kPatch;
  }
  code_[physical] = number;
  return number;
}

bool Mappings::may_run(u64 linear, u64 physical, bool writable, Source& source) {
  u8* flags = memory_.page_flags(GuestPhysical(physical));
  const u8* host = memory_.host(GuestPhysical(physical), false);
  if (flags == nullptr || host == nullptr) return false;
  const auto runs = [this](u64 neighbour) {
    const auto page = pages_.find(neighbour);
    return page != pages_.end() && (page->second.protection & PROT_EXEC) != 0 ? page->second.physical
                                                                              : ~u64{0};
  };
  const u64 before = runs(linear - kPageSize), after = runs(linear + kPageSize);
  if (before != ~u64{0} && !seam_is_clean(before, physical)) return false;
  if (after != ~u64{0} && !seam_is_clean(physical, after)) return false;
  // Where else it is mapped it must not be written.
  bool runs_elsewhere = false;
  const auto [begin, end] = physical_.equal_range(physical);
  for (auto it = begin; it != end; ++it) {
    if (it->second == linear) continue;
    const u32 protection = pages_[it->second].protection;
    if ((protection & PROT_WRITE) != 0) return false;
    runs_elsewhere |= (protection & PROT_EXEC) != 0;
  }
  // Before the code is read.
  if (claims_.claim_code(GuestPhysical(physical), host, flags)) {
    forget_code(physical);
    // Somebody has just written it, and is about to tell us. Its copy may become another page's.
    if (runs_elsewhere) forget_physical(physical);
  }
  const auto known = code_.find(physical);
  const i32 copy = known != code_.end() ? known->second : look_at_code(physical, host, writable);
  if (copy == kNever) return false;
  if (copy >= 0) {
    source.file = kCopyFile;
    source.offset = static_cast<u64>(copy) * kPageSize;
  }
  return true;
}

Mappings::Source Mappings::source(u64 linear, const cpu::Translation& page, AccessType type) {
  const u64 physical = page.address.page().value();
  Source source;
  if (!to_file(physical, source.offset)) return {};
  u8* flags = memory_.page_flags(GuestPhysical(physical));
  if (type == AccessType::Execute && page.executable) {
    if (may_run(linear, physical, page.writable, source)) source.protection = PROT_READ | PROT_EXEC;
  } else {
    source.protection = page.writable && claims_.claim_write(flags) ? PROT_READ | PROT_WRITE : PROT_READ;
  }
  return source;
}

// --- faults -------------------------------------------------------------------------------------------

u32 Mappings::serve(const cpu::State& state, u64 address, AccessType type, Order* orders, u32 room) {
  const u64 wanted = address & kPageMask;
  if (wanted < kLowest || wanted >= kUserEnd || forbidden(wanted)) return 0;
  const auto walked = cpu::walk(state, memory_, &observer_, GuestLinear(address), type, cpu::Privilege::User);
  if (!walked) return 0;

  u32 count = 0;
  const auto add = [&](u64 linear, u64 physical, const Source& from) {
    note(linear, physical, from.protection);
    if (count != 0) {
      Order& last = orders[count - 1];
      if (last.address + last.bytes == linear && last.offset + last.bytes == from.offset &&
          last.protection == from.protection && last.file == static_cast<u32>(from.file)) {
        last.bytes += kPageSize;
        return;
      }
    }
    orders[count++] = {linear, kPageSize, from.offset, from.protection, static_cast<u32>(from.file)};
  };

  // The page itself first: whether it can be had at all.
  if (walked.value().page_bytes != kPageSize) large_ = true;
  const Source own = source(wanted, walked.value(), type);
  const u32 needed = type == AccessType::Execute ? PROT_EXEC
                     : type == AccessType::Write ? PROT_WRITE
                                                 : PROT_READ;
  if ((own.protection & needed) == 0) return 0;

  // Neighbours: in a large page there are more of them, and they cost one order.
  const u64 window =
      walked.value().page_bytes != kPageSize && type != AccessType::Execute ? kLargeWindow : kWindow;
  const u64 first = wanted & ~(window * kPageSize - 1);
  for (u64 i = 0; i < window; i++) {
    const u64 linear = first + i * kPageSize;
    if (linear == wanted) {
      add(linear, walked.value().address.page().value(), own);
      continue;
    }
    // Room for the wanted page must remain.
    if (count + (linear < wanted ? 2 : 1) > room) continue;
    if (linear < kLowest || linear >= kUserEnd || forbidden(linear)) continue;
    const auto known = pages_.find(linear);
    if (known != pages_.end() && (known->second.protection & needed) != 0) continue;
    const bool near = linear - wanted <= kNewCode * kPageSize;
    const auto other =
        cpu::walk(state, memory_, &observer_, GuestLinear(linear), AccessType::Read, cpu::Privilege::User);
    if (!other || (type == AccessType::Execute && !other.value().executable)) continue;
    const u64 physical = other.value().address.page().value();
    if (type == AccessType::Execute && !near && !code_.contains(physical)) continue;
    const Source from = source(linear, other.value(), type);
    if (from.protection == 0 || (known != pages_.end() && known->second.protection == from.protection &&
                                 known->second.physical == physical)) {
      continue;
    }
    if (other.value().page_bytes != kPageSize) large_ = true;
    add(linear, physical, from);
  }
  return count;
}

}  // namespace nacre::direct
