#include "engine/conformance/guest.hpp"

#include <cstring>

#include "cpu/host_cpuid.hpp"
#include "x86/registers.hpp"

namespace nacre::conformance {
namespace {

using cpu::SegmentAttributes;
using x86::Cr0;
using x86::Cr4;
using x86::Efer;
using x86::Pte;

constexpr u64 kRamBytes = 2 * kMiB;
// Guest-physical places.
constexpr u64 kPml4 = 0x1000, kPdptLow = 0x2000, kPdLow = 0x3000, kPtLow = 0x4000, kPdptHigh = 0x5000,
              kPdHigh = 0x6000, kGdt = 0x7000, kIdt = 0x8000, kTss = 0x9000, kHandlers = 0xa000,
              kStackTop = 0xf000, kLoader = 0x10000, kStaging = 0x11000, kCodePage = 0x20000,
              kDataPages = 0x21000;
// Where the first 2 MiB lie for the supervisor: the top of the address space.
constexpr u64 kSupervisor = 0xffffff8000000000;
constexpr u64 kHandlerBytes = 16;
static_assert(kCodeAlias == kSupervisor + kCodePage);
constexpr u16 kKernelCode = 0x10, kKernelData = 0x18, kTaskSelector = 0x40;

// Puts int3 over the last case's code (RDI, RCX) and copies the next one's (RSI to RDX, RBX bytes): the guest
// itself writes it, so an engine that translates notices by its own means.
constexpr u8 kLoaderCode[] = {
    0xf3, 0xaa,        // rep stosb
    0x48, 0x89, 0xd7,  // mov rdi, rdx
    0x48, 0x89, 0xd9,  // mov rcx, rbx
    0xf3, 0xa4,        // rep movsb
    0xf4,              // hlt
};

constexpr bool has_error_code(unsigned vector) {
  return vector == 8 || (vector >= 10 && vector <= 14) || vector == 17 || vector == 21;
}

cpu::Segment flat(u16 selector, u16 attributes) {
  cpu::Segment segment;
  segment.selector = selector;
  segment.attributes =
      static_cast<u16>(attributes | SegmentAttributes::S | SegmentAttributes::P | SegmentAttributes::G);
  segment.limit = 0xffffffff;
  return segment;
}

constexpr u16 dpl(unsigned level) {
  return static_cast<u16>(level << SegmentAttributes::dpl_shift);
}

}  // namespace

void Guest::write(u64 physical, u64 value) {
  std::memcpy(ram_.data() + physical, &value, sizeof value);
}

void Guest::build_tables() {
  constexpr u64 kTable = Pte::P | Pte::RW | Pte::US | Pte::A;
  constexpr u64 kUser = Pte::P | Pte::US | Pte::A | Pte::D;
  write(kPml4, kPdptLow | kTable);
  write(kPdptLow, kPdLow | kTable);
  write(kPdLow + 8 * (kCode >> 21), kPtLow | kTable);
  write(kPtLow + 8 * (kCode >> 12 & 511), kCodePage | kUser);
  for (u64 i = 0; i < kDataBytes / kPageSize; ++i) {
    const u64 writable = i < kWritableBytes / kPageSize ? Pte::RW : 0;
    write(kPtLow + 8 * ((kData >> 12 & 511) + i), (kDataPages + i * kPageSize) | kUser | writable | Pte::NX);
  }
  write(kPml4 + 8 * 511, kPdptHigh | kTable);
  write(kPdptHigh, kPdHigh | kTable);
  write(kPdHigh, 0 | Pte::P | Pte::RW | Pte::A | Pte::D | Pte::PS);

  write(kGdt + kKernelCode, 0x00af9b000000ffff);
  write(kGdt + 0x18, 0x00cf93000000ffff);
  write(kGdt + (kUserCode32 & ~7), 0x00cffb000000ffff);
  write(kGdt + (kUserData & ~7), 0x00cff3000000ffff);
  write(kGdt + (kUserCode & ~7), 0x00affb000000ffff);
  write(kTss + 4, kSupervisor + kStackTop);     // RSP0
  write(kTss + 0x24, kSupervisor + kStackTop);  // IST1, so that code at CPL 0 too has its frame there
  write(kTss + 0x60, u64{0xffff} << 48);        // no I/O permission map

  for (u64 vector = 0; vector < 256; ++vector) {
    const u64 handler = kSupervisor + kHandlers + (vector % 64) * kHandlerBytes;
    constexpr u64 kGate = u64{0xee} << 40;  // present, DPL 3, interrupt gate
    write(kIdt + 16 * vector, (handler & 0xffff) | u64{kKernelCode} << 16 | u64{1} << 32 | kGate |
                                  (handler >> 16 & 0xffff) << 48);
    write(kIdt + 16 * vector + 8, handler >> 32);
  }
  std::memset(ram_.data() + kHandlers, 0xf4, 64 * kHandlerBytes);  // hlt
  std::memset(ram_.data() + kCodePage, 0xcc, kCodeBytes);          // int3
  std::memcpy(ram_.data() + kLoader, kLoaderCode, sizeof kLoaderCode);

  cpu::State& state = initial_;
  state.cr0 = Cr0::PE | Cr0::MP | Cr0::ET | Cr0::NE | Cr0::WP | Cr0::AM | Cr0::PG;
  state.cr3 = kPml4;
  state.cr4 = Cr4::PAE | Cr4::PGE | Cr4::OSFXSR | Cr4::OSXMMEXCPT | (model_.cr4_mask() & Cr4::OSXSAVE);
  state.efer = Efer::SCE | Efer::LME | Efer::LMA | Efer::NXE;
  state.xcr0 = model_.xcr0_mask() | cpu::Xcr0::x87;
  state.segment[x86::CS] = flat(kUserCode, static_cast<u16>(0xb | dpl(3) | SegmentAttributes::L));
  state.segment[x86::SS] = flat(kUserData, static_cast<u16>(0x3 | dpl(3) | SegmentAttributes::DB));
  state.segment[x86::DS] = state.segment[x86::ES] = state.segment[x86::SS];
  state.segment[x86::GS].base = kGsBase;
  state.gdtr = {kSupervisor + kGdt, 0x7f};
  state.idtr = {kSupervisor + kIdt, 0xfff};
  state.tr.selector = kTaskSelector;
  state.tr.attributes = static_cast<u16>(0xb | SegmentAttributes::P);
  state.tr.limit = 0x67;
  state.tr.base = kSupervisor + kTss;
}

Result<std::unique_ptr<Guest>> Guest::create(engine::Kind kind) {
  auto model = TRY(cpu::Model::create(cpu::NativeCpuid(), {}));
  std::unique_ptr<Guest> guest(new Guest(std::move(model)));
  guest->ram_ = TRY(host::Mapping::anonymous(kRamBytes));
  TRY(guest->memory_.add_ram(GuestPhysical(0), kRamBytes, guest->ram_.data(), guest->page_flags_));
  guest->build_tables();
  engine::EngineContext context{guest->memory_, guest->platform_, guest->model_};
  context.interrupt_hint = &guest->interrupt_hint_;
  context.native_tsc = true;
  guest->vcpu_ = TRY(engine::make_vcpu(kind, context));
  return guest;
}

void Guest::load_code(const Case& test) {
  const u64 room = kCodeBytes - test.code_offset;
  const u64 bytes = test.code_bytes < room ? test.code_bytes : room;
  std::memcpy(ram_.data() + kStaging, test.code, bytes);
  cpu::State& state = vcpu_->state();
  state = initial_;
  state.segment[x86::CS] = flat(kKernelCode, static_cast<u16>(0xb | SegmentAttributes::L));
  state.segment[x86::SS] = flat(kKernelData, static_cast<u16>(0x3 | SegmentAttributes::DB));
  state.rip = kSupervisor + kLoader;
  state.rflags = x86::Rflags::fixed;
  state.gpr[x86::RSP] = kSupervisor + kStackTop;
  state.gpr[x86::RAX] = 0xcc;
  state.gpr[x86::RDI] = kSupervisor + kCodePage + code_at_;
  state.gpr[x86::RCX] = code_length_;
  state.gpr[x86::RDX] = kSupervisor + kCodePage + test.code_offset;
  state.gpr[x86::RBX] = bytes;
  state.gpr[x86::RSI] = kSupervisor + kStaging;
  code_at_ = test.code_offset;
  code_length_ = bytes;
  vcpu_->state_changed();
  run_until_halted();
}

void Guest::run_until_halted() {
  // Kicks may come from anywhere; a guest that goes on for ever is not one of ours.
  for (int exits = 0; exits < 10'000; ++exits) {
    if (vcpu_->run().reason != engine::ExitReason::Kicked) break;
  }
}

void Guest::load(const Case& test) {
  load_code(test);
  reset(test, Mappings::Dropped);
}

void Guest::reset(const Case& test, Mappings mappings) {
  fill_data(test, ram_.data() + kDataPages);
  cpu::State& state = vcpu_->state();
  state = initial_;
  if (test.code_size == x86::CodeSize::Bits32) {
    state.segment[x86::CS] = flat(kUserCode32, static_cast<u16>(0xb | dpl(3) | SegmentAttributes::DB));
  }
  if (test.supervisor) {
    state.segment[x86::CS] = flat(kKernelCode, static_cast<u16>(0xb | SegmentAttributes::L));
    state.segment[x86::SS] = flat(kKernelData, static_cast<u16>(0x3 | SegmentAttributes::DB));
    state.kernel_gs_base = kData;
    state.star = u64{kUserCode32} << 48 | u64{kKernelCode} << 32;
    state.lstar = kCode + kCodeBytes - 16;
    state.fmask = 0x700;
    state.cr4 |= model_.cr4_mask() & (Cr4::FSGSBASE | Cr4::SMAP);
  }
  for (unsigned i = 0; i < 16; ++i) state.gpr[i] = test.before.gpr[i];
  state.rip = test.before.rip;
  state.rflags =
      test.before.rflags | x86::Rflags::fixed | (test.supervisor ? u64{x86::Rflags::AC} : x86::Rflags::IF);
  std::memcpy(state.xsave, test.before.xsave, sizeof state.xsave);
  if (mappings == Mappings::Dropped) vcpu_->state_changed();
}

void Guest::store(Outcome& outcome) {
  const cpu::State& state = vcpu_->state();
  std::memcpy(outcome.after.gpr, state.gpr, sizeof outcome.after.gpr);
  std::memcpy(outcome.after.xsave, state.xsave, sizeof outcome.after.xsave);
  std::memcpy(outcome.data, ram_.data() + kDataPages, kDataBytes);
  outcome.cr2 = state.cr2;
  const u64 handler = state.rip - (kSupervisor + kHandlers);
  const u64 stack = state.gpr[x86::RSP] - kSupervisor;
  if (handler >= 64 * kHandlerBytes || stack >= kStackTop) {  // not in a handler: hung or worse
    outcome.vector = Outcome::kHung;
    outcome.after.rip = state.rip;
    outcome.after.rflags = state.rflags;
    return;
  }
  outcome.vector = static_cast<u8>(handler / kHandlerBytes);
  const auto word = [&](u64 i) {
    u64 value = 0;
    std::memcpy(&value, ram_.data() + stack + 8 * i, sizeof value);
    return value;
  };
  const bool coded = has_error_code(outcome.vector);
  outcome.error_code = coded ? static_cast<u32>(word(0)) : 0;
  const u64 first = coded ? 1 : 0;
  outcome.after.rip = word(first);
  outcome.after.rflags = word(first + 2);
  outcome.after.gpr[x86::RSP] = word(first + 3);
}

void Guest::run(const Case& test, Outcome& outcome) {
  load(test);
  run_until_halted();
  store(outcome);
}

}  // namespace nacre::conformance
