#include "board/boot/linux_params.hpp"

#include "board/boot/start_state.hpp"
#include "board/boot/text.hpp"

namespace nacre::board::boot {
namespace {

struct [[gnu::packed]] E820Entry {
  u64 base, size;
  u32 type;
};
static_assert(sizeof(E820Entry) == 20);

// Offsets into boot_params. zero-page.rst.
constexpr u64 kAcpiRsdp = 0x070, kE820Count = 0x1e8, kE820Table = 0x2d0;
constexpr u8 kLoaderUnknown = 0xff;
constexpr u32 kOldInitrdMax = 0x37ffffff;  // before protocol 2.03

// A disk whose bytes are all padding would be no use to Linux; 0 means that there is none.
Result<u64> place_initrd(const Machine& machine, Placer& placer, const SetupHeader& header, Bytes initrd) {
  if (initrd.empty()) return u64{0};
  u64 limit = u64{header.initrd_addr_max == 0 ? kOldInitrdMax : header.initrd_addr_max} + 1;
  if (limit > kHighRamBase) limit = kHighRamBase;
  const u64 base = TRY(placer.highest(initrd.size(), kPageSize, kMiB, limit, "the initial RAM disk"));
  NACRE_CHECK(machine.memory.write(GuestPhysical(base), initrd.data(), initrd.size()));
  return base;
}

template <typename T>
void store(const Machine& machine, u64 address, const T& value) {
  NACRE_CHECK(machine.memory.write(GuestPhysical(address), &value, sizeof value));
}

}  // namespace

SetupHeader default_setup_header() {
  SetupHeader header{};
  header.boot_flag = kBootFlag;
  header.header = kHdrS;
  header.version = 0x020f;
  header.loadflags = LoadFlags::LOADED_HIGH;
  header.initrd_addr_max = 0x7fffffff;
  header.kernel_alignment = 2 * kMiB;
  header.relocatable_kernel = 1;
  header.min_alignment = 21;
  header.xloadflags = XLoadFlags::XLF_KERNEL_64;
  header.cmdline_size = 2047;
  return header;
}

Result<u64> place_boot_params(const Machine& machine, Placer& placer, SetupHeader header,
                              const Request& request) {
  const u64 params = TRY(placer.lowest(kPageSize, kPageSize, kStructuresLow, kStructuresHigh, "boot_params"));
  const u32 limit = header.cmdline_size == 0 ? 255 : header.cmdline_size;
  const u64 command_line =
      TRY(place_text(machine, placer, request.command_line, {}, limit, "the kernel command line"));
  const u64 initrd = TRY(place_initrd(machine, placer, header, request.initrd));

  header.type_of_loader = kLoaderUnknown;
  header.cmd_line_ptr = static_cast<u32>(command_line);
  header.ramdisk_image = static_cast<u32>(initrd);
  header.ramdisk_size = static_cast<u32>(request.initrd.size());

  for (u64 at = 0; at < kPageSize; at += 8) store(machine, params + at, u64{0});
  store(machine, params + kAcpiRsdp, machine.rsdp);
  store(machine, params + kSetupHeaderOffset, header);
  u8 count = 0;
  const MemoryMap map(machine.memory_bytes);
  for (const MemoryRange& range : map.ranges()) {
    const E820Entry entry = {range.base, range.size, static_cast<u32>(range.type)};
    store(machine, params + kE820Table + count * sizeof entry, entry);
    ++count;
  }
  store(machine, params + kE820Count, count);
  return params;
}

}  // namespace nacre::board::boot
