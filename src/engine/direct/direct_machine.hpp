// A guest for tests: one or several processors at ring 3 in one address space, set up as Linux has them.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <memory>
#include <vector>

#include "cpu/host_cpuid.hpp"
#include "cpu/model.hpp"
#include "engine/conformance/quiet_platform.hpp"
#include "engine/interp/interp_vcpu.hpp"
#include "engine/soft/soft.hpp"
#include "host/guest_ram.hpp"

namespace nacre::direct {

inline constexpr u64 kRamBytes = 16 * kMiB;
inline constexpr u32 kFirstApicId = 64;  // not what the host has
inline constexpr u64 kUser = 0x10000, kUserStack = 0x80000, kData = 0x100000, kTables = 0x1000, kPages = 0x200000;

inline u64 host_components() {
  u32 low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return u64{high} << 32 | low;
}

// Ring 3 with everything identity-mapped for users, as Linux sets segments. Handlers halt with the vector in
// R15.
struct Machine {
  host::GuestRam ram = host::GuestRam::create(kRamBytes).take();
  u8* base = ram.data();
  memory::AddressSpace space;
  conformance::QuietPlatform platform;
  std::vector<std::unique_ptr<cpu::Model>> models;
  std::unique_ptr<engine::Group> group;
  std::vector<std::unique_ptr<engine::Vcpu>> vcpus;
  engine::Vcpu* vcpu = nullptr;  // the first

  // One processor is this thread's. Of several, each is of the thread that calls enter_thread().
  explicit Machine(engine::DirectMode direct, bool soft = true, unsigned processors = 1) {
    EXPECT_TRUE(space.add_ram(GuestPhysical(0), kRamBytes, base, ram.page_flags()).ok());
    if (processors > 1) group = soft::make_group(space, processors).take();
    set_up_memory();
    for (unsigned i = 0; i < processors; i++) {
      models.push_back(std::make_unique<cpu::Model>(
          cpu::Model::create(cpu::NativeCpuid(), {.processors = 128, .apic_id = kFirstApicId + i}).take()));
      const engine::EngineContext context{.memory = space,
                                          .platform = platform,
                                          .model = *models[i],
                                          .direct = direct,
                                          .group = group.get(),
                                          .number = i,
                                          .ram_file = ram.file()};
      vcpus.push_back((soft ? soft::make(context) : engine::make_interp(context)).take());
      set_up(vcpus[i]->state());
      vcpus[i]->state().gpr[x86::RSP] -= i * 0x1000;
    }
    vcpu = vcpus[0].get();
    if (processors == 1) {
      EXPECT_TRUE(vcpu->enter_thread().ok());
    }
  }
  void put64(u64 at, u64 value) { std::memcpy(base + at, &value, 8); }
  [[nodiscard]] u64 get64(u64 at) const {
    u64 value = 0;
    std::memcpy(&value, base + at, 8);
    return value;
  }
  u64 page_entry(u64 linear) const { return kPages + linear / kPageSize * 8; }

  void set_up_memory() {
    put64(kTables, (kTables + 0x1000) | 7);
    put64(kTables + 0x1000, (kTables + 0x2000) | 7);
    for (u64 i = 0; i < kRamBytes / (2 * kMiB); i++)
      put64(kTables + 0x2000 + 8 * i, (kPages + i * kPageSize) | 7);
    for (u64 page = 0; page < kRamBytes; page += kPageSize) put64(page_entry(page), page | 7);
    for (u64 n = 0; n < 256; n++) {
      const u64 handler = 0x9000 + 16 * n;
      put64(0x6000 + 16 * n, (handler & 0xffff) | 8 << 16 | u64{0xee00} << 32);
      const u8 code[] = {0x41, 0xbf, static_cast<u8>(n), 0, 0, 0, 0xf4};
      std::memcpy(base + handler, code, sizeof code);
    }
    put64(0x5008, 0x00af9b000000ffff);
    put64(0x5010, 0x00cf93000000ffff);
    put64(0x5028, 0x00cff3000000ffff);
    put64(0x5030, 0x00affb000000ffff);
    put64(0x7004, 0xa0000);  // TSS: RSP0
  }
  // SYSCALL leads to a handler, too.
  static void set_up(cpu::State& s) {
    cpu::reset(s, false);
    s.cr0 = x86::Cr0::PE | x86::Cr0::PG | x86::Cr0::WP | x86::Cr0::NE | x86::Cr0::ET | x86::Cr0::MP;
    s.cr4 = x86::Cr4::PAE | x86::Cr4::OSFXSR | x86::Cr4::OSXMMEXCPT | x86::Cr4::OSXSAVE | x86::Cr4::FSGSBASE;
    s.xcr0 = host_components();
    s.efer = x86::Efer::LME | x86::Efer::LMA | x86::Efer::SCE;
    s.star = u64{0x23} << 48 | u64{8} << 32;
    s.lstar = 0x9000 + 16 * 0x80;
    s.cr3 = kTables;
    s.gdtr = {0x5000, 0x3f};
    s.idtr = {0x6000, 0xfff};
    s.tr = {0x38, 0x8b, 0x67, 0x7000};
    s.segment[x86::CS] = {0x33, 0xa0fb, 0xffffffff, 0};
    s.segment[x86::SS] = {0x2b, 0xc0f3, 0xffffffff, 0};
    s.rflags = x86::Rflags::fixed | x86::Rflags::IF;
    s.gpr[x86::RSP] = kUserStack;
    s.rip = kUser;
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

#define GUEST_CODE(name, text)                                                                               \
  __asm__(".pushsection .rodata\n.globl direct_" #name "\ndirect_" #name ":\n" text "\n.globl direct_" #name \
          "_end\ndirect_" #name "_end:\n.popsection\n");                                                     \
  extern "C" const u8 direct_##name[], direct_##name##_end[];                                                \
  const std::vector<u8> name(direct_##name, direct_##name##_end);

}  // namespace nacre::direct
