// PVH direct boot: an ELF file with a note that names a 32-bit entry point. Xen, docs/misc/pvh.pandoc
// and xen/include/public/arch-x86/hvm/start_info.h.
#include "board/boot/loaders.hpp"
#include "board/boot/start_state.hpp"
#include "board/boot/text.hpp"

namespace nacre::board::boot {
namespace {

struct StartInfo {
  u32 magic, version, flags, module_count;
  u64 modules, command_line, rsdp, memory_map;
  u32 memory_map_entries, reserved;
};
static_assert(sizeof(StartInfo) == 56);
constexpr u32 kStartInfoMagic = 0x336ec578;

struct ModuleEntry {
  u64 base, size, command_line, reserved;
};
struct MemoryMapEntry {
  u64 base, size;
  u32 type, reserved;
};
static_assert(sizeof(ModuleEntry) == 32 && sizeof(MemoryMapEntry) == 24);

constexpr u64 kTextLimit = 4095;

// Writes an array built one entry at a time.
template <typename T>
void store_entry(const Machine& machine, u64 array, u64 index, const T& entry) {
  NACRE_CHECK(machine.memory.write(GuestPhysical(array + index * sizeof entry), &entry, sizeof entry));
}

Result<ModuleEntry> place_module(const Machine& machine, Placer& placer, const Module& module) {
  const u64 base =
      TRY(placer.highest(module.bytes.size(), kPageSize, kMiB, kHighRamBase, "a module or RAM disk"));
  NACRE_CHECK(machine.memory.write(GuestPhysical(base), module.bytes.data(), module.bytes.size()));
  u64 text = 0;
  if (!module.command_line.empty()) {
    text = TRY(place_text(machine, placer, module.command_line, {}, kTextLimit, "a module's command line"));
  }
  return ModuleEntry{base, module.bytes.size(), text, 0};
}

Status place_modules(const Machine& machine, Placer& placer, const Request& request, StartInfo& info) {
  const bool has_initrd = !request.initrd.empty();
  info.module_count = static_cast<u32>(request.modules.size()) + (has_initrd ? 1 : 0);
  if (info.module_count == 0) return {};
  info.modules = TRY(placer.lowest(info.module_count * sizeof(ModuleEntry), 16, kStructuresLow,
                                   kStructuresHigh, "the module list"));
  u64 index = 0;
  if (has_initrd)
    store_entry(machine, info.modules, index++, TRY(place_module(machine, placer, {request.initrd, {}})));
  for (const Module& module : request.modules) {
    store_entry(machine, info.modules, index++, TRY(place_module(machine, placer, module)));
  }
  return {};
}

Status place_memory_map(const Machine& machine, Placer& placer, StartInfo& info) {
  const MemoryMap map(machine.memory_bytes);
  const auto ranges = map.ranges();
  info.memory_map_entries = static_cast<u32>(ranges.size());
  info.memory_map = TRY(placer.lowest(ranges.size() * sizeof(MemoryMapEntry), 16, kStructuresLow,
                                      kStructuresHigh, "the memory map"));
  for (usize i = 0; i < ranges.size(); ++i) {
    store_entry(machine, info.memory_map, i,
                MemoryMapEntry{ranges[i].base, ranges[i].size, static_cast<u32>(ranges[i].type), 0});
  }
  return {};
}

}  // namespace

Status load_pvh(const Machine& machine, const Request& request, cpu::State& state) {
  const Elf elf = TRY(Elf::parse(request.kernel));
  const u64 entry = elf.pvh_entry();
  if (!elf.loads(entry)) {
    return Error("the PVH entry point ")
        .append_number(entry, 16)
        .append(" is in none of the kernel's segments; the file is damaged or linked wrongly");
  }
  Placer placer(machine.memory_bytes);
  TRY(elf.load(machine, placer));

  StartInfo info{};
  info.magic = kStartInfoMagic;
  info.version = 1;
  info.rsdp = machine.rsdp;
  info.command_line =
      TRY(place_text(machine, placer, request.command_line, {}, kTextLimit, "the kernel command line"));
  TRY(place_modules(machine, placer, request, info));
  TRY(place_memory_map(machine, placer, info));
  const u64 at = TRY(placer.lowest(sizeof info, 16, kStructuresLow, kStructuresHigh, "the start info"));
  store_entry(machine, at, 0, info);

  enter_protected_mode(state, static_cast<u32>(entry));
  state.gpr[x86::RBX] = at;
  return {};
}

}  // namespace nacre::board::boot
