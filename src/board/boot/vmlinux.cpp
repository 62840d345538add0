// An uncompressed x86-64 Linux, entered at its own 64-bit entry point, the way its decompressor would.
// Linux, arch/x86/kernel/head_64.S says what that expects: identity-mapped memory, RSI = boot_params.
#include "board/boot/loaders.hpp"
#include "board/boot/start_state.hpp"

namespace nacre::board::boot {

Status load_vmlinux64(const Machine& machine, const Request& request, const SetupHeader& header,
                      cpu::State& state) {
  const Elf elf = TRY(Elf::parse(request.kernel));
  if (!elf.is_64())
    return Error("a 32-bit Linux vmlinux cannot be entered directly; use its bzImage or a 64-bit kernel");
  if (!elf.loads(elf.entry())) {
    return Error("the entry point ")
        .append_number(elf.entry(), 16)
        .append(
            " of this ELF file is in none of its segments (a user program?); give a kernel: bzImage, "
            "vmlinux, PVH or multiboot");
  }
  Placer placer(machine.memory_bytes);
  TRY(elf.load(machine, placer));
  const u64 params = TRY(place_boot_params(machine, placer, header, request));
  return enter_long_mode(machine, placer, state, elf.entry(), params);
}

}  // namespace nacre::board::boot
