// ELF executables as loaders need them: 32-bit and 64-bit little-endian x86 headers made one, program
// headers, notes; every offset checked against the file. System V gABI, chapters 4 and 5. Freestanding.
#pragma once

#include "board/boot/boot.hpp"
#include "board/boot/placer.hpp"

namespace nacre::board::boot {

// Copies sizeof(T) bytes at `offset`, little-endian as the host is. False past the end.
template <typename T>
bool read_at(Bytes bytes, u64 offset, T& value) {
  if (offset > bytes.size() || sizeof(T) > bytes.size() - offset) return false;
  __builtin_memcpy(&value, bytes.data() + offset, sizeof(T));
  return true;
}

struct ElfSegment {
  static constexpr u32 load = 1, note = 4;
  u32 type = 0;
  u64 offset = 0, physical = 0, virtual_address = 0, file_size = 0, memory_size = 0;
};

class Elf {
 public:
  // Checks the file header and that the program header table is within the file.
  static Result<Elf> parse(Bytes file);
  static bool is_elf(Bytes file);

  [[nodiscard]] bool is_64() const { return is_64_; }
  [[nodiscard]] u64 entry() const { return entry_; }
  [[nodiscard]] unsigned segment_count() const { return segment_count_; }
  [[nodiscard]] ElfSegment segment(unsigned i) const;

  // Puts every PT_LOAD segment at its physical address plus `displacement`, and zeroes what follows in
  // memory. Error when one is cut off in the file, not in RAM, or on top of something else.
  Status load(const Machine& machine, Placer& placer, u64 displacement = 0) const;
  // The start of the lowest loaded segment and the end of the highest, without displacement; both 0 when
  // there is none.
  [[nodiscard]] u64 load_start() const;
  [[nodiscard]] u64 load_end() const;
  // Where the ELF file proper ends: its section headers or segments, whichever come last.
  [[nodiscard]] u64 file_end() const;
  // True when `entry` (a physical address without displacement) is within a loaded segment.
  [[nodiscard]] bool loads(u64 entry) const;

  // The XEN_ELFNOTE_PHYS32_ENTRY address, or 0. Xen, xen/include/public/elfnote.h.
  [[nodiscard]] u64 pvh_entry() const;

 private:
  Elf() = default;
  [[nodiscard]] u64 pvh_entry_in(Bytes notes) const;

  Bytes file_;
  bool is_64_ = false;
  u64 entry_ = 0;
  u64 table_offset_ = 0;
  unsigned entry_size_ = 0;
  unsigned segment_count_ = 0;
  u64 sections_end_ = 0;
};

}  // namespace nacre::board::boot
