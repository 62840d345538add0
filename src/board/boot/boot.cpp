#include "board/boot/boot.hpp"

#include "board/boot/linux_payload.hpp"
#include "board/boot/loaders.hpp"

namespace nacre::board::boot {

// A file may be several things at once. A PVH note is preferred to a multiboot header, since only the
// former says that it has been made for virtual machines, and gets an RSDP.
Format detect(Bytes kernel) {
  if (is_bzimage(kernel)) return Format::BzImage;
  if (Elf::is_elf(kernel)) {
    const Result<Elf> elf = Elf::parse(kernel);
    if (elf.ok() && elf.value().pvh_entry() != 0) return Format::Pvh;
    if (find_multiboot_header(kernel) >= 0) return Format::Multiboot;
    return !elf.ok() || elf.value().is_64() ? Format::Vmlinux64 : Format::Unknown;
  }
  return find_multiboot_header(kernel) >= 0 ? Format::Multiboot : Format::Unknown;
}

const char* name_of(Format format) {
  switch (format) {
    case Format::Unknown:
      return "unknown";
    case Format::BzImage:
      return "Linux bzImage";
    case Format::Pvh:
      return "PVH ELF";
    case Format::Multiboot:
      return "multiboot";
    case Format::Vmlinux64:
      return "x86-64 ELF";
  }
  return "unknown";
}

namespace {

Status load_as(Format format, const Machine& machine, const Request& request, cpu::State& state) {
  if (machine.memory_bytes < kMinMemory || machine.memory_bytes > kMaxMemory) {
    return Error("guest memory must be from 2 MiB to 1 TiB; change --memory");
  }
  const bool takes_modules = format == Format::Multiboot || format == Format::Pvh;
  if (!request.modules.empty() && !takes_modules) {
    return Error("a ").append(name_of(format)).append(" kernel takes no modules; use --initrd");
  }
  switch (format) {
    case Format::BzImage:
      if (!request.unpacked.empty()) {
        Status status = load_unpacked(machine, request, request.unpacked, request.random, state);
        if (status.ok() || request.kernel.size() <= kSetupBytes) return status;
      }
      return load_bzimage(machine, request, state);
    case Format::Pvh:
      return load_pvh(machine, request, state);
    case Format::Multiboot:
      return load_multiboot(machine, request, state);
    case Format::Vmlinux64:
      return load_vmlinux64(machine, request, default_setup_header(), state);
    case Format::Unknown:
      break;
  }
  if (request.kernel.empty())
    return Error("the kernel file is empty; give a bzImage, vmlinux, PVH or multiboot kernel");
  return Error(
      "the kernel file is of no format known here, or is cut short; give a bzImage, vmlinux, PVH or "
      "multiboot kernel");
}

// The parts name things as they stand in the middle of a sentence.
Error as_sentence(const Error& error) {
  char first[2] = {error.message()[0], 0};
  if (first[0] >= 'a' && first[0] <= 'z') first[0] = static_cast<char>(first[0] - 'a' + 'A');
  return first[0] == 0 ? error : Error(first).append(error.message() + 1).append(".");
}

}  // namespace

Status load(const Machine& machine, const Request& request, cpu::State& state) {
  const Status status = load_as(detect(request.kernel), machine, request, state);
  if (!status.ok()) return as_sentence(status.error());
  return {};
}

}  // namespace nacre::board::boot
