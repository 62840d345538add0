// /dev/kvm and what it can do here. Linux, Documentation/virt/kvm/api.rst. Any thread.
#pragma once

#include <linux/kvm.h>

#include <cstddef>
#include <span>
#include <vector>

#include "base/result.hpp"
#include "cpu/host_cpuid.hpp"
#include "host/fd.hpp"
#include "host/kvm_requests.hpp"

namespace nacre::kvm {

// ioctl() that is done again when a signal came first. -1: errno says why.
int request(int file, unsigned long number, void* argument);
int request(int file, unsigned long number, unsigned long argument = 0);

class System {
 public:
  // Opens the device and asks for what the engine cannot do without. The Error is for the user.
  static Result<System> open();

  [[nodiscard]] int file() const { return file_.number(); }
  // 0: no.
  [[nodiscard]] int can(int extension) const {
    return request(file(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(extension));
  }
  [[nodiscard]] usize run_bytes() const { return run_bytes_; }

 private:
  explicit System(host::UniqueFd file) : file_(std::move(file)) {}

  host::UniqueFd file_;
  usize run_bytes_ = 0;
};

// kvm_cpuid2 with room for its entries. (Its own array stands elsewhere in C++ than in C.)
struct CpuidList {
  static constexpr u32 kMost = 256;
  u32 count = 0, padding = 0;
  kvm_cpuid_entry2 entries[kMost] = {};
};
static_assert(offsetof(CpuidList, entries) == 8);

// What a guest of this KVM can have of the processor. What KVM emulates only in part is not among it.
class Cpuid final : public cpu::HostCpuid {
 public:
  static Result<Cpuid> of(const System& system);
  Cpuid(std::span<const kvm_cpuid_entry2> entries, const cpu::HostCpuid& processor);
  [[nodiscard]] cpu::CpuidLeaf leaf(u32 leaf, u32 subleaf) const override;
  [[nodiscard]] u64 xcr0() const override;

 private:
  std::vector<kvm_cpuid_entry2> entries_;
};

// Whether the processor has VMX or SVM; a /dev/kvm without them emulates what a kernel does, slowly.
[[nodiscard]] bool hardware_virtualization();

}  // namespace nacre::kvm
