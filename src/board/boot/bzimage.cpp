// The Linux/x86 boot protocol, entered in 64-bit mode. Linux, Documentation/arch/x86/boot.rst.
#include "board/boot/loaders.hpp"
#include "board/boot/start_state.hpp"

namespace nacre::board::boot {
namespace {

constexpr u16 kFirst64BitVersion = 0x020c;  // xloadflags; boot.rst, "64-bit boot protocol"
constexpr u64 kEntry64 = 0x200;             // of the protected-mode part
constexpr u64 kSector = 512;
constexpr u8 kOldSetupSectors = 4;

// The header ends where the jump at 0x200 leads to; older kernels have a shorter one.
SetupHeader header_of(Bytes file) {
  SetupHeader header{};
  u8 bytes[sizeof header] = {};
  const u64 end = 0x202 + u64{file[0x201]};
  for (u64 i = 0; i < sizeof bytes && kSetupHeaderOffset + i < end && kSetupHeaderOffset + i < file.size();
       ++i) {
    bytes[i] = file[kSetupHeaderOffset + i];
  }
  __builtin_memcpy(&header, bytes, sizeof header);
  return header;
}

// Where it asks to be; if RAM is short there and it can be moved, the lowest place that will do.
Result<u64> place_code(Placer& placer, const LinuxImage& image) {
  const SetupHeader& header = image.header;
  const u64 needed = header.init_size > image.code.size() ? header.init_size : image.code.size();
  const Status preferred = placer.claim(header.pref_address, needed, "the Linux kernel");
  if (preferred.ok()) return u64{header.pref_address};
  if (header.relocatable_kernel == 0) return preferred.error();
  return placer.lowest(needed, header.kernel_alignment, kMiB, kHighRamBase, "the Linux kernel");
}

}  // namespace

bool is_bzimage(Bytes kernel) {
  u16 boot_flag = 0;
  u32 magic = 0;
  return read_at(kernel, 0x1fe, boot_flag) && boot_flag == kBootFlag && read_at(kernel, 0x202, magic) &&
         magic == kHdrS && kernel.size() > 0x210;
}

Result<SetupHeader> parse_setup_header(Bytes file) {
  const SetupHeader header = header_of(file);
  if (header.version < kFirst64BitVersion || (header.xloadflags & XLoadFlags::XLF_KERNEL_64) == 0) {
    return Error("this Linux kernel has no 64-bit entry point (boot protocol ")
        .append_number(header.version, 16)
        .append("); use an x86-64 kernel, version 3.8 or later");
  }
  if ((header.loadflags & LoadFlags::LOADED_HIGH) == 0) {
    return Error("this Linux kernel is a zImage, loaded low; use a bzImage");
  }
  if (header.kernel_alignment == 0 || (header.kernel_alignment & (header.kernel_alignment - 1)) != 0) {
    return Error(
        "the Linux setup header gives an alignment that is not a power of two; the file is damaged: fetch it "
        "again");
  }
  return header;
}

Result<LinuxImage> parse_bzimage(Bytes file) {
  const SetupHeader header = TRY(parse_setup_header(file));
  const u64 setup = (u64{header.setup_sects == 0 ? kOldSetupSectors : header.setup_sects} + 1) * kSector;
  if (setup + kEntry64 >= file.size() || file.size() - setup < u64{header.syssize} * 16) {
    return Error("the Linux kernel is cut short: its header promises ")
        .append_number(setup + u64{header.syssize} * 16)
        .append(" bytes, the file has ")
        .append_number(file.size())
        .append("; fetch it again");
  }
  return LinuxImage{header, file.subspan(setup)};
}

Status load_bzimage(const Machine& machine, const Request& request, cpu::State& state) {
  const LinuxImage image = TRY(parse_bzimage(request.kernel));
  Placer placer(machine.memory_bytes);
  const u64 base = TRY(place_code(placer, image));
  NACRE_CHECK(machine.memory.write(GuestPhysical(base), image.code.data(), image.code.size()));
  SetupHeader header = image.header;
  header.code32_start = static_cast<u32>(base);
  const u64 params = TRY(place_boot_params(machine, placer, header, request));
  return enter_long_mode(machine, placer, state, base + kEntry64, params);
}

}  // namespace nacre::board::boot
