// A machine for small programs at CPL 0 that run to their HLT, and whose page tables, end of memory and
// interrupt table they may know: Guest (guest.hpp) is for cases in user mode at the addresses that a Linux
// process has too. Tests only.
#pragma once

#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#include "base/check.hpp"
#include "cpu/host_cpuid.hpp"
#include "cpu/model.hpp"
#include "engine/conformance/quiet_platform.hpp"
#include "engine/context.hpp"
#include "engine/engine.hpp"
#include "memory/address_space.hpp"
#include "x86/registers.hpp"

namespace nacre::conformance {

inline constexpr u64 kRamBytes = 16 * kMiB;
inline constexpr u64 kProgram = 0x10000, kStackTop = 0x80000, kTables = 0x1000;

// 64-bit kernel mode, 16 MiB of identity-mapped RAM in 4 KiB pages, IDT whose handlers halt with the vector
// in R15.
struct Machine {
  std::vector<u8> ram = std::vector<u8>(kRamBytes + kPageSize);
  std::vector<u8> flags = std::vector<u8>(kRamBytes / kPageSize);
  u8* base = nullptr;
  memory::AddressSpace space;
  QuietPlatform platform;
  std::unique_ptr<cpu::Model> model;
  std::unique_ptr<engine::Vcpu> vcpu;

  using Maker = std::function<Result<std::unique_ptr<engine::Vcpu>>(const engine::EngineContext&)>;
  // `processor`: what the model is made from, for an engine that lets the host's run the guest; null: this one's, translated.
  explicit Machine(const Maker& make, cpu::Platform* other = nullptr, const cpu::HostCpuid* processor = nullptr) {
    base = reinterpret_cast<u8*>((reinterpret_cast<u64>(ram.data()) + kPageSize - 1) & ~(kPageSize - 1));
    NACRE_CHECK(space.add_ram(GuestPhysical(0), kRamBytes, base, flags.data()).ok());
    cpu::Model::Options options;
    const cpu::NativeCpuid native;
    if (processor != nullptr) options.execution = cpu::Execution::Direct;
    model = std::make_unique<cpu::Model>(cpu::Model::create(processor != nullptr ? *processor : native, options).take());
    const engine::EngineContext context{space, other != nullptr ? *other : platform, *model};
    vcpu = make(context).take();
    set_up();
  }
  void put64(u64 at, u64 value) { std::memcpy(base + at, &value, 8); }
  [[nodiscard]] u64 get64(u64 at) const {
    u64 value = 0;
    std::memcpy(&value, base + at, 8);
    return value;
  }

  void set_up() {
    put64(kTables, (kTables + 0x1000) | 3);
    put64(kTables + 0x1000, (kTables + 0x2000) | 3);
    for (u64 i = 0; i < kRamBytes / (2 * kMiB); i++) {
      put64(kTables + 0x2000 + 8 * i, (0x200000 + i * 0x1000) | 3);
      for (u64 k = 0; k < 512; k++) put64(0x200000 + i * 0x1000 + 8 * k, (i * 2 * kMiB + k * kPageSize) | 3);
    }
    // Gates 0 to 31 at 0x6000 lead to "mov r15d, n; hlt" at 0x7000 + 16 n.
    for (u64 n = 0; n < 32; n++) {
      const u64 handler = 0x7000 + 16 * n;
      put64(0x6000 + 16 * n, (handler & 0xffff) | 8 << 16 | u64{0x8e00} << 32);
      const u8 code[] = {0x41, 0xbf, static_cast<u8>(n), 0, 0, 0, 0xf4};
      std::memcpy(base + handler, code, sizeof code);
    }
    put64(0x5008, 0x00af9b000000ffff);
    put64(0x5010, 0x00cf93000000ffff);
    cpu::State& s = vcpu->state();
    cpu::reset(s, false);
    s.cr0 = x86::Cr0::PE | x86::Cr0::PG | x86::Cr0::WP | x86::Cr0::NE | x86::Cr0::ET;
    s.cr4 = x86::Cr4::PAE | x86::Cr4::OSFXSR | x86::Cr4::OSXMMEXCPT;
    s.efer = x86::Efer::LME | x86::Efer::LMA;
    s.cr3 = kTables;
    s.gdtr = {0x5000, 0x17};
    s.idtr = {0x6000, 0x1ff};
    s.segment[x86::CS] = {8, 0xa09b, 0xffffffff, 0};
    for (const auto i : {x86::SS, x86::DS, x86::ES, x86::FS, x86::GS})
      s.segment[i] = {0x10, 0xc093, 0xffffffff, 0};
    s.gpr[x86::RSP] = kStackTop;
    s.rip = kProgram;
  }

  void load(u64 at, const std::vector<u8>& code) { std::memcpy(base + at, code.data(), code.size()); }
  engine::ExitReason run() {
    vcpu->state_changed();
    for (;;) {
      const engine::Exit exit = vcpu->run();
      if (exit.reason != engine::ExitReason::Kicked) return exit.reason;
    }
  }
};

// Assembled by the compiler into this program; `code_NAME` to `code_NAME_end`.
#define GUEST_CODE(name, text)                                                                         \
  __asm__(".pushsection .rodata\n.globl code_" #name "\ncode_" #name ":\n" text "\n.globl code_" #name \
          "_end\ncode_" #name "_end:\n.popsection\n");                                                 \
  extern "C" const u8 code_##name[], code_##name##_end[];                                              \
  const std::vector<u8> name(code_##name, code_##name##_end);

}  // namespace nacre::conformance
