// The relocation lists that an x86-64 Linux with CONFIG_RANDOMIZE_BASE carries behind its vmlinux, with
// which it can be moved. Linux, arch/x86/tools/relocs.c and arch/x86/boot/compressed/misc.c. Freestanding.
#pragma once

#include "board/boot/elf.hpp"

namespace nacre::board::boot {

// Each list begins with a zero; an entry is the low half of the link-time address of the place to change.
struct Relocations {
  Bytes add_64, subtract_32, add_32;

  [[nodiscard]] bool empty() const { return add_32.empty(); }
};

// What follows the end of the ELF file proper; empty lists when that is nothing or not in a known form.
Relocations find_relocations(const Elf& elf, Bytes file);

// Changes a kernel that lies at `image` (its first byte is link-time address `base`) so that it can run
// with its addresses moved up by `delta`. False when an entry points outside: the image is half done then.
[[nodiscard]] bool relocate(const Relocations& relocations, std::span<u8> image, u64 base, u64 delta);

}  // namespace nacre::board::boot
