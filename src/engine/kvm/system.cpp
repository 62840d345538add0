#include "engine/kvm/system.hpp"

#include <fcntl.h>
#include <sys/ioctl.h>

#include <cerrno>
#include <memory>

#include "host/error.hpp"

namespace nacre::kvm {
namespace {

struct Needed {
  int extension;
  const char* name;
};
// All are older than Linux 5.10.
constexpr Needed kNeeded[] = {
    {KVM_CAP_USER_MEMORY, "memory slots"},
    {KVM_CAP_IMMEDIATE_EXIT, "immediate exit"},
    {KVM_CAP_XSAVE, "XSAVE state"},
    {KVM_CAP_VCPU_EVENTS, "vCPU events"},
    {KVM_CAP_DEBUGREGS, "debug registers"},
    {KVM_CAP_X86_USER_SPACE_MSR, "exits for MSRs"},
    {KVM_CAP_X86_MSR_FILTER, "MSR filters"},
    {KVM_CAP_EXT_CPUID, "CPUID"},
    {KVM_CAP_SET_TSS_ADDR, "a place for the TSS"},
};

Error cannot_open() {
  const int number = errno;
  if (number == ENOENT)
    return Error{"There is no /dev/kvm: load kvm_intel or kvm_amd, or use --engine soft, which needs none."};
  if (number == EACCES || number == EPERM) {
    return Error{
        "/dev/kvm: permission denied. Add yourself to the group kvm (sudo adduser $USER kvm) and log in "
        "again, or use --engine soft."};
  }
  if (number == ENODEV || number == ENXIO) {
    return Error{"/dev/kvm: the processor or its firmware does not offer VT-x or AMD-V; use --engine soft."};
  }
  return host::error_with_number(number, "Cannot open /dev/kvm");
}

}  // namespace

int request(int file, unsigned long number, void* argument) {
  int result = 0;
  do {
    result = ioctl(file, number, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}
int request(int file, unsigned long number, unsigned long argument) {
  return request(file, number, reinterpret_cast<void*>(argument));
}

Result<System> System::open() {
  System system(host::UniqueFd(::open("/dev/kvm", O_RDWR | O_CLOEXEC)));
  if (!system.file_) return cannot_open();
  const int version = request(system.file(), KVM_GET_API_VERSION);
  if (version != KVM_API_VERSION)
    return Error{"/dev/kvm has an interface that Nacre does not know; use --engine soft."};
  if (system.can(KVM_CAP_XCRS) <= 0)
    return Error{"The kvm engine needs XSAVE, which this host's processor lacks or its Linux does not use."};
  for (const Needed& needed : kNeeded) {
    if (system.can(needed.extension) > 0) continue;
    return Error("This host's KVM has no ")
        .append(needed.name)
        .append("; a newer Linux (5.10 or later) has it. Use --engine soft.");
  }
  const int bytes = request(system.file(), KVM_GET_VCPU_MMAP_SIZE);
  if (bytes < static_cast<int>(sizeof(kvm_run)))
    return host::errno_error("Cannot learn the size of KVM's vCPUs");
  system.run_bytes_ = static_cast<usize>(bytes);
  return system;
}

Result<Cpuid> Cpuid::of(const System& system) {
  const auto list = std::make_unique<CpuidList>();
  list->count = CpuidList::kMost;
  if (request(system.file(), host::kKvmGetSupportedCpuid, list.get()) != 0)
    return host::errno_error("Cannot learn which processor KVM offers");
  return Cpuid({list->entries, list->count}, cpu::NativeCpuid());
}

Cpuid::Cpuid(std::span<const kvm_cpuid_entry2> entries, const cpu::HostCpuid& processor)
    : entries_(entries.begin(), entries.end()) {
  // VT-x can make SGDT, SIDT, SLDT and STR come to KVM where the processor has no UMIP itself, but not SMSW.
  // SDM vol. 3, table 24-7: descriptor-table exiting.
  constexpr u32 kUmip = 1 << 2;
  for (kvm_cpuid_entry2& entry : entries_) {
    if (entry.function == 7 && entry.index == 0) entry.ecx &= processor.leaf(7, 0).ecx | ~kUmip;
  }
}

cpu::CpuidLeaf Cpuid::leaf(u32 leaf, u32 subleaf) const {
  // KVM leaves out what AMD's processors say of their first-level caches and TLBs, and passes on the rest of it.
  constexpr u32 kCachesAndTlbs = 0x80000005;
  if (leaf == kCachesAndTlbs) return cpu::NativeCpuid().leaf(leaf, subleaf);
  for (const auto& entry : entries_) {
    if (entry.function != leaf) continue;
    if ((entry.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0 && entry.index != subleaf) continue;
    return {entry.eax, entry.ebx, entry.ecx, entry.edx};
  }
  return {};
}

u64 Cpuid::xcr0() const {
  const cpu::CpuidLeaf components = leaf(0xd, 0);
  return components.eax | u64{components.edx} << 32;
}

bool hardware_virtualization() {
  const cpu::NativeCpuid cpuid;
  constexpr u32 kVmx = 1 << 5, kSvm = 1 << 2;
  return (cpuid.leaf(1, 0).ecx & kVmx) != 0 || (cpuid.leaf(0x80000001, 0).ecx & kSvm) != 0;
}

}  // namespace nacre::kvm
