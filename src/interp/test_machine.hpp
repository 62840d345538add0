// A tiny machine for the interpreter's tests and fuzz target: flat memory from 0, an invented platform, and
// helpers that put code and tables in place. Not for vector instructions: the vector unit here has no
// executable stubs.
#pragma once

#include <cstdlib>
#include <cstring>
#include <deque>
#include <initializer_list>
#include <memory>
#include <vector>

#include "cpu/descriptor.hpp"
#include "cpu/model.hpp"
#include "interp/interpreter.hpp"
#include "interp/vector_unit.hpp"

namespace nacre::interp {

struct FakePlatform final : cpu::Platform {
  u64 mmio_read(GuestPhysical, unsigned size) override { return 0xa5a5a5a5a5a5a5a5 & low_bytes_mask(size); }
  void mmio_write(GuestPhysical address, unsigned size, u64 value) override {
    mmio_writes.push_back({address.value(), size, value});
    if (answers_writes) interrupts.push_back(0x30);
  }
  u32 port_read(u16 port, unsigned size) override {
    return static_cast<u32>((0x11223344u + port) & low_bytes_mask(size));
  }
  void port_write(u16 port, unsigned size, u32 value) override {
    port_writes.push_back({port, size, value});
    if (answers_writes) interrupts.push_back(0x30);
  }
  bool interrupt_pending() override { return !interrupts.empty(); }
  int acknowledge_interrupt() override {
    if (interrupts.empty()) return -1;
    const int vector = interrupts.front();
    interrupts.pop_front();
    return vector;
  }
  u8 task_priority() override { return cr8; }
  void set_task_priority(u8 value) override { cr8 = value; }
  bool msr_read(u32, u64&) override { return false; }
  bool msr_write(u32, u64) override { return false; }
  u64 hypercall(const Hypercall& call) override {
    hypercalls.push_back(call);
    return 0x1'0000'0007;
  }
  u64 tsc() override { return 1000; }
  u64 random() override { return 0x1234567890abcdef; }

  struct Write {
    u64 where;
    unsigned size;
    u64 value;
  };
  std::vector<Write> mmio_writes, port_writes;
  std::vector<Hypercall> hypercalls;
  std::deque<int> interrupts;
  u8 cr8 = 0;
  bool answers_writes = false;  // a write to a device raises an interrupt
};

struct FakeObserver final : cpu::TranslationObserver {
  void flush_all() override { ++all; }
  void flush_non_global() override { ++non_global; }
  void flush_page(GuestLinear) override { ++page; }
  void code_written(GuestPhysical address, usize bytes) override {
    written.push_back({address.value(), bytes});
  }

  int all = 0, non_global = 0, page = 0;
  std::vector<std::pair<u64, usize>> written;
};

class Machine {
 public:
  static constexpr u64 kMemory = 1 << 20;
  static constexpr u64 kCode = 0x1000, kStack = 0x8000, kGdt = 0x9000, kIdt = 0xa000, kTss = 0xb000,
                       kHandlers = 0xc000, kTables = 0xe0000;
  // GDT selectors.
  static constexpr u16 kCode64 = 0x08, kData = 0x10, kUserData = 0x18 | 3, kUserCode64 = 0x20 | 3,
                       kCode32 = 0x28, kUserCode32 = 0x30 | 3, kTssSelector = 0x40, kSpare = 0x50;

  // `vector`: a unit that can run instructions, for those who need one.
  explicit Machine(VectorUnit* vector = nullptr)
      : ram_(static_cast<u8*>(std::aligned_alloc(kPageSize, kMemory))),
        flags_(kMemory / kPageSize),
        vector_pages_(4 * kPageSize),
        model_(make_model()) {
    std::memset(ram_.get(), 0, kMemory);
    NACRE_CHECK(memory_.add_ram(GuestPhysical(0), kMemory, ram_.get(), flags_.data()).ok());
    u8* page = reinterpret_cast<u8*>((reinterpret_cast<u64>(vector_pages_.data()) + 4095) & ~u64{4095});
    vector_ = std::make_unique<VectorUnit>(VectorPages{page, page, 4096, page + 4096}, model_.xsave());
    VectorUnit& unit = vector != nullptr ? *vector : *vector_;
    interpreter_ = std::make_unique<Interpreter>(memory_, platform, model_, unit, &observer);
    cpu::reset(state, false);
    write_gdt();
  }

  // --- Modes.

  void long_mode(unsigned cpl = 0) {
    identity_map();
    state.cr0 = 0x80050033;
    state.cr4 = x86::Cr4::PAE | x86::Cr4::PGE | x86::Cr4::OSFXSR;
    state.cr3 = kTables;
    state.efer = x86::Efer::LME | x86::Efer::LMA | x86::Efer::SCE | x86::Efer::NXE;
    state.segment[x86::CS] = descriptor(cpl == 0 ? kCode64 : kUserCode64);
    set_data_segments(cpl == 0 ? kData : kUserData);
    common();
  }
  void protected_mode(unsigned cpl = 0) {
    state.cr0 = 0x11;
    state.segment[x86::CS] = descriptor(cpl == 0 ? kCode32 : kUserCode32);
    set_data_segments(cpl == 0 ? kData : kUserData);
    common();
  }
  void real_mode() {
    state.segment[x86::CS] = {0, 0x9b, 0xffff, 0};
    state.idtr = {0, 0x3ff};
    state.rip = kCode;
    state.gpr[x86::RSP] = kStack;
  }

  // --- Memory.

  void put(u64 address, std::initializer_list<int> bytes) {
    for (const int byte : bytes) ram_[address++] = static_cast<u8>(byte);
  }
  void code(std::initializer_list<int> bytes) { put(kCode, bytes); }
  template <typename T>
  void poke(u64 address, T value) {
    std::memcpy(&ram_[address], &value, sizeof value);
  }
  template <typename T>
  T peek(u64 address) const {
    T value;
    std::memcpy(&value, &ram_[address], sizeof value);
    return value;
  }
  void set_descriptor(u16 selector, u64 raw) { poke<u64>(kGdt + (selector & ~7u), raw); }
  [[nodiscard]] cpu::Segment descriptor(u16 selector) const {
    return cpu::Descriptor{peek<u64>(kGdt + (selector & ~7u))}.segment(selector);
  }
  u8& page_flags(u64 address) { return flags_[address >> kPageShift]; }

  // A gate to kHandlers + 16 * vector, where there is a HLT.
  void gate64(unsigned vector, unsigned type = 14, unsigned dpl = 0, unsigned ist = 0) {
    const u64 target = kHandlers + 16 * vector;
    ram_[target] = 0xf4;
    poke<u64>(kIdt + 16 * vector, (target & 0xffff) | u64{kCode64} << 16 | u64{ist} << 32 | u64{type} << 40 |
                                      u64{dpl} << 45 | u64{1} << 47 | (target >> 16 & 0xffff) << 48);
    poke<u64>(kIdt + 16 * vector + 8, target >> 32);
  }
  void gate32(unsigned vector, unsigned type = 14, unsigned dpl = 0) {
    const u64 target = kHandlers + 16 * vector;
    ram_[target] = 0xf4;
    poke<u64>(kIdt + 8 * vector, (target & 0xffff) | u64{kCode32} << 16 | u64{type} << 40 | u64{dpl} << 45 |
                                     u64{1} << 47 | (target >> 16 & 0xffff) << 48);
  }
  static u64 handler(unsigned vector) { return kHandlers + 16 * vector; }

  // The page-table entry that maps a 4 KiB page of the first 2 MiB in long mode.
  [[nodiscard]] u64 pte_address(u64 linear) const { return kTables + 0x4000 + (linear >> 12) * 8; }
  void set_pte(u64 linear, u64 value) { poke<u64>(pte_address(linear), value); }

  StepResult step() { return interpreter_->step(state); }
  // Stops early when a step does something other than execute; what the test expects then is not there.
  void steps(unsigned count) {
    while (count > 0 && step() == StepResult::Executed) --count;
  }
  Interpreter& interpreter() { return *interpreter_; }

  memory::AddressSpace& memory() { return memory_; }

  cpu::State state;
  FakePlatform platform;
  FakeObserver observer;

 private:
  static cpu::Model make_model() {
    // Asked once: CPUID takes long where a hypervisor answers it.
    static const cpu::Model model = cpu::Model::create(cpu::NativeCpuid(), {}).take();
    return model;
  }

  void write_gdt() {
    set_descriptor(kCode64, 0x00af9b000000ffff);
    set_descriptor(kData, 0x00cf93000000ffff);
    set_descriptor(kUserData, 0x00cff3000000ffff);
    set_descriptor(kUserCode64, 0x00affb000000ffff);
    set_descriptor(kCode32, 0x00cf9b000000ffff);
    set_descriptor(kUserCode32, 0x00cffb000000ffff);
    set_descriptor(kTssSelector, 0x00008b0000000067 | kTss << 16);
    state.gdtr = {kGdt, 0xff};
    state.idtr = {kIdt, 0xfff};
    state.tr = {kTssSelector, 0x8b, 0x67, kTss};
  }
  void set_data_segments(u16 selector) {
    for (const SegmentIndex index : {x86::ES, x86::SS, x86::DS, x86::FS, x86::GS})
      state.segment[index] = descriptor(selector);
  }
  void common() {
    state.rip = kCode;
    state.gpr[x86::RSP] = kStack;
  }
  // 4 KiB pages for the first 2 MiB, user and writable; the second half is not RAM.
  void identity_map() {
    constexpr u64 bits = x86::Pte::P | x86::Pte::RW | x86::Pte::US;
    poke<u64>(kTables, (kTables + 0x1000) | bits);
    poke<u64>(kTables + 0x1000, (kTables + 0x2000) | bits);
    poke<u64>(kTables + 0x2000, (kTables + 0x4000) | bits);
    for (u64 page = 0; page < 512; ++page) set_pte(page << kPageShift, page << kPageShift | bits);
  }

  struct Free {
    void operator()(u8* memory) const { std::free(memory); }
  };
  std::unique_ptr<u8[], Free> ram_;  // page-aligned, and nothing behind it
  std::vector<u8> flags_, vector_pages_;
  memory::AddressSpace memory_;
  cpu::Model model_;
  std::unique_ptr<VectorUnit> vector_;
  std::unique_ptr<Interpreter> interpreter_;
};

}  // namespace nacre::interp
