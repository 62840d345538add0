// Two processors, both with a stub: what one writes as code, the other must not run as it was. Readers call a function
// and compare what it returns with what its writer has published since; they end with R14 = 0, or 1 when they have run
// something older.
#include <atomic>
#include <functional>
#include <thread>

#include "engine/direct/direct_machine.hpp"
#include "host/signals.hpp"

namespace nacre::direct {
namespace {

constexpr u64 kReader = 0x20000, kFunctionPage = 0x30000, kAlias = 0x31000, kPublished = kData;
constexpr u64 kVersion = 0x304;  // in the function's page: the value that it returns

// Calls RDI and compares with (RSI) until that returns R13. Tells at 8(RSI), and of failure at 12(RSI).
GUEST_CODE(reader, R"(
  xor %r12d, %r12d
1: mov (%rsi), %ebx
  call *%rdi
  mov $1, %r14d
  cmp %ebx, %eax
  jb 2f
  cmp %r12d, %eax
  jb 2f
  mov %eax, %r12d
  mov %eax, 8(%rsi)
  xor %r14d, %r14d
  cmp %r13d, %eax
  jb 1b
2: mov %r14d, 12(%rsi)
  syscall)")

// Writes the function's value by way of RDI, and publishes it, up to R13. Waits now and then until it has been read. Writes
// data beside it, too, some of it when no one may have run the page since.
GUEST_CODE(writer, R"(
  mov $1, %ebx
1: inc %ebx
  mov %ebx, 4(%rdi)
  mov %ebx, (%rsi)
  mov $40, %ecx
2: incl 0x200(%rdi)
  dec %ecx
  jnz 2b
  test $3, %bl
  jnz 4f
3: cmpl $0, 12(%rsi)
  jne 5f
  cmp %ebx, 8(%rsi)
  jne 3b
4: cmp %r13d, %ebx
  jb 1b
5: syscall)")

// One that runs as it is. Behind the padding the value has an aligned address.
GUEST_CODE(plain_page, R"(
  .fill 0x303, 1, 0x90
  .byte 0xb8
  .long 0
  ret)")

// One that runs as a copy, for the sake of the CPUID.
GUEST_CODE(patched_page, R"(
  .rept 0x80
  mov %rbx, %rcx
  .endr
  cpuid
  .fill 0x181, 1, 0x90
  .byte 0xb8
  .long 0
  ret)")

class DirectSmpTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(host::SignalDispatcher::install().ok()); }

  // Runs each processor on a thread of its own until it halts. `before` is called before each entry.
  static std::vector<std::thread> start(Machine& m, std::function<void(unsigned)> before = nullptr,
                                        std::function<void(unsigned)> after = nullptr) {
    std::vector<std::thread> threads;
    for (unsigned i = 0; i < m.vcpus.size(); i++) {
      threads.emplace_back([&m, i, before, after] {
        auto stack = host::SignalStack::enter().take();
        engine::Vcpu& vcpu = *m.vcpus[i];
        EXPECT_TRUE(vcpu.enter_thread().ok());
        vcpu.state_changed();
        engine::ExitReason reason = engine::ExitReason::Kicked;
        while (reason == engine::ExitReason::Kicked) {
          if (before) before(i);
          reason = vcpu.run().reason;
          if (after) after(i);
        }
        EXPECT_EQ(reason, engine::ExitReason::Halted);
      });
    }
    return threads;
  }
  static void set_reader(Machine& m, unsigned i, u64 function, u32 rounds) {
    cpu::State& s = m.vcpus[i]->state();
    s.rip = kReader;
    s.gpr[x86::RDI] = function;
    s.gpr[x86::RSI] = kPublished;
    s.gpr[x86::R13] = rounds;
  }
  // Processor 0 writes, 1 reads.
  static void write_and_read(const std::vector<u8>& page, u64 function, engine::DirectMode mode) {
    constexpr u32 kRounds = 200;
    Machine m(mode, true, 2);
    m.load(kUser, writer);
    m.load(kReader, reader);
    m.load(kFunctionPage, page);
    m.put64(m.page_entry(kAlias), kFunctionPage | 5);
    cpu::State& s = m.vcpus[0]->state();
    s.gpr[x86::RDI] = kFunctionPage + kVersion - 4;
    s.gpr[x86::RSI] = kPublished;
    s.gpr[x86::R13] = kRounds;
    set_reader(m, 1, function, kRounds);
    m.load(kFunctionPage + kVersion, {1});
    for (std::thread& thread : start(m)) thread.join();
    EXPECT_EQ(m.vcpus[1]->state().gpr[x86::R14], 0U);
    EXPECT_EQ(m.vcpus[1]->state().gpr[x86::R12], kRounds);
    EXPECT_EQ(m.vcpus[1]->state().gpr[x86::R15], 0x80U);
    EXPECT_EQ(m.vcpus[0]->state().gpr[x86::R15], 0x80U);
    EXPECT_EQ(m.get64(kFunctionPage + kVersion - 4 + 0x200) & 0xffff'ffff, (kRounds - 1) * 40U);
  }
};

TEST_F(DirectSmpTest, code_that_another_processor_writes_is_run_as_written) {
  write_and_read(plain_page, kFunctionPage + kVersion - 1, engine::DirectMode::Always);
}

TEST_F(DirectSmpTest, at_another_address_too) {
  write_and_read(plain_page, kAlias + kVersion - 1, engine::DirectMode::Always);
}

TEST_F(DirectSmpTest, copies_of_pages_too) {
  write_and_read(patched_page, kAlias + kVersion - 1, engine::DirectMode::Always);
}

TEST_F(DirectSmpTest, the_translator_does_the_same) {
  write_and_read(plain_page, kAlias + kVersion - 1, engine::DirectMode::Off);
}

// Of a no-operation becomes CPUID while another processor runs it. Once it has been told, that must find the guest's. (One
// instruction of two bytes: between two of one byte each, whoever is stopped there goes on in the middle of the new one.)
GUEST_CODE(becomes_cpuid, R"(
  .rept 0x80
  mov %rbx, %rcx
  .endr
  mov $1, %eax
  xor %ebx, %ebx
  nop
  .byte 0x66, 0x90
  nop
  shr $24, %ebx
  mov %ebx, %eax
  ret)")
constexpr u64 kBecomes = 3 * 0x80 + 8;  // aligned
GUEST_CODE(waits_for_change, R"(
1: mov (%rsi), %ebp
  call *%rdi
  test %ebp, %ebp
  jz 1b
  syscall)")
// The bytes as they are would have its page left to the interpreter.
GUEST_CODE(changes, R"(
  mov $100000000, %ecx
1: dec %ecx
  jnz 1b
  mov $0xa20e, %eax
  inc %eax
  mov %ax, (%rdi)
  movl $1, (%rsi)
  syscall)")

TEST_F(DirectSmpTest, what_is_written_is_looked_through_before_it_runs) {
  ASSERT_EQ(becomes_cpuid[kBecomes], 0x66);
  for (const u64 linear : {kFunctionPage, kAlias}) {
    Machine m(engine::DirectMode::Always, true, 2);
    m.load(kUser, changes);
    m.load(kReader, waits_for_change);
    m.load(kFunctionPage, becomes_cpuid);
    m.put64(m.page_entry(kAlias), kFunctionPage | 5);
    m.vcpus[0]->state().gpr[x86::RDI] = kFunctionPage + kBecomes;
    m.vcpus[0]->state().gpr[x86::RSI] = kPublished;
    set_reader(m, 1, linear + kBecomes - 8, 0);
    for (std::thread& thread : start(m)) thread.join();
    EXPECT_EQ(m.vcpus[1]->state().gpr[x86::RAX], kFirstApicId + 1);
  }
}

// As vm/dma_tracker does it: a device notes what it has written, and waits until nobody is in guest code who has not
// heard of it.
TEST_F(DirectSmpTest, code_that_a_device_writes_is_run_as_written) {
  constexpr u32 kRounds = 100;
  Machine m(engine::DirectMode::Always, true, 2);
  m.load(kReader, reader);
  m.load(kFunctionPage, patched_page);
  m.put64(m.page_entry(kAlias), kFunctionPage | 5);
  set_reader(m, 0, kAlias + kVersion - 1, kRounds);
  set_reader(m, 1, kAlias + kVersion - 1, kRounds);
  struct Link {
    std::atomic<u32> steps = 0;  // odd: inside
    std::atomic<bool> noted = false, over = false;
  } links[2];
  auto threads = start(
      m,
      [&](unsigned i) {
        links[i].steps.fetch_add(1);
        if (links[i].noted.exchange(false)) m.vcpus[i]->memory_changed(GuestPhysical(kFunctionPage), kPageSize);
      },
      [&](unsigned i) { links[i].steps.fetch_add(1); });
  for (u32 version = 1; version <= kRounds; version++) {
    __atomic_store_n(reinterpret_cast<u32*>(m.base + kFunctionPage + kVersion), version, __ATOMIC_SEQ_CST);
    if (m.space.mark_written(GuestPhysical(kFunctionPage + kVersion), 4)) {
      for (Link& link : links) link.noted = true;
      for (unsigned i = 0; i < 2; i++) {
        const u32 steps = links[i].steps.load();
        if (steps % 2 == 0) continue;
        m.vcpus[i]->kick();
        while (links[i].steps.load() == steps) std::this_thread::yield();
      }
    }
    __atomic_store_n(reinterpret_cast<u32*>(m.base + kPublished), version, __ATOMIC_SEQ_CST);
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& vcpu : m.vcpus) {
    EXPECT_EQ(vcpu->state().gpr[x86::R14], 0U);
    EXPECT_EQ(vcpu->state().gpr[x86::R12], kRounds);
  }
}

// Native code of every processor stops at once for whoever asks.
GUEST_CODE(endless, "1: inc %rax; jmp 1b")

TEST_F(DirectSmpTest, every_processor_is_kicked_by_itself) {
  constexpr unsigned kProcessors = 4, kKicks = 25;
  Machine m(engine::DirectMode::Always, true, kProcessors);
  m.load(kUser, endless);
  std::vector<std::thread> threads;
  std::atomic<unsigned> came_out[kProcessors] = {};
  for (unsigned i = 0; i < kProcessors; i++) {
    threads.emplace_back([&, i] {
      auto stack = host::SignalStack::enter().take();
      EXPECT_TRUE(m.vcpus[i]->enter_thread().ok());
      m.vcpus[i]->state_changed();
      for (unsigned n = 0; n < kKicks; n++) {
        EXPECT_EQ(m.vcpus[i]->run().reason, engine::ExitReason::Kicked);
        came_out[i]++;
      }
    });
  }
  for (unsigned i = 0; i < kProcessors; i++) {
    for (unsigned n = 0; n < kKicks; n++) {
      // None is lost, whether it runs or not.
      m.vcpus[i]->kick();
      while (came_out[i] == n) std::this_thread::yield();
    }
  }
  for (std::thread& thread : threads) thread.join();
  for (const auto& vcpu : m.vcpus) EXPECT_EQ(vcpu->state().rip & ~u64{3}, kUser);
}

}  // namespace
}  // namespace nacre::direct
