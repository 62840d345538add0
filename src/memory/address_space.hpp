// The guest-physical address space: RAM, ROM and MMIO regions, and per RAM page one byte of flags that
// track translated code and writes. Regions are set up before the first guest instruction; after that
// lookup takes no lock and any thread may look up. The space owns nothing: RAM is one mapping of one
// file made by the host layer, flags one array beside it. Freestanding.
#pragma once

#include "base/address.hpp"
#include "base/bits.hpp"
#include "base/result.hpp"
#include "base/types.hpp"

namespace nacre::memory {

// A device's window. Offsets are from the window's start; size is 1, 2, 4 or 8 bytes.
class MmioHandler {
 public:
  virtual u64 read(u64 offset, unsigned size) = 0;
  virtual void write(u64 offset, unsigned size, u64 value) = 0;

 protected:
  ~MmioHandler() = default;
};

// Told of what devices, loaders and other users of AddressSpace::write() write to RAM: on their thread, after it is
// written. Instructions of the guest do not pass here.
class WriteObserver {
 public:
  virtual void written(GuestPhysical address, const u8* from, usize bytes) = 0;

 protected:
  ~WriteObserver() = default;
};

struct PageFlag {
  static constexpr u8 code = 1 << 0;   // holds translated code: a write must reach TranslationObserver
  static constexpr u8 dirty = 1 << 1;  // written since the log was last taken (kept only while logging)
};

enum class RegionKind : u8 { Ram, Rom, Mmio };

struct Region {
  GuestPhysical base;
  u64 size = 0;  // bytes; a multiple of the page size
  RegionKind kind = RegionKind::Ram;
  u8* host = nullptr;              // Ram, Rom: where its first byte is mapped
  u8* page_flags = nullptr;        // Ram, and Rom whose code may be translated: one byte a page; else null
  MmioHandler* handler = nullptr;  // Mmio

  [[nodiscard]] bool contains(GuestPhysical address) const {
    return address >= base && address - base < size;
  }
};

class AddressSpace {
 public:
  static constexpr usize kMaxRegions = 64;

  // Regions must be page-aligned and must not overlap; a violation is an Error naming both.
  Status add_ram(GuestPhysical base, u64 size, u8* host, u8* page_flags);
  Status add_rom(GuestPhysical base, u64 size, u8* host, u8* page_flags = nullptr);
  Status add_mmio(GuestPhysical base, u64 size, MmioHandler& handler);

  // The region that holds `address`, or null. A handful of regions: a search over a sorted array.
  [[nodiscard]] const Region* find(GuestPhysical address) const;
  // Host address of a byte of RAM (or ROM, when !for_write), or null.
  [[nodiscard]] u8* host(GuestPhysical address, bool for_write) const;
  // The flags byte of a page, or null when its region has none.
  [[nodiscard]] u8* page_flags(GuestPhysical address) const;

  // Copies to and from RAM and ROM across region boundaries (for devices, loaders and tests).
  // False, with nothing written past the fault, when a byte is not RAM (ROM counts for reads).
  // Sets PageFlag::dirty; does not look at PageFlag::code: the caller tells the observers.
  [[nodiscard]] bool read(GuestPhysical address, void* to, usize bytes) const;
  [[nodiscard]] bool write(GuestPhysical address, const void* from, usize bytes) const;

  // For who stores to RAM by host(), from a thread of its own: after the stores to [address, address +
  // bytes), which lie in one region. Sets PageFlag::dirty. True: a page of them has PageFlag::code. A
  // processor marks a page before it reads the code in it, so that either it sees the new bytes or this sees
  // the mark.
  [[nodiscard]] bool mark_written(GuestPhysical address, u64 bytes) const;

  // One at a time; null: none. The caller sees to it that nobody writes meanwhile.
  void observe_writes(WriteObserver* observer) { observer_ = observer; }

  // Dispatch to MMIO handlers; all ones where nothing is. An access that runs over a window's end is
  // split into bytes.
  [[nodiscard]] u64 mmio_read(GuestPhysical address, unsigned size) const;
  void mmio_write(GuestPhysical address, unsigned size, u64 value) const;

  [[nodiscard]] usize region_count() const { return count_; }
  [[nodiscard]] const Region& region(usize i) const { return regions_[i]; }

 private:
  Status add(const Region& region);

  Region regions_[kMaxRegions];  // sorted by base
  usize count_ = 0;
  WriteObserver* observer_ = nullptr;
};

}  // namespace nacre::memory
