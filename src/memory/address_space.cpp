#include "memory/address_space.hpp"

#include "base/copy.hpp"

namespace nacre::memory {
namespace {

const char* name_of(RegionKind kind) {
  switch (kind) {
    case RegionKind::Ram:
      return "RAM";
    case RegionKind::Rom:
      return "ROM";
    case RegionKind::Mmio:
      return "MMIO";
  }
  return "?";
}

Error& append_region(Error& error, const Region& region) {
  error.append(name_of(region.kind)).append(" at ").append_number(region.base.value(), 16);
  return error.append(" of ").append_number(region.size, 16).append(" bytes");
}

// Flags are set by any thread that writes to the page, so a plain |= could lose another's bit.
void mark_dirty(const Region& region, u64 offset, usize bytes) {
  if (region.page_flags == nullptr || bytes == 0) return;
  const u64 last = (offset + bytes - 1) >> kPageShift;
  for (u64 page = offset >> kPageShift; page <= last; ++page) {
    u8* flags = region.page_flags + page;
    if ((__atomic_load_n(flags, __ATOMIC_RELAXED) & PageFlag::dirty) != 0) continue;
    __atomic_fetch_or(flags, PageFlag::dirty, __ATOMIC_RELAXED);
  }
}

// How much of [address, address + bytes) lies in the region.
usize part_in(const Region& region, GuestPhysical address, usize bytes) {
  const u64 left = region.size - (address - region.base);
  return left < bytes ? static_cast<usize>(left) : bytes;
}

bool in_one_window(const Region* region, GuestPhysical address, unsigned size) {
  return region != nullptr && region->kind == RegionKind::Mmio && part_in(*region, address, size) == size;
}

}  // namespace

Status AddressSpace::add_ram(GuestPhysical base, u64 size, u8* host, u8* page_flags) {
  return add({.base = base, .size = size, .kind = RegionKind::Ram, .host = host, .page_flags = page_flags});
}

Status AddressSpace::add_rom(GuestPhysical base, u64 size, u8* host, u8* page_flags) {
  return add({.base = base, .size = size, .kind = RegionKind::Rom, .host = host, .page_flags = page_flags});
}

Status AddressSpace::add_mmio(GuestPhysical base, u64 size, MmioHandler& handler) {
  return add({.base = base, .size = size, .kind = RegionKind::Mmio, .handler = &handler});
}

Status AddressSpace::add(const Region& region) {
  Error error("memory map: ");
  const bool aligned = region.base.page_offset() == 0 && region.size % kPageSize == 0;
  if (!aligned || region.size == 0 || region.base.value() + (region.size - 1) < region.base.value()) {
    return append_region(error, region)
        .append(" must be whole pages, at least one, and end below 2^64; change its base or size");
  }
  if (count_ == kMaxRegions) {
    return append_region(error, region).append(" is one region too many; merge some of those before it");
  }
  usize at = 0;
  while (at < count_ && regions_[at].base < region.base) ++at;
  const Region* neighbour = nullptr;
  if (at > 0 && regions_[at - 1].contains(region.base)) neighbour = &regions_[at - 1];
  if (at < count_ && region.contains(regions_[at].base)) neighbour = &regions_[at];
  if (neighbour != nullptr) {
    append_region(error, region).append(" overlaps ");
    return append_region(error, *neighbour).append("; move one of them");
  }
  for (usize i = count_; i > at; --i) regions_[i] = regions_[i - 1];
  regions_[at] = region;
  ++count_;
  return {};
}

const Region* AddressSpace::find(GuestPhysical address) const {
  usize low = 0;
  usize high = count_;  // the region, if any, is the last one whose base is not above the address
  while (low < high) {
    const usize middle = (low + high) / 2;
    if (regions_[middle].base <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  if (low == 0 || !regions_[low - 1].contains(address)) return nullptr;
  return &regions_[low - 1];
}

u8* AddressSpace::host(GuestPhysical address, bool for_write) const {
  const Region* region = find(address);
  if (region == nullptr || region->kind == RegionKind::Mmio) return nullptr;
  if (for_write && region->kind == RegionKind::Rom) return nullptr;
  return region->host + (address - region->base);
}

u8* AddressSpace::page_flags(GuestPhysical address) const {
  const Region* region = find(address);
  if (region == nullptr || region->page_flags == nullptr) return nullptr;
  return region->page_flags + ((address - region->base) >> kPageShift);
}

bool AddressSpace::read(GuestPhysical address, void* to, usize bytes) const {
  u8* target = static_cast<u8*>(to);
  while (bytes != 0) {
    const Region* region = find(address);
    if (region == nullptr || region->kind == RegionKind::Mmio) return false;
    const usize part = part_in(*region, address, bytes);
    copy_bytes(target, region->host + (address - region->base), part);
    target += part;
    address = address + part;
    bytes -= part;
  }
  return true;
}

bool AddressSpace::write(GuestPhysical address, const void* from, usize bytes) const {
  const u8* source = static_cast<const u8*>(from);
  while (bytes != 0) {
    const Region* region = find(address);
    if (region == nullptr || region->kind != RegionKind::Ram) return false;
    const usize part = part_in(*region, address, bytes);
    const u64 offset = address - region->base;
    copy_bytes(region->host + offset, source, part);
    mark_dirty(*region, offset, part);
    if (observer_ != nullptr) observer_->written(address, source, part);
    source += part;
    address = address + part;
    bytes -= part;
  }
  return true;
}

bool AddressSpace::mark_written(GuestPhysical address, u64 bytes) const {
  const Region* region = find(address);
  if (region == nullptr || region->page_flags == nullptr || bytes == 0) return false;
  const u64 offset = address - region->base;
  mark_dirty(*region, offset, part_in(*region, address, bytes));
  __atomic_thread_fence(__ATOMIC_SEQ_CST);  // the stores before, the look at the flags after
  u8 flags = 0;
  const u64 last = (offset + part_in(*region, address, bytes) - 1) >> kPageShift;
  for (u64 page = offset >> kPageShift; page <= last; ++page) {
    flags |= __atomic_load_n(region->page_flags + page, __ATOMIC_RELAXED);
  }
  return (flags & PageFlag::code) != 0;
}

u64 AddressSpace::mmio_read(GuestPhysical address, unsigned size) const {
  const Region* region = find(address);
  if (in_one_window(region, address, size)) {
    return region->handler->read(address - region->base, size) & low_bytes_mask(size);
  }
  u64 value = 0;
  for (unsigned i = 0; i < size; ++i) {
    const GuestPhysical at = address + i;
    const Region* part = find(at);
    u8 byte = 0xff;
    if (in_one_window(part, at, 1)) {
      byte = static_cast<u8>(part->handler->read(at - part->base, 1));
    } else if (part != nullptr) {
      byte = part->host[at - part->base];
    }
    value |= u64{byte} << (8 * i);
  }
  return value;
}

void AddressSpace::mmio_write(GuestPhysical address, unsigned size, u64 value) const {
  const Region* region = find(address);
  if (in_one_window(region, address, size)) {
    region->handler->write(address - region->base, size, value & low_bytes_mask(size));
    return;
  }
  for (unsigned i = 0; i < size; ++i) {
    const GuestPhysical at = address + i;
    const u8 byte = static_cast<u8>(value >> (8 * i));
    const Region* part = find(at);
    if (in_one_window(part, at, 1)) {
      part->handler->write(at - part->base, 1, byte);
    } else {
      static_cast<void>(write(at, &byte, 1));  // not RAM: the write goes nowhere
    }
  }
}

}  // namespace nacre::memory
