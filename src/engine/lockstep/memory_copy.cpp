#include "engine/lockstep/memory_copy.hpp"

#include <unistd.h>

#include <cstring>

#include "x86/registers.hpp"

namespace nacre::lockstep {
namespace {

using memory::Region;
using memory::RegionKind;

// The lowest host address of RAM: all of it is one mapping.
u8* ram_base(const memory::AddressSpace& memory, u64& bytes) {
  u8* base = nullptr;
  u8* end = nullptr;
  for (usize i = 0; i < memory.region_count(); ++i) {
    const Region& region = memory.region(i);
    if (region.kind != RegionKind::Ram) continue;
    if (base == nullptr || region.host < base) base = region.host;
    if (region.host + region.size > end) end = region.host + region.size;
  }
  bytes = static_cast<u64>(end - base);
  return base;
}

u64 word(const u8* at) {
  u64 value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

}  // namespace

Result<MemoryCopy> MemoryCopy::create(const memory::AddressSpace& running) {
  u64 bytes = 0;
  u8* base = ram_base(running, bytes);
  auto ram = TRY(host::GuestRam::create(bytes));
  std::memset(ram.page_flags(), memory::PageFlag::code, bytes / kPageSize);
  return MemoryCopy(running, std::move(ram), base);
}

MemoryCopy::MemoryCopy(const memory::AddressSpace& running, host::GuestRam ram, u8* running_base)
    : running_memory_(&running),
      ram_(std::move(ram)),
      running_(running_base),
      is_table_(ram_.size() / kPageSize),
      touched_(ram_.size() / kPageSize) {}

Status MemoryCopy::map_to(memory::AddressSpace& memory) const {
  for (usize i = 0; i < running_memory_->region_count(); ++i) {
    const Region& region = running_memory_->region(i);
    if (region.kind == RegionKind::Rom) {
      if (auto status = memory.add_rom(region.base, region.size, region.host); !status) return status;
    }
    if (region.kind != RegionKind::Ram) continue;
    const u64 offset = static_cast<u64>(region.host - running_);
    if (auto status = memory.add_ram(region.base, region.size, ram_.data() + offset,
                                     ram_.page_flags() + offset / kPageSize);
        !status) {
      return status;
    }
  }
  return {};
}

void MemoryCopy::mirror(int ram_file) {
  const u64 size = ram_.size();
  u64 at = 0;
  while (at < size) {
    u64 end = size;
    if (ram_file >= 0) {
      const off_t data = lseek(ram_file, static_cast<off_t>(at), SEEK_DATA);
      if (data < 0) break;
      const off_t hole = lseek(ram_file, data, SEEK_HOLE);
      at = static_cast<u64>(data);
      end = hole < 0 ? size : static_cast<u64>(hole);
    }
    std::memcpy(ram_.data() + at, running_ + at, end - at);
    for (u64 page = at / kPageSize; page < (end + kPageSize - 1) / kPageSize; ++page) touched_[page] = true;
    at = end;
  }
}

u64 MemoryCopy::physical_of(usize page) const {
  for (usize i = 0; i < running_memory_->region_count(); ++i) {
    const Region& region = running_memory_->region(i);
    if (region.kind != RegionKind::Ram) continue;
    const u64 offset = static_cast<u64>(region.host - running_);
    if (page * kPageSize - offset < region.size) return region.base.value() + page * kPageSize - offset;
  }
  return ~u64{0};
}

usize MemoryCopy::page_of(GuestPhysical address) const {
  const Region* region = running_memory_->find(address);
  if (region == nullptr || region->kind != RegionKind::Ram) return pages();
  return (static_cast<u64>(region->host - running_) + (address - region->base)) / kPageSize;
}

bool MemoryCopy::equal(usize page, const Allowed& allowed, Found& found,
                       std::vector<Difference>* differences) const {
  const u8* mine = ram_.data() + page * kPageSize;
  const u8* its = running_ + page * kPageSize;
  if (std::memcmp(mine, its, kPageSize) == 0) return true;
  bool equal = true;
  for (usize at = 0; at < kPageSize; at += 8) {
    const u64 a = word(its + at), b = word(mine + at);
    if (a == b) continue;
    const u64 differing = a ^ b;
    // Entries of 8 bytes, or two of 4.
    constexpr u64 kAccessed = u64{x86::Pte::A} | u64{x86::Pte::A} << 32;
    constexpr u64 kDirty = u64{x86::Pte::D} | u64{x86::Pte::D} << 32;
    if (is_table_[page] && (differing & ~(kAccessed | kDirty)) == 0 && (a & b & x86::Pte::P) != 0) {
      ++((differing & kDirty) != 0 ? found.dirty_bits : found.accessed_bits);
      continue;
    }
    const u64 physical = physical_of(page) + at;
    if (physical == allowed.frame_flags && (differing & ~x86::Rflags::arithmetic) == 0) {
      found.frame_flags = differing;
      continue;
    }
    equal = false;
    if (differences == nullptr) return false;
    differences->push_back({physical, a, b});
  }
  return equal;
}

void MemoryCopy::take_over(usize page) {
  std::memcpy(ram_.data() + page * kPageSize, running_ + page * kPageSize, kPageSize);
}

bool MemoryCopy::all_equal(Found& found, std::vector<Difference>& differences) {
  bool same = true;
  for (usize page = 0; page < touched_.size(); ++page) {
    if (!touched_[page]) {
      const u8* flags = running_memory_->page_flags(GuestPhysical(physical_of(page)));
      if (flags == nullptr || (*flags & memory::PageFlag::dirty) == 0) continue;
      touched_[page] = true;
    }
    Found here;
    if (!equal(page, {}, here, &differences)) same = false;
    if (here.accessed_bits + here.dirty_bits != 0) {
      found.accessed_bits += here.accessed_bits;
      found.dirty_bits += here.dirty_bits;
      if (same) take_over(page);
    }
  }
  return same;
}

}  // namespace nacre::lockstep
