// Multiboot 1: ELF32, or any file whose header carries load addresses. Multiboot Specification 0.6.96.
#include "board/boot/bios_data.hpp"
#include "board/boot/loaders.hpp"
#include "board/boot/start_state.hpp"
#include "board/boot/text.hpp"

namespace nacre::board::boot {
namespace {

struct Header {
  u32 magic, flags, checksum;
  u32 header_addr, load_addr, load_end_addr, bss_end_addr, entry_addr;  // with has_addresses
};
constexpr u32 kHeaderMagic = 0x1badb002, kLoaderMagic = 0x2badb002;
constexpr usize kSearchBytes = 8192;
constexpr u64 kRequiredBytes = 12;  // magic, flags, checksum

struct HeaderFlag {
  static constexpr u32 page_align = 1 << 0, memory_info = 1 << 1, video_mode = 1 << 2,
                       has_addresses = 1 << 16;
  static constexpr u32 required = 0xffff;  // bits that a loader must understand or refuse
};

struct Info {
  u32 flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4], mmap_length,
      mmap_addr, drives_length, drives_addr, config_table, boot_loader_name, apm_table, vbe[4];
  u8 framebuffer[28];
};
static_assert(sizeof(Info) == 116);
static_assert(__builtin_offsetof(Info, mmap_length) == 44 &&
              __builtin_offsetof(Info, boot_loader_name) == 64);

struct InfoFlag {
  static constexpr u32 memory = 1 << 0, cmdline = 1 << 2, mods = 1 << 3, mmap = 1 << 6, loader_name = 1 << 9;
};

struct ModuleEntry {
  u32 start, end, text, reserved;
};
struct [[gnu::packed]] MapEntry {
  u32 size;  // of what follows
  u64 base, length;
  u32 type;
};
static_assert(sizeof(MapEntry) == 24);

constexpr u64 kTextLimit = 4095;

template <typename T>
void store(const Machine& machine, u64 address, const T& value) {
  NACRE_CHECK(machine.memory.write(GuestPhysical(address), &value, sizeof value));
}

struct Loaded {
  u32 entry = 0;
  u64 end = 0;  // of the kernel in memory
};

// The part of the file from load_addr on, where the header says. Section 3.1.3.
Result<Loaded> load_by_addresses(const Machine& machine, Placer& placer, Bytes file, u64 header_offset) {
  Header h{};
  if (!read_at(file, header_offset, h))
    return Error("the multiboot header is cut short; build the kernel again");
  if (h.load_addr > h.header_addr || h.header_addr - h.load_addr > header_offset) {
    return Error(
        "the multiboot header's load_addr lies before the start of the file; correct header_addr and "
        "load_addr");
  }
  const u64 offset = header_offset - (h.header_addr - h.load_addr);
  const u64 available = file.size() - offset;
  if (h.load_end_addr != 0 && (h.load_end_addr < h.load_addr || h.load_end_addr - h.load_addr > available)) {
    return Error(
        "the multiboot header's load_end_addr lies past the end of the file; correct it, or set it to 0");
  }
  const u64 bytes = h.load_end_addr == 0 ? available : h.load_end_addr - h.load_addr;
  const u64 file_end = h.load_addr + bytes;
  const u64 end = h.bss_end_addr > file_end ? h.bss_end_addr : file_end;
  if (h.entry_addr < h.load_addr || h.entry_addr >= end) {
    return Error("the multiboot header's entry_addr is outside what it loads; correct it");
  }
  TRY(placer.claim(h.load_addr, end - h.load_addr, "the kernel"));
  NACRE_CHECK(machine.memory.write(GuestPhysical(h.load_addr), file.data() + offset, bytes));
  for (u64 at = file_end; at < end; ++at) store(machine, at, u8{0});
  return Loaded{h.entry_addr, end};
}

Result<Loaded> load_by_elf(const Machine& machine, Placer& placer, Bytes file) {
  if (!Elf::is_elf(file)) {
    return Error(
        "this multiboot kernel is neither ELF nor has load addresses in its header; link it as ELF32");
  }
  const Elf elf = TRY(Elf::parse(file));
  if (elf.is_64()) {
    return Error(
        "multiboot 1 kernels are 32-bit ELF and this one is 64-bit; convert it: objcopy -O elf32-i386 KERNEL "
        "KERNEL32");
  }
  // The entry point is virtual; kernels linked high give the physical one, or have both the same.
  if (!elf.loads(elf.entry())) {
    return Error("the kernel's entry point ")
        .append_number(elf.entry(), 16)
        .append(" is in none of its segments; give the physical address as entry point");
  }
  TRY(elf.load(machine, placer));
  return Loaded{static_cast<u32>(elf.entry()), elf.load_end()};
}

Result<Loaded> load_kernel(const Machine& machine, Placer& placer, Bytes file) {
  const i64 found = find_multiboot_header(file);
  if (found < 0)
    return Error("there is no multiboot header in the first 8 KiB of this file; give a kernel that has one");
  const u64 offset = static_cast<u64>(found);
  u32 flags = 0;
  NACRE_CHECK(read_at(file, offset + 4, flags));
  constexpr u32 known = HeaderFlag::page_align | HeaderFlag::memory_info | HeaderFlag::video_mode;
  if ((flags & HeaderFlag::required & ~known) != 0) {
    return Error("the multiboot header asks for features that do not exist (flags ")
        .append_number(flags, 16)
        .append("); clear bits 3 to 15");
  }
  if ((flags & HeaderFlag::has_addresses) != 0) return load_by_addresses(machine, placer, file, offset);
  return load_by_elf(machine, placer, file);
}

// Modules go right above the kernel, page by page, in order: that is where kernels look for free memory last.
Status place_modules(const Machine& machine, Placer& placer, const Request& request, u64 kernel_end,
                     Info& info) {
  const Module initrd = {request.initrd, "initrd"};
  const usize count = request.modules.size() + (request.initrd.empty() ? 0 : 1);
  if (count == 0) return {};
  const u64 list =
      TRY(placer.lowest(count * sizeof(ModuleEntry), 16, kStructuresLow, kStructuresHigh, "the module list"));
  for (usize i = 0; i < count; ++i) {
    const Module& module = i < request.modules.size() ? request.modules[i] : initrd;
    const u64 low = kernel_end > kMiB ? kernel_end : kMiB;
    const u64 base = TRY(placer.lowest(module.bytes.size(), kPageSize, low, kHighRamBase, "a module"));
    NACRE_CHECK(machine.memory.write(GuestPhysical(base), module.bytes.data(), module.bytes.size()));
    const u64 text =
        TRY(place_text(machine, placer, module.command_line, {}, kTextLimit, "a module's command line"));
    store(machine, list + i * sizeof(ModuleEntry),
          ModuleEntry{static_cast<u32>(base), static_cast<u32>(base + module.bytes.size()),
                      static_cast<u32>(text), 0});
  }
  info.mods_count = static_cast<u32>(count);
  info.mods_addr = static_cast<u32>(list);
  return {};
}

Status place_memory_map(const Machine& machine, Placer& placer, Info& info) {
  const MemoryMap map(machine.memory_bytes);
  const auto ranges = map.ranges();
  const u64 at = TRY(
      placer.lowest(ranges.size() * sizeof(MapEntry), 16, kStructuresLow, kStructuresHigh, "the memory map"));
  for (usize i = 0; i < ranges.size(); ++i) {
    store(machine, at + i * sizeof(MapEntry),
          MapEntry{sizeof(MapEntry) - 4, ranges[i].base, ranges[i].size, static_cast<u32>(ranges[i].type)});
  }
  info.mmap_addr = static_cast<u32>(at);
  info.mmap_length = static_cast<u32>(ranges.size() * sizeof(MapEntry));
  info.mem_lower = kEbdaBase / kKiB;
  info.mem_upper = static_cast<u32>((low_ram_end(machine.memory_bytes) - kMiB) / kKiB);
  return {};
}

}  // namespace

i64 find_multiboot_header(Bytes kernel) {
  const Bytes head = kernel.first(kernel.size() < kSearchBytes ? kernel.size() : kSearchBytes);
  for (usize at = 0; at + kRequiredBytes <= head.size(); at += 4) {
    u32 words[3] = {};
    if (read_at(head, at, words) && words[0] == kHeaderMagic && words[0] + words[1] + words[2] == 0) {
      return static_cast<i64>(at);
    }
  }
  return -1;
}

Status load_multiboot(const Machine& machine, const Request& request, cpu::State& state) {
  write_bios_data(machine);  // first: a kernel may be linked over it
  Placer placer(machine.memory_bytes);
  const Loaded kernel = TRY(load_kernel(machine, placer, request.kernel));

  Info info{};
  info.flags = InfoFlag::memory | InfoFlag::cmdline | InfoFlag::mods | InfoFlag::mmap | InfoFlag::loader_name;
  info.cmdline = static_cast<u32>(TRY(place_text(machine, placer, request.kernel_name, request.command_line,
                                                 kTextLimit, "the kernel command line")));
  info.boot_loader_name =
      static_cast<u32>(TRY(place_text(machine, placer, "nacre", {}, kTextLimit, "the loader name")));
  TRY(place_modules(machine, placer, request, kernel.end, info));
  TRY(place_memory_map(machine, placer, info));
  const u64 at =
      TRY(placer.lowest(sizeof info, 16, kStructuresLow, kStructuresHigh, "the multiboot information"));
  store(machine, at, info);

  enter_protected_mode(state, kernel.entry);
  state.idtr = {.base = 0, .limit = 0x3ff};  // a BIOS's: some kernels go to real mode without LIDT
  state.gpr[x86::RAX] = kLoaderMagic;
  state.gpr[x86::RBX] = at;
  return {};
}

}  // namespace nacre::board::boot
