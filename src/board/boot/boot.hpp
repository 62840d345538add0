// Boot protocols: places a kernel, its initial RAM disk or modules, and its parameters in guest RAM, and
// gives the state the first processor starts in. Inputs are bytes that somebody else read; they may be
// anything, and whatever is wrong with them comes back as a sentence. Freestanding; before the first guest
// instruction.
#pragma once

#include <span>
#include <string_view>

#include "base/result.hpp"
#include "cpu/state.hpp"
#include "memory/address_space.hpp"

namespace nacre::board::boot {

using Bytes = std::span<const u8>;

enum class Format : u8 {
  Unknown,
  BzImage,    // Linux/x86 boot protocol, entered in 64-bit mode, or if it cannot be, in 32-bit mode
  Pvh,        // ELF with a XEN_ELFNOTE_PHYS32_ENTRY note
  Multiboot,  // multiboot 1 header within the first 8 KiB
  Vmlinux64,  // x86-64 ELF executable without that note: entered in 64-bit mode with boot_params
};

[[nodiscard]] Format detect(Bytes kernel);
[[nodiscard]] const char* name_of(Format format);

struct Module {
  Bytes bytes = {};
  std::string_view command_line = {};  // multiboot: 'FILE ARGS'
};

struct Request {
  Bytes kernel = {};
  std::string_view kernel_name = "kernel";  // multiboot puts it before the command line
  std::string_view command_line = {};
  Bytes initrd = {};  // Linux and PVH; empty for none
  // A bzImage's payload, when the host has unpacked it already: then that is entered, moved by `random` if
  // that is not 0; of `kernel`, the setup header is enough. See linux_payload.hpp. If it turns out not to be
  // usable, the kernel unpacks itself.
  Bytes unpacked = {};
  u64 random = 0;
  std::span<const Module> modules = {};  // multiboot (PVH: after the initrd)
};

struct Machine {
  memory::AddressSpace& memory;
  u64 memory_bytes = 0;  // RAM altogether, laid out as board/layout.hpp says
  u64 rsdp = 0;
  // All the RAM that the memory map offers is zero and untouched: then zeros are not written, which saves the
  // host from finding pages for them (a third of a Linux kernel is zeros).
  bool ram_is_zero = false;
};

// Recognises the format and loads. `state` must be as cpu::reset() leaves it; segments, control registers,
// RIP and what the protocol passes in registers are changed.
Status load(const Machine& machine, const Request& request, cpu::State& state);

// What firmware does on every processor: RAM is write-back. load() has done it for the one that starts; guests
// expect the others to agree (SDM vol. 3, 11.11.8), and INIT leaves it as it is.
void set_memory_types(cpu::State& state);

}  // namespace nacre::board::boot
