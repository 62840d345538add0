#include "host/guest_ram.hpp"

#include <sys/mman.h>
#include <sys/sysinfo.h>

#include "host/error.hpp"

namespace nacre::host {
namespace {

// RAM and swap together: more than that can never be given, however much of it is free now.
u64 host_memory() {
  struct sysinfo info = {};
  if (sysinfo(&info) != 0) return ~u64{0};
  return (static_cast<u64>(info.totalram) + info.totalswap) * info.mem_unit;
}

u64 unit_of(char suffix) {
  switch (suffix) {
    case 'k':
    case 'K':
      return kKiB;
    case 'm':
    case 'M':
      return kMiB;
    case 'g':
    case 'G':
      return kGiB;
    case 't':
    case 'T':
      return 1024 * kGiB;
    default:
      return 0;
  }
}

}  // namespace

Status GuestRam::possible(u64 bytes) {
  if (bytes == 0) return Error{"A guest cannot have 0 bytes of memory; give it some, as in --memory 512M."};
  if (bytes % kPageSize != 0)
    return Error{"The guest's memory must be a multiple of 4096 bytes, as in --memory 512M."};
  if (const u64 most = host_memory(); bytes > most) {
    return Error("The guest is to have ")
        .append_number(bytes / kMiB)
        .append(" MiB of memory, but this host has only ")
        .append_number(most / kMiB)
        .append(" MiB; give it less with --memory.");
  }
  return {};
}

Result<GuestRam> GuestRam::create(u64 bytes, u64 more_flags) {
  if (auto status = possible(bytes); !status) return status.error();
  GuestRam ram;
  ram.file_ = UniqueFd(memfd_create("nacre-guest-ram", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!ram.file_) return errno_error("Cannot make the guest's memory");
  if (ftruncate(ram.file_.number(), static_cast<off_t>(bytes)) != 0)
    return errno_error("Cannot make the guest's memory");
  ram.memory_ = TRY(Mapping::shared_file(ram.file_.number(), bytes, PROT_READ | PROT_WRITE));
  // Worth it where the host allows it for shared memory (shmem_enabled=advise); a wish otherwise.
  madvise(ram.memory_.data(), bytes, MADV_HUGEPAGE);
  madvise(ram.memory_.data(), bytes, MADV_DONTDUMP);
  ram.flags_ = TRY(Mapping::anonymous(bytes / kPageSize + more_flags));
  return ram;
}

Result<u64> parse_size(const char* text) {
  const auto wrong = [text] {
    return Error("\"").append(text).append("\" is not a size; write it like 512M, 2G or 65536K.");
  };
  u64 value = 0;
  const char* at = text;
  for (; *at >= '0' && *at <= '9'; ++at) {
    if (__builtin_mul_overflow(value, u64{10}, &value) ||
        __builtin_add_overflow(value, static_cast<u64>(*at - '0'), &value)) {
      return wrong();
    }
  }
  if (at == text) return wrong();
  if (*at == 0) return value;
  const u64 unit = unit_of(*at);
  const bool ends = at[1] == 0 || ((at[1] == 'B' || at[1] == 'b') && at[2] == 0) ||
                    (at[1] == 'i' && at[2] == 'B' && at[3] == 0);
  if (unit == 0 || !ends || __builtin_mul_overflow(value, unit, &value)) return wrong();
  return value;
}

}  // namespace nacre::host
