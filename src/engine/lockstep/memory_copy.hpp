// MemoryCopy: a second RAM of the same shape as a guest's, for an engine that follows another, and the
// comparison of both. The copy's pages are all flagged as code, so that an interpreter on it reports each
// write. Owned by the vCPU's thread.
#pragma once

#include <string>
#include <vector>

#include "host/guest_ram.hpp"
#include "memory/address_space.hpp"

namespace nacre::lockstep {

class MemoryCopy {
 public:
  // 8 bytes that differ.
  struct Difference {
    u64 physical = 0;
    u64 running = 0, copy = 0;
  };
  // What may differ; see docs/lock-step.md.
  struct Allowed {
    u64 frame_flags = ~u64{0};  // physical address of the flags in an exception's frame
  };
  struct Found {
    u64 accessed_bits = 0, dirty_bits = 0;  // entries of page tables
    u64 frame_flags = 0;                    // the bits that differ there
  };

  // `running` outlives this.
  static Result<MemoryCopy> create(const memory::AddressSpace& running);
  // Adds the copy's RAM, and the guest's own ROM, to `memory`. Devices are behind the Platform.
  Status map_to(memory::AddressSpace& memory) const;

  // Makes it as the running engine's is. Not on a confined thread: asks where the RAM file has holes.
  void mirror(int ram_file);

  // A page by its number in RAM, whatever the guest's address.
  [[nodiscard]] usize pages() const { return is_table_.size(); }
  [[nodiscard]] usize page_at(const u8* in_copy) const {
    return static_cast<u64>(in_copy - ram_.data()) / kPageSize;
  }
  // Of an address in the guest's RAM; pages() where there is none.
  [[nodiscard]] usize page_of(GuestPhysical address) const;
  void mark_table(usize page) { is_table_[page] = true; }
  [[nodiscard]] bool equal(usize page, const Allowed& allowed, Found& found,
                           std::vector<Difference>* differences) const;
  void take_over(usize page);

  // Compares all pages that either side has touched.
  bool all_equal(Found& found, std::vector<Difference>& differences);
  void touch(usize page) { touched_[page] = true; }

 private:
  MemoryCopy(const memory::AddressSpace& running, host::GuestRam ram, u8* running_base);
  [[nodiscard]] u64 physical_of(usize page) const;

  const memory::AddressSpace* running_memory_;
  host::GuestRam ram_;
  u8* running_;                 // the running engine's RAM
  std::vector<bool> is_table_;  // has held page tables
  std::vector<bool> touched_;   // ever, by anybody we know of
};

}  // namespace nacre::lockstep
