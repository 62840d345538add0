#include "host/signals.hpp"

#include <gtest/gtest.h>

#include <atomic>
#include <thread>

namespace nacre::host {
namespace {

// Steps over a two-byte faulting instruction (ud2, or the div below) whose address is `at`.
class StepOver : public FaultHandler {
 public:
  bool handle(int signal, siginfo_t*, ucontext_t* context) override {
    ++asked;
    last = signal;
    stack = reinterpret_cast<u64>(__builtin_frame_address(0));
    if (decline) return false;
    if (signal == SignalDispatcher::kick_signal()) return true;
    context->uc_mcontext.gregs[REG_RIP] += 2;
    return true;
  }
  int asked = 0;
  int last = 0;
  u64 stack = 0;
  bool decline = false;
};

class Signals : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(SignalDispatcher::install().ok()); }
};

TEST_F(Signals, InnermostHandlerChangesTheContext) {
  auto stack = SignalStack::enter();
  ASSERT_TRUE(stack.ok());
  StepOver outer, inner;
  FaultScope outer_scope(outer);
  {
    FaultScope inner_scope(inner);
    __asm__ volatile("ud2" ::: "memory");
    EXPECT_EQ(inner.asked, 1);
    EXPECT_EQ(inner.last, SIGILL);
    EXPECT_EQ(outer.asked, 0);
    inner.decline = true;
    __asm__ volatile("ud2" ::: "memory");
    EXPECT_EQ(inner.asked, 2);
    EXPECT_EQ(outer.asked, 1);
  }
  __asm__ volatile("ud2" ::: "memory");
  EXPECT_EQ(inner.asked, 2);
  EXPECT_EQ(outer.asked, 2);
}

// Guest code owns RSP: the handler must not need it.
TEST_F(Signals, AnyStackPointerWillDo) {
  auto stack = SignalStack::enter();
  ASSERT_TRUE(stack.ok());
  StepOver handler;
  FaultScope scope(handler);
  for (const u64 wild : {u64{0}, u64{1}, ~u64{0}, u64{0x8000000000000000}}) {
    __asm__ volatile(
        "mov %%rsp, %%r12\n\t"
        "mov %0, %%rsp\n\t"
        "ud2\n\t"
        "mov %%r12, %%rsp" ::"r"(wild)
        : "r12", "memory", "cc");
  }
  EXPECT_EQ(handler.asked, 4);
}

TEST_F(Signals, AlignmentCheckOfTheInterruptedCodeDoesNotReachTheHandler) {
  auto stack = SignalStack::enter();
  ASSERT_TRUE(stack.ok());
  class Unaligned : public FaultHandler {
   public:
    bool handle(int, siginfo_t*, ucontext_t* context) override {
      volatile char bytes[16] = {};
      // In assembly: to C++ an unaligned load is undefined, to the processor it is what is tested.
      __asm__ volatile("mov 1(%1), %0" : "=r"(sum) : "r"(&bytes[0]) : "memory");
      context->uc_mcontext.gregs[REG_RIP] += 2;
      context->uc_mcontext.gregs[REG_EFL] &= ~0x40000;
      return true;
    }
    u64 sum = 1;
  } handler;
  FaultScope scope(handler);
  __asm__ volatile(
      "lea -128(%%rsp), %%rsp\n\t"
      "pushfq\n\t"
      "orq $0x40000, (%%rsp)\n\t"
      "popfq\n\t"
      "ud2\n\t"
      "lea 128(%%rsp), %%rsp" ::
          : "memory", "cc");
  EXPECT_EQ(handler.sum, 0U);
}

TEST_F(Signals, DivisionErrorArrivesAsSigfpe) {
  auto stack = SignalStack::enter();
  ASSERT_TRUE(stack.ok());
  StepOver handler;
  FaultScope scope(handler);
  __asm__ volatile("xor %%ecx, %%ecx; div %%ecx" ::: "rax", "rcx", "rdx", "cc");
  EXPECT_EQ(handler.last, SIGFPE);
}

TEST_F(Signals, KickInterruptsAnotherThreadsSleep) {
  std::atomic<bool> ready = false;
  KickableThread target;
  StepOver handler;
  int result = 0, number = 0;
  std::thread sleeper([&] {
    auto stack = SignalStack::enter();
    FaultScope scope(handler);
    target = KickableThread::current();
    ready = true;
    const timespec long_time = {10, 0};
    result = nanosleep(&long_time, nullptr);
    number = errno;
  });
  while (!ready) std::this_thread::yield();
  timespec pause = {0, 20'000'000};
  nanosleep(&pause, nullptr);
  target.kick();
  sleeper.join();
  EXPECT_EQ(result, -1);
  EXPECT_EQ(number, EINTR);
  EXPECT_EQ(handler.last, SignalDispatcher::kick_signal());
  target.kick();  // the thread is gone: nothing happens
}

using SignalsDeathTest = Signals;
TEST_F(SignalsDeathTest, AFaultNobodyWantsIsReportedAndKillsByItsSignal) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  EXPECT_EXIT(__builtin_trap(), testing::KilledBySignal(SIGILL), "internal error: SIGILL at 0x");
}

}  // namespace
}  // namespace nacre::host
