#include "engine/hosted_vector_unit.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include "cpu/host_cpuid.hpp"
#include "cpu/xsave_layout.hpp"
#include "host/error.hpp"

namespace nacre::engine {
namespace {

constexpr usize kStubBytes = 4 * kPageSize;

interp::VectorPages pages(const host::Mapping& writable, const host::Mapping& executable,
                          const host::Mapping& bounce) {
  return {writable.data(), executable.data(), kStubBytes, bounce.data() + kPageSize};
}

}  // namespace

Result<std::unique_ptr<HostedVectorUnit>> HostedVectorUnit::create() {
  const int file = memfd_create("nacre-vector", MFD_CLOEXEC);
  if (file < 0) return host::errno_error("Cannot make memory for generated code");
  struct Closer {
    int file;
    ~Closer() { close(file); }
  } closer{file};
  if (ftruncate(file, kStubBytes) != 0) return host::errno_error("Cannot make memory for generated code");

  auto writable = TRY(host::Mapping::shared_file(file, kStubBytes, PROT_READ | PROT_WRITE));
  auto executable = TRY(host::Mapping::shared_file(file, kStubBytes, PROT_READ | PROT_EXEC));
  auto bounce = TRY(host::Mapping::anonymous(3 * kPageSize));
  if (mprotect(bounce.data(), kPageSize, PROT_NONE) != 0 ||
      mprotect(bounce.data() + 2 * kPageSize, kPageSize, PROT_NONE) != 0) {
    return host::errno_error("Cannot protect a guard page");
  }
  return std::unique_ptr<HostedVectorUnit>(
      new HostedVectorUnit(std::move(writable), std::move(executable), std::move(bounce)));
}

HostedVectorUnit::HostedVectorUnit(host::Mapping writable, host::Mapping executable, host::Mapping bounce)
    : writable_(std::move(writable)),
      executable_(std::move(executable)),
      bounce_(std::move(bounce)),
      unit_(pages(writable_, executable_, bounce_), cpu::xsave_layout(cpu::NativeCpuid())) {}

bool HostedVectorUnit::handle(int signal, siginfo_t*, ucontext_t* context) {
  if (signal != SIGSEGV && signal != SIGBUS && signal != SIGFPE && signal != SIGILL) return false;
  greg_t* registers = context->uc_mcontext.gregs;
  u64 rip = static_cast<u64>(registers[REG_RIP]);
  if (!unit_.recover(rip, static_cast<u8>(registers[REG_TRAPNO]), static_cast<u64>(registers[REG_CR2]))) return false;
  registers[REG_RIP] = static_cast<greg_t>(rip);
  return true;
}

}  // namespace nacre::engine
