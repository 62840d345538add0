#include "board/boot/start_state.hpp"

namespace nacre::board::boot {
namespace {

using Attr = cpu::SegmentAttributes;

constexpr u16 kBootCode = 0x10, kBootData = 0x18;
constexpr u16 kCodeType = 0xb, kDataType = 0x3;  // accessed; readable code, writable data
constexpr u16 kBusyTss = 0xb;

// SDM vol. 3, 3.4.5: a flat descriptor with these attributes.
constexpr u64 flat_descriptor(u16 attributes) {
  return 0x000f'0000'0000'ffff | (u64{attributes} & 0xff) << 40 | (u64{attributes} >> 12) << 52;
}
constexpr u16 kFlatCode32 = kCodeType | Attr::S | Attr::P | Attr::DB | Attr::G;
constexpr u16 kFlatCode64 = kCodeType | Attr::S | Attr::P | Attr::L | Attr::G;
constexpr u16 kFlatData = kDataType | Attr::S | Attr::P | Attr::DB | Attr::G;
static_assert(flat_descriptor(kFlatCode32) == 0x00cf9b000000ffff);
static_assert(flat_descriptor(kFlatCode64) == 0x00af9b000000ffff);
static_assert(flat_descriptor(kFlatData) == 0x00cf93000000ffff);

void set_flat_segments(cpu::State& state, u16 code_attributes) {
  for (cpu::Segment& segment : state.segment) {
    segment = {.selector = kBootData, .attributes = kFlatData, .limit = 0xffffffff, .base = 0};
  }
  state.segment[x86::CS] = {
      .selector = kBootCode, .attributes = code_attributes, .limit = 0xffffffff, .base = 0};
  state.tr = {.selector = 0, .attributes = kBusyTss | Attr::P, .limit = 0x67, .base = 0};
  state.ldtr = {};
  state.gdtr = {};
  state.idtr = {};
}

// What firmware leaves behind whatever it then boots.
void set_as_firmware_would(cpu::State& state) {
  set_memory_types(state);
  state.activity = cpu::Activity::Running;
  state.rflags = x86::Rflags::fixed;
}

template <typename T>
void store(const Machine& machine, u64 address, const T& value) {
  NACRE_CHECK(machine.memory.write(GuestPhysical(address), &value, sizeof value));
}

// What Linux calls __BOOT_CS and __BOOT_DS, at their selectors.
Result<cpu::TableRegister> write_gdt(const Machine& machine, Placer& placer, u16 code_attributes) {
  const u64 gdt[4] = {0, 0, flat_descriptor(code_attributes), flat_descriptor(kFlatData)};
  const u64 base = TRY(placer.lowest(sizeof gdt, 16, kStructuresLow, kStructuresHigh, "the GDT"));
  store(machine, base, gdt);
  return cpu::TableRegister{.base = base, .limit = sizeof gdt - 1};
}

// PML4, one page of directory pointers, four page directories of 2 MiB pages. SDM vol. 3, 4.5.4.
Result<u64> write_identity_map(const Machine& machine, Placer& placer) {
  constexpr u64 kTables = 6, kDirectories = 4;
  constexpr u64 table = x86::Pte::P | x86::Pte::RW;
  const u64 pml4 =
      TRY(placer.lowest(kTables * kPageSize, kPageSize, kStructuresLow, kStructuresHigh, "the page tables"));
  const u64 pointers = pml4 + kPageSize;
  const u64 directories = pointers + kPageSize;
  for (u64 i = 0; i < kTables * kPageSize / 8; ++i) store(machine, pml4 + 8 * i, u64{0});
  store(machine, pml4, pointers | table);
  for (u64 i = 0; i < kDirectories; ++i)
    store(machine, pointers + 8 * i, (directories + i * kPageSize) | table);
  for (u64 i = 0; i < kDirectories * 512; ++i) {
    store(machine, directories + 8 * i, (i * 2 * kMiB) | table | x86::Pte::PS);
  }
  return pml4;
}

}  // namespace

// SDM vol. 3, 11.11.2.1.
void set_memory_types(cpu::State& state) {
  state.mtrr_def_type = 0x806;  // enabled, fixed ranges off, default write-back
}

void enter_protected_mode(cpu::State& state, u32 entry) {
  set_flat_segments(state, kFlatCode32);
  set_as_firmware_would(state);
  state.cr0 = x86::Cr0::PE | x86::Cr0::ET;
  state.cr4 = 0;
  state.efer = 0;
  state.rip = entry;
}

Status enter_linux32(const Machine& machine, Placer& placer, cpu::State& state, u32 entry, u64 boot_params) {
  enter_protected_mode(state, entry);
  state.gdtr = TRY(write_gdt(machine, placer, kFlatCode32));
  state.gpr[x86::RSI] = boot_params;
  for (const auto zero : {x86::RBP, x86::RDI, x86::RBX}) state.gpr[zero] = 0;
  return {};
}

Status enter_long_mode(const Machine& machine, Placer& placer, cpu::State& state, u64 entry,
                       u64 boot_params) {
  const cpu::TableRegister gdtr = TRY(write_gdt(machine, placer, kFlatCode64));
  const u64 tables = TRY(write_identity_map(machine, placer));

  set_flat_segments(state, kFlatCode64);
  set_as_firmware_would(state);
  state.gdtr = gdtr;
  state.cr0 = x86::Cr0::PE | x86::Cr0::ET | x86::Cr0::NE | x86::Cr0::PG;
  state.cr3 = tables;
  state.cr4 = x86::Cr4::PAE;
  state.efer = x86::Efer::LME | x86::Efer::LMA;
  state.rip = entry;
  state.gpr[x86::RSI] = boot_params;
  state.gpr[x86::RSP] = 0;  // Linux sets its own; a push before that would fault, which is right
  return {};
}

}  // namespace nacre::board::boot
