// The Linux/x86 boot protocol, entered in 64-bit mode where the kernel has such an entry, else in 32-bit
// protected mode: what memory testers and 32-bit kernels have. Linux, Documentation/arch/x86/boot.rst.
#include "board/boot/loaders.hpp"
#include "board/boot/start_state.hpp"

namespace nacre::board::boot {
namespace {

constexpr u16 kFirst64BitVersion = 0x020c;  // xloadflags; boot.rst, "64-bit boot protocol"
constexpr u64 kEntry64 = 0x200;             // of the protected-mode part
constexpr u64 kLinkedAt = kMiB;             // what code32_start means, wherever the code is then put
constexpr u64 kSector = 512;
constexpr u64 kParagraph = 16;  // syssize counts these
constexpr u8 kOldSetupSectors = 4;

// What came with a later version than the header's own means nothing, whatever stands there. boot.rst,
// "Details of header fields".
void forget_what_is_newer(SetupHeader& header) {
  if (header.version < 0x0203) header.initrd_addr_max = 0;
  if (header.version < 0x0205) {
    header.kernel_alignment = 0;
    header.relocatable_kernel = 0;
  }
  if (header.version < 0x0206) header.cmdline_size = 0;
  if (header.version < 0x0208) header.payload_offset = header.payload_length = 0;
  if (header.version < 0x020a) {
    header.pref_address = 0;
    header.init_size = 0;
  }
  if (header.version < kFirst64BitVersion) header.xloadflags = 0;
}

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
  forget_what_is_newer(header);
  return header;
}

// Where it asks to be; if RAM is short there and it can be moved, the lowest place that will do.
Result<u64> place_code(Placer& placer, const LinuxImage& image) {
  const SetupHeader& header = image.header;
  const u64 needed = header.init_size > image.code.size() ? header.init_size : image.code.size();
  const u64 wanted = header.pref_address == 0 ? kLinkedAt : header.pref_address;
  const Status preferred = placer.claim(wanted, needed, "the Linux kernel");
  if (preferred.ok()) return wanted;
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

bool has_64_bit_entry(const SetupHeader& header) {
  return (header.xloadflags & XLoadFlags::XLF_KERNEL_64) != 0;
}

Result<SetupHeader> parse_setup_header(Bytes file) {
  const SetupHeader header = header_of(file);
  if ((header.loadflags & LoadFlags::LOADED_HIGH) == 0) {
    return Error("this Linux kernel is a zImage, loaded low; use a bzImage");
  }
  if (!has_64_bit_entry(header) && header.code32_start < kLinkedAt) {
    return Error("this kernel starts in real mode only, and asks a BIOS for the rest (boot protocol ")
        .append_number(header.version, 16)
        .append(", no code32_start); use one with a 32- or 64-bit entry point");
  }
  const bool can_move = header.relocatable_kernel != 0;
  if ((header.kernel_alignment & (header.kernel_alignment - 1)) != 0 ||
      (can_move && header.kernel_alignment == 0)) {
    return Error(
        "the Linux setup header gives an alignment that is not a power of two; the file is damaged: fetch it "
        "again");
  }
  return header;
}

Result<LinuxImage> parse_bzimage(Bytes file) {
  const SetupHeader header = TRY(parse_setup_header(file));
  const u64 setup = (u64{header.setup_sects == 0 ? kOldSetupSectors : header.setup_sects} + 1) * kSector;
  const u64 least = has_64_bit_entry(header) ? kEntry64 : header.code32_start - kLinkedAt;
  // syssize is rounded up, and not every build fills the last paragraph.
  if (setup + least >= file.size() || file.size() - setup + kParagraph <= u64{header.syssize} * kParagraph) {
    return Error("the Linux kernel is cut short: its header promises ")
        .append_number(setup + u64{header.syssize} * kParagraph)
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
  const u64 entry32 = base + header.code32_start - kLinkedAt;
  header.code32_start = static_cast<u32>(base);
  const u64 params = TRY(place_boot_params(machine, placer, header, request));
  if (has_64_bit_entry(header)) return enter_long_mode(machine, placer, state, base + kEntry64, params);
  return enter_linux32(machine, placer, state, static_cast<u32>(entry32), params);
}

}  // namespace nacre::board::boot
