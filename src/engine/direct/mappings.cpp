#include "engine/direct/mappings.hpp"

#include <cpuid.h>
#include <sys/mman.h>

#include "engine/direct/page_scan.hpp"

namespace nacre::direct {

namespace {

using cpu::AccessType;
using memory::PageFlag;

constexpr u64 kUserEnd = 0x7fff'ffff'f000;
constexpr u64 kPageMask = ~u64{kPageSize - 1};
constexpr u64 kWindow = 64;          // pages looked at around a fault
constexpr usize kMostPages = 1 << 18;  // past this everything is forgotten (and the host's limit of mappings kept)

bool host_umip() {
  u32 a = 0, b = 0, c = 0, d = 0;
  constexpr u32 kUmip = 1 << 2;
  static const bool has = __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (c & kUmip) != 0;
  return has;
}

}  // namespace

Mappings::Mappings(const memory::AddressSpace& memory, cpu::TranslationObserver& observer, CodeGuard& guard)
    : memory_(memory), observer_(observer), guard_(guard) {
  const memory::Region* first = memory.find(GuestPhysical(0));
  if (first != nullptr && first->kind == memory::RegionKind::Ram && first->base == GuestPhysical(0)) ram_ = first->host;
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
    all_ = true;
    clean_.clear();
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
  for (u32 i = 0; i < physical_count_; i++) clean_.erase(forgotten_physical_[i]);
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

// An instruction may begin in one page and end in the next.
bool Mappings::seam_is_clean(u64 first, u64 second) const {
  u8 bytes[2 * kScanOverlap] = {};
  if (!memory_.read(GuestPhysical(first + kPageSize - kScanOverlap), bytes, kScanOverlap)) return false;
  if (!memory_.read(GuestPhysical(second), bytes + kScanOverlap, kScanOverlap)) return false;
  return !holds_refused(bytes, umip_);
}

bool Mappings::may_run(u64 linear, u64 physical) {
  u8* flags = memory_.page_flags(GuestPhysical(physical));
  const u8* host = memory_.host(GuestPhysical(physical), false);
  if (flags == nullptr || host == nullptr) return false;
  const auto runs = [this](u64 neighbour) {
    const auto page = pages_.find(neighbour);
    return page != pages_.end() && (page->second.protection & PROT_EXEC) != 0 ? page->second.physical : ~u64{0};
  };
  const u64 before = runs(linear - kPageSize), after = runs(linear + kPageSize);
  if (before != ~u64{0} && !seam_is_clean(before, physical)) return false;
  if (after != ~u64{0} && !seam_is_clean(physical, after)) return false;
  if ((*flags & PageFlag::code) != 0 && clean_.contains(physical)) return true;
  if (holds_refused({host, kPageSize}, umip_)) return false;
  // Where else it is mapped it must not be written.
  const auto [begin, end] = physical_.equal_range(physical);
  for (auto it = begin; it != end; ++it) {
    if (it->second != linear && (pages_[it->second].protection & PROT_WRITE) != 0) return false;
  }
  if ((*flags & PageFlag::code) == 0) {
    *flags = static_cast<u8>(*flags | PageFlag::code);
    guard_.page_holds_code(host);
  }
  clean_[physical] = true;
  return true;
}

u32 Mappings::rights(u64 linear, const cpu::Translation& page, AccessType type) {
  const u64 physical = page.address.page().value();
  if (type == AccessType::Execute && page.executable) {
    return may_run(linear, physical) ? PROT_READ | PROT_EXEC : 0;
  }
  u8* flags = memory_.page_flags(GuestPhysical(physical));
  if (flags == nullptr) return 0;
  if (!page.writable || (*flags & PageFlag::code) != 0) return PROT_READ;
  *flags = static_cast<u8>(*flags | PageFlag::dirty);
  return PROT_READ | PROT_WRITE;
}

u32 Mappings::serve(const cpu::State& state, u64 address, AccessType type, Order* orders, u32 room) {
  const u64 wanted = address & kPageMask;
  if (wanted >= kUserEnd || forbidden(wanted)) return 0;
  const auto walked = cpu::walk(state, memory_, &observer_, GuestLinear(address), type, cpu::Privilege::User);
  if (!walked) return 0;
  const bool umip = host_umip() && (state.cr4 & x86::Cr4::UMIP) != 0;
  if (umip != umip_) clean_.clear();
  umip_ = umip;

  u32 count = 0;
  const auto add = [&](u64 linear, u64 physical, u64 offset, u32 protection) {
    if (count != 0) {
      Order& last = orders[count - 1];
      if (last.address + last.bytes == linear && last.offset + last.bytes == offset && last.protection == protection) {
        last.bytes += kPageSize;
        note(linear, physical, protection);
        return true;
      }
    }
    if (count == room) return false;
    orders[count++] = {linear, kPageSize, offset, protection, 0};
    note(linear, physical, protection);
    return true;
  };

  if (walked.value().page_bytes != kPageSize) large_ = true;
  // The page itself first: whether it can be had at all.
  u64 offset = 0;
  const u64 physical = walked.value().address.page().value();
  if (!to_file(physical, offset)) return 0;
  const u32 own = rights(wanted, walked.value(), type);
  const u32 needed = type == AccessType::Execute ? PROT_EXEC : type == AccessType::Write ? PROT_WRITE : PROT_READ;
  if ((own & needed) == 0) return 0;

  const u64 window = wanted & ~(kWindow * kPageSize - 1);
  for (u64 i = 0; i < kWindow; i++) {
    const u64 linear = window + i * kPageSize;
    if (linear == wanted) {
      if (!add(linear, physical, offset, own)) return count;
      continue;
    }
    // Room for the wanted page must remain.
    if (linear >= kUserEnd || forbidden(linear) || (linear < wanted && count + 2 > room)) continue;
    const auto known = pages_.find(linear);
    if (known != pages_.end() && (known->second.protection & needed) != 0) continue;
    const auto other = cpu::walk(state, memory_, &observer_, GuestLinear(linear), AccessType::Read, cpu::Privilege::User);
    if (!other) continue;
    const u64 other_physical = other.value().address.page().value();
    u64 other_offset = 0;
    if (!to_file(other_physical, other_offset)) continue;
    if (type == AccessType::Execute && !other.value().executable) continue;
    if (other.value().page_bytes != kPageSize) large_ = true;
    const u32 protection = rights(linear, other.value(), type);
    if (protection == 0 || (known != pages_.end() && known->second.protection == protection &&
                            known->second.physical == other_physical)) {
      continue;
    }
    if (!add(linear, other_physical, other_offset, protection)) break;
  }
  return count;
}

}  // namespace nacre::direct
