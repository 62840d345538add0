// The stub process under hostile code: what it can reach, ask for and spoil.
#include "engine/direct/stub_process.hpp"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include <cstring>
#include <thread>
#include <vector>

#include "host/guest_ram.hpp"

namespace nacre::direct {
namespace {

constexpr u64 kCode = 0x400000, kData = 0x500000;

// A stub with a page of code at kCode and a page to write at kData.
struct Hostile {
  host::GuestRam ram = host::GuestRam::create(16 * kMiB).take();
  std::unique_ptr<StubProcess> stub = StubProcess::create(ram.file(), true).take();
  user_regs_struct registers = {};

  Hostile() {
    map(kCode, 0x10000, PROT_READ | PROT_EXEC);
    map(kData, 0x20000, PROT_READ | PROT_WRITE);
    EXPECT_TRUE(stub->registers(registers));
    registers.rip = kCode;
    registers.rsp = kData + 0x800;
    registers.orig_rax = ~u64{0};
    registers.rbx = stub->block();
  }
  void map(u64 linear, u64 physical, int protection) {
    stub->orders()[0] = {linear, kPageSize, physical, static_cast<u32>(protection), kRamFile};
    EXPECT_EQ(stub->carry_out(1), StubProcess::Done::All);
  }
  // The signal that ends it.
  int run(const std::vector<u8>& code) {
    std::memcpy(ram.data() + 0x10000, code.data(), code.size());
    EXPECT_TRUE(stub->set_registers(registers));
    return stub->go();
  }
  siginfo_t info() {
    siginfo_t info = {};
    EXPECT_TRUE(stub->signal_info(info));
    return info;
  }
};

// Where in the stub's program an instruction is. Guest code can find out: the program is readable, and looks
// the same in every stub.
u64 offset_of(Hostile& hostile, const std::vector<u8>& bytes) {
  hostile.registers.rip = kCode;
  hostile.registers.rsi = hostile.stub->block();
  hostile.registers.rdi = kData;
  hostile.registers.rcx = 0x800;
  EXPECT_EQ(hostile.run({0xf3, 0xa4, 0x0f, 0x0b}), SIGILL);  // rep movsb
  const u8* program = hostile.ram.data() + 0x20000;
  for (u64 i = 0; i + bytes.size() < 0x800; i++) {
    if (std::memcmp(program + i, bytes.data(), bytes.size()) == 0) return i;
  }
  ADD_FAILURE() << "not in the stub";
  return 0;
}

TEST(StubProcess, nothing_of_its_own_can_be_written) {
  Hostile hostile;
  for (u64 page = 0; page < kBlockBytes; page += kPageSize) {
    hostile.registers.rdi = hostile.stub->block() + page;
    EXPECT_EQ(hostile.run({0xc6, 0x07, 0x41}), SIGSEGV) << page;  // movb $0x41, (%rdi)
  }
}

TEST(StubProcess, orders_are_not_left_lying) {
  Hostile hostile;
  hostile.map(0x700000, 0x30000, PROT_READ);
  hostile.registers.rsi = hostile.stub->block() + kOrders + offsetof(Orders, order);
  hostile.registers.rdi = kData;
  hostile.registers.rcx = 0x400;
  ASSERT_EQ(hostile.run({0xf3, 0xa4, 0x0f, 0x0b}), SIGILL);
  for (u64 i = 0; i < 0x400; i++) EXPECT_EQ(hostile.ram.data()[0x20000 + i], 0) << i;
}

TEST(StubProcess, every_system_call_is_stopped) {
  Hostile hostile;
  const std::vector<u8> ways[] = {{0x0f, 0x05}, {0xcd, 0x80}};  // syscall, int $0x80
  for (const auto& way : ways) {
    for (const u64 number : {u64{SYS_mmap}, u64{SYS_munmap}, u64{SYS_rt_sigreturn}, u64{SYS_futex},
                             u64{SYS_exit_group}, u64{SYS_write}, u64{0x40000000 | SYS_mmap}, ~u64{0}}) {
      hostile.registers.rax = number;
      hostile.registers.rdi = 1;
      const int signal = hostile.run(way);
      EXPECT_TRUE(signal == SIGSYS || (way[0] == 0xcd && signal == SIGSEGV)) << number;
      user_regs_struct after = {};
      ASSERT_TRUE(hostile.stub->registers(after));
      EXPECT_EQ(static_cast<u32>(after.rax), static_cast<u32>(number));
    }
  }
}

TEST(StubProcess, the_vsyscall_page_is_stopped_too) {
  Hostile hostile;
  hostile.registers.rax = 0xffff'ffff'ff60'0000;
  hostile.registers.rdi = kData;
  const int signal = hostile.run({0xff, 0xd0});  // call *%rax
  EXPECT_TRUE(signal == SIGSYS || signal == SIGSEGV) << signal;
  EXPECT_EQ(hostile.ram.data()[0x20000], 0);
}

// The stub's own system calls are of no use to those who jump there.
// The stub's own system calls are of no use to those who jump there.
TEST(StubProcess, jumping_into_the_stub_is_stopped) {
  Hostile hostile;
  const u64 call = offset_of(hostile, {0x0f, 0x05});
  const u64 mapper = offset_of(hostile, {0x41, 0x8b, 0x04, 0x24});  // mov (%r12), %eax
  user_regs_struct& registers = hostile.registers;
  registers.rip = hostile.stub->block() + call;
  registers.rax = SYS_mmap;
  registers.rdi = 0x700000;
  registers.rsi = kPageSize;
  registers.rdx = PROT_READ | PROT_WRITE;
  registers.r10 = MAP_SHARED | MAP_FIXED;
  registers.r8 = kRamFile;
  registers.r9 = 0;
  ASSERT_TRUE(hostile.stub->set_registers(registers));
  EXPECT_EQ(hostile.stub->go(), SIGSYS);
  // Into the mapper's loop, with orders of one's own.
  const Order order = {0x700000, kPageSize, 0, PROT_READ | PROT_WRITE, kRamFile};
  const u32 head[2] = {99, 1};
  std::memcpy(hostile.ram.data() + 0x20000, head, sizeof head);
  std::memcpy(hostile.ram.data() + 0x20000 + offsetof(Orders, order), &order, sizeof order);
  registers.rip = hostile.stub->block() + mapper;
  registers.r12 = kData;
  registers.r13 = 0;
  ASSERT_TRUE(hostile.stub->set_registers(registers));
  EXPECT_EQ(hostile.stub->go(), SIGSYS);
  // The page is not there, and the mapper works as before.
  registers.rip = kCode;
  registers.rsi = 0x700000;
  EXPECT_EQ(hostile.run({0x8a, 0x06}), SIGSEGV);  // mov (%rsi), %al
  hostile.map(0x700000, 0x30000, PROT_READ);
  EXPECT_EQ(hostile.run({0x8a, 0x06, 0x0f, 0x0b}), SIGILL);
}

TEST(StubProcess, what_was_unmapped_is_gone) {
  Hostile hostile;
  hostile.stub->orders()[0] = {kData, kPageSize, 0, 0, 0};
  ASSERT_EQ(hostile.stub->carry_out(1), StubProcess::Done::All);
  hostile.registers.rsi = kData;
  EXPECT_EQ(hostile.run({0x8a, 0x06}), SIGSEGV);
  EXPECT_EQ(hostile.info().si_addr, reinterpret_cast<void*>(kData));
}

TEST(StubProcess, orders_the_host_refuses_are_reported) {
  Hostile hostile;
  hostile.stub->orders()[0] = {0x1, kPageSize, 0, PROT_READ, kRamFile};  // no page
  EXPECT_EQ(hostile.stub->carry_out(1), StubProcess::Done::Refused);
  hostile.map(0x700000, 0x30000, PROT_READ);
}

TEST(StubProcess, an_interrupt_stops_an_endless_loop) {
  Hostile hostile;
  hostile.stub->interrupt();
  EXPECT_EQ(hostile.run({0xeb, 0xfe}), StubProcess::kInterrupt);
  std::thread other([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    hostile.stub->interrupt();
  });
  EXPECT_EQ(hostile.run({0xeb, 0xfe}), StubProcess::kInterrupt);
  other.join();
}

TEST(StubProcess, leaves_no_process_behind) {
  pid_t process = 0;
  {
    Hostile hostile;
    process = hostile.stub->process();
    EXPECT_EQ(kill(process, 0), 0);
  }
  EXPECT_EQ(kill(process, 0), -1);
  EXPECT_EQ(errno, ESRCH);
}

TEST(StubProcess, dies_with_its_thread) {
  auto ram = host::GuestRam::create(16 * kMiB).take();
  std::unique_ptr<StubProcess> stub;
  std::thread([&] { stub = StubProcess::create(ram.file(), true).take(); }).join();
  int status = 0;
  EXPECT_EQ(waitpid(stub->process(), &status, __WALL), stub->process());
  EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) << status;
}

}  // namespace
}  // namespace nacre::direct
