#include "engine/kvm/group.hpp"

#include <unistd.h>

#include <cerrno>

#include "engine/kvm/kvm.hpp"
#include "host/error.hpp"

namespace nacre::kvm {
namespace {

// Three pages and one that VT-x without unrestricted guest needs, below the chips and the firmware, where no
// RAM is.
constexpr u64 kSpare = u64{1} << 45;  // above all RAM and windows
constexpr u64 kIdentityMap = 0xfeffc000, kTss = kIdentityMap + kPageSize;

// MSRs that come to us: the board's, those that move the time stamp counter, and those that KVM answers otherwise than
// the guest's model (that they come here is seen in the kernel's log: guest/tests/kernel_log).
struct Range {
  u32 first, count;
  bool reads;  // not only writes
  bool with_apic;  // also where KVM has the local APIC
};
constexpr Range kOurs[] = {
    {0x10, 1, false, true},       // IA32_TIME_STAMP_COUNTER
    {0x11, 2, true, true},        // the paravirtual clock's old numbers
    {0x1b, 1, true, false},       // IA32_APIC_BASE
    {0x3a, 1, true, true},        // IA32_FEATURE_CONTROL
    {0x3b, 1, true, true},        // IA32_TSC_ADJUST
    {0xce, 1, true, true},        // MSR_PLATFORM_INFO
    {0x6e0, 1, true, false},      // IA32_TSC_DEADLINE
    {0x4b564d00, 3, true, true},  // paravirtual clock: Linux, arch/x86/include/uapi/asm/kvm_para.h
    {0x4b564d03, 2, true, false}, // stolen time, end of interrupt
    {0x4b564d05, 3, true, true},
    {0xc0010010, 1, true, true},  // SYSCFG, HWCR, VM_CR: AMD APM vol. 2, appendix A
    {0xc0010015, 1, true, true},
    {0xc0010114, 1, true, true},
};
static_assert(std::size(kOurs) <= KVM_MSR_FILTER_MAX_RANGES);

}  // namespace

Result<std::unique_ptr<VmGroup>> VmGroup::create(const memory::AddressSpace& memory, bool apics) {
  System system = TRY(System::open());
  host::UniqueFd vm(request(system.file(), KVM_CREATE_VM));
  if (!vm) return host::errno_error("KVM cannot make a machine");
  std::unique_ptr<VmGroup> group(new VmGroup(std::move(system), std::move(vm)));
  u64 identity = kIdentityMap;
  if (request(group->file(), KVM_SET_IDENTITY_MAP_ADDR, &identity) != 0 ||
      request(group->file(), KVM_SET_TSS_ADDR, kTss) != 0) {
    return host::errno_error("KVM does not take its own pages' place");
  }
  if (apics && Chip::possible(group->system())) group->chip_ = TRY(Chip::create(group->file()));
  if (auto status = group->ask_for_msrs(); !status) return status.error();
  if (auto status = group->add_slots(memory); !status) return status.error();
  return group;
}

Status VmGroup::ask_for_msrs() {
  kvm_enable_cap exits = {};
  exits.cap = KVM_CAP_X86_USER_SPACE_MSR;
  exits.args[0] = KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL | KVM_MSR_EXIT_REASON_FILTER;
  if (request(file(), KVM_ENABLE_CAP, &exits) != 0) return host::errno_error("KVM does not give us MSRs");
  kvm_msr_filter filter = {};
  filter.flags = KVM_MSR_FILTER_DEFAULT_ALLOW;
  u8 none[2] = {};  // a bit for each: 0, not KVM's
  usize n = 0;
  for (const Range& ours : kOurs) {
    if (chip_ != nullptr && !ours.with_apic) continue;
    kvm_msr_filter_range& range = filter.ranges[n++];
    range.flags = KVM_MSR_FILTER_WRITE | (ours.reads ? u32{KVM_MSR_FILTER_READ} : 0);
    range.base = ours.first;
    range.nmsrs = ours.count;
    range.bitmap = none;
  }
  if (request(file(), KVM_X86_SET_MSR_FILTER, &filter) != 0)
    return host::errno_error("KVM does not take a filter for MSRs");
  return {};
}

Status VmGroup::add_slots(const memory::AddressSpace& memory) {
  const bool read_only = system_.can(KVM_CAP_READONLY_MEM) > 0;
  u32 slot = 0;
  for (usize i = 0; i < memory.region_count(); ++i) {
    const memory::Region& region = memory.region(i);
    if (region.kind == memory::RegionKind::Mmio) continue;
    const bool rom = region.kind == memory::RegionKind::Rom;
    if (rom && !read_only) continue;  // comes by exits
    kvm_userspace_memory_region wanted = {};
    wanted.slot = slot++;
    wanted.flags = rom ? u32{KVM_MEM_READONLY} : 0;
    wanted.guest_phys_addr = region.base.value();
    wanted.memory_size = region.size;
    wanted.userspace_addr = reinterpret_cast<u64>(region.host);
    if (request(file(), KVM_SET_USER_MEMORY_REGION, &wanted) != 0)
      return host::errno_error("KVM does not take the guest's memory");
    if (!rom && region.page_flags != nullptr) dirty_log_.add_slot(wanted, region.page_flags);
  }
  spare_slot_ = slot;
  spare_ = TRY(host::Mapping::anonymous(kPageSize));
  return {};
}

// A slot that is deleted takes all shadow pages with it (Linux, arch/x86/kvm/mmu/mmu.c:
// kvm_mmu_zap_all_fast()).
Status VmGroup::forget_translations() {
  const std::lock_guard held(forgetting_);
  kvm_userspace_memory_region spare = {};
  spare.slot = spare_slot_;
  spare.guest_phys_addr = kSpare;
  spare.userspace_addr = reinterpret_cast<u64>(spare_.data());
  for (const u64 bytes : {kPageSize, usize{0}}) {
    spare.memory_size = bytes;
    if (request(file(), KVM_SET_USER_MEMORY_REGION, &spare) != 0)
      return host::errno_error("KVM does not drop what it knows of the guest's page tables");
  }
  return {};
}

namespace {

// A length of 0: any.
kvm_ioeventfd any_write(GuestPhysical address, int event, u32 flags) {
  kvm_ioeventfd asked = {};
  asked.addr = address.value();
  asked.fd = event;
  asked.flags = flags;
  return asked;
}

}  // namespace

bool VmGroup::divert_writes(GuestPhysical address, int event) {
  kvm_ioeventfd asked = any_write(address, event, 0);
  return diverts_ && request(file(), KVM_IOEVENTFD, &asked) == 0;
}

void VmGroup::give_back_writes(GuestPhysical address, int event) {
  kvm_ioeventfd asked = any_write(address, event, KVM_IOEVENTFD_FLAG_DEASSIGN);
  static_cast<void>(request(file(), KVM_IOEVENTFD, &asked));
}

Result<std::unique_ptr<engine::Group>> make_group(const memory::AddressSpace& memory, bool apics) {
  auto group = TRY(VmGroup::create(memory, apics));
  return std::unique_ptr<engine::Group>(std::move(group));
}

bool has_local_apics() {
  const auto system = System::open();
  return system && Chip::possible(system.value());
}

Result<std::unique_ptr<cpu::HostCpuid>> host_cpuid() {
  const System system = TRY(System::open());
  return std::unique_ptr<cpu::HostCpuid>(std::make_unique<Cpuid>(TRY(Cpuid::of(system))));
}

Fitness fitness() {
  Fitness fitness;
  if (access("/dev/kvm", R_OK | W_OK) != 0) {
    fitness.reason = errno == ENOENT   ? "no /dev/kvm"
                     : errno == EACCES ? "/dev/kvm: permission denied: add yourself to group kvm"
                                       : "/dev/kvm cannot be used";
  }
  const auto system = System::open();
  if (!system) {
    fitness.why_not = system.error();
    if (fitness.reason.empty()) fitness.reason = fitness.why_not.message();
    return fitness;
  }
  fitness.usable = true;
  fitness.fast = hardware_virtualization();
  fitness.reason = fitness.fast
                       ? "/dev/kvm is usable, and the processor has VT-x or AMD-V"
                       : "the processor shows no vmx or svm: /dev/kvm would emulate what a kernel does";
  return fitness;
}

}  // namespace nacre::kvm
