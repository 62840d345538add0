// An uncompressed x86-64 Linux, entered at its own 64-bit entry point, the way its decompressor would.
// Linux, arch/x86/kernel/head_64.S says what that expects: identity-mapped memory, RSI = boot_params;
// arch/x86/boot/compressed/kaslr.c where it may be.
#include "board/boot/linux_payload.hpp"
#include "board/boot/loaders.hpp"
#include "board/boot/relocations.hpp"
#include "board/boot/start_state.hpp"

namespace nacre::board::boot {
namespace {

constexpr u64 kStartKernelMap = 0xffffffff80000000;  // link-time virtual minus physical address
constexpr u64 kImageWindow = kGiB;                   // KERNEL_IMAGE_SIZE with CONFIG_RANDOMIZE_BASE

Result<Elf> parse_kernel(Bytes vmlinux) {
  const Elf elf = TRY(Elf::parse(vmlinux));
  if (!elf.is_64()) {
    return Error("a 32-bit Linux vmlinux cannot be entered directly; use its bzImage or a 64-bit kernel");
  }
  if (!elf.loads(elf.entry())) {
    return Error("the entry point ")
        .append_number(elf.entry(), 16)
        .append(
            " of this ELF file is in none of its segments (a user program?); give a kernel: bzImage, "
            "vmlinux, PVH or multiboot");
  }
  return elf;
}

// Two draws of one random number.
class Draw {
 public:
  explicit Draw(u64 seed) : state_(seed) {}
  // 0 to bound - 1. SplitMix64 steps; the bias of the modulo is below 2^-40 for our bounds.
  u64 below(u64 bound) {
    state_ += 0x9e3779b97f4a7c15;
    u64 mixed = (state_ ^ state_ >> 30) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
    return (mixed ^ mixed >> 31) % bound;
  }

 private:
  u64 state_;
};

bool has_word(std::string_view line, std::string_view word) {
  for (usize at = line.find(word); at != line.npos; at = line.find(word, at + 1)) {
    const bool starts = at == 0 || line[at - 1] == ' ';
    const bool ends = at + word.size() == line.size() || line[at + word.size()] == ' ';
    if (starts && ends) return true;
  }
  return false;
}

struct Displacement {
  u64 physical = 0, virtual_address = 0;
};

// Slots are multiples of the kernel's alignment, from where it is linked on, up to the end of its virtual
// window, or of RAM below the hole less what the initial RAM disk, which is placed after it, may need.
Displacement choose(const Machine& machine, const Request& request, u64 align, u64 start, u64 size,
                    u64 random) {
  Draw draw(random);
  const auto slots = [&](u64 end) { return end < start + size ? 1 : (end - start - size) / align + 1; };
  const u64 ram_end = low_ram_end(machine.memory_bytes);
  const u64 initrd = (request.initrd.size() + kPageSize - 1) & ~(kPageSize - 1);
  return {.physical = draw.below(slots(initrd < ram_end ? ram_end - initrd : 0)) * align,
          .virtual_address = draw.below(slots(kImageWindow)) * align};
}

// The lists to move it by; empty when it should stay where it was linked.
Relocations movable(const Machine& machine, const Request& request, const Elf& elf, const SetupHeader& header,
                    Bytes vmlinux) {
  const bool fits = elf.load_start() >= kMiB && elf.load_start() < elf.load_end() &&
                    elf.load_end() <= low_ram_end(machine.memory_bytes);
  if (!fits || elf.load_start() != header.pref_address || has_word(request.command_line, "nokaslr"))
    return {};
  return find_relocations(elf, vmlinux);
}

// Puts it into guest RAM, moved, and returns its entry point.
Result<u64> place_moved(const Machine& machine, Placer& placer, const Elf& elf,
                        const Relocations& relocations, const Displacement& by) {
  const u64 start = elf.load_start();
  TRY(elf.load(machine, placer, by.physical));
  u8* image = machine.memory.host(GuestPhysical(start + by.physical), true);
  NACRE_CHECK(image != nullptr);  // movable() and choose() keep it in one stretch of RAM
  if (!relocate(relocations, {image, elf.load_end() - start}, kStartKernelMap + start, by.virtual_address)) {
    return Error(
        "a relocation of this Linux kernel points outside of it; the file is damaged: fetch it again");
  }
  return elf.entry() + by.physical;
}

}  // namespace

Status load_vmlinux64(const Machine& machine, const Request& request, const SetupHeader& header,
                      cpu::State& state) {
  const Elf elf = TRY(parse_kernel(request.kernel));
  Placer placer(machine.memory_bytes);
  TRY(elf.load(machine, placer));
  const u64 params = TRY(place_boot_params(machine, placer, header, request));
  return enter_long_mode(machine, placer, state, elf.entry(), params);
}

Status load_unpacked(const Machine& machine, const Request& request, Bytes vmlinux, u64 random,
                     cpu::State& state) {
  if (!is_bzimage(request.kernel)) return Error("this kernel is not a bzImage; load it as what it is");
  SetupHeader header = TRY(parse_setup_header(request.kernel));
  if (!has_64_bit_entry(header)) return Error("this kernel has no 64-bit entry; load it as what it is");
  const Elf elf = TRY(parse_kernel(vmlinux));
  const Relocations relocations = movable(machine, request, elf, header, vmlinux);
  Placer placer(machine.memory_bytes);
  u64 entry = elf.entry();
  if (random != 0 && !relocations.empty()) {
    const u64 size = elf.load_end() - elf.load_start();
    const Displacement by = choose(machine, request, header.kernel_alignment, elf.load_start(), size, random);
    entry = TRY(place_moved(machine, placer, elf, relocations, by));
    header.loadflags |= LoadFlags::KASLR_FLAG;  // it randomises the rest of its address space only if told
  } else {
    TRY(elf.load(machine, placer));
  }
  header.code32_start = static_cast<u32>(entry);
  const u64 params = TRY(place_boot_params(machine, placer, header, request));
  return enter_long_mode(machine, placer, state, entry, params);
}

}  // namespace nacre::board::boot
