// Instructions and forms that only exist outside 64-bit mode. The decimal ones are compared with the
// processor itself, over all operands, by way of a 32-bit code segment.
#include <gtest/gtest.h>
#include <sys/mman.h>

#include "interp/test_machine.hpp"

namespace nacre::interp {
namespace {

using namespace x86;
using M = Machine;

constexpr u64 CF = Rflags::CF, PF = Rflags::PF, AF = Rflags::AF, ZF = Rflags::ZF, SF = Rflags::SF;

// Runs one instruction on EAX and EFLAGS in 32-bit mode of the host. Linux gives every process the 32-bit
// code segment 23H beside its 64-bit one, 33H.
class Host32 {
 public:
  Host32() {
    page_ = static_cast<u8*>(mmap(nullptr, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0));
  }
  ~Host32() {
    if (usable()) munmap(page_, 4096);
  }
  Host32(const Host32&) = delete;
  Host32& operator=(const Host32&) = delete;
  [[nodiscard]] bool usable() const { return page_ != MAP_FAILED; }

  void set(std::initializer_list<int> instruction) {
    at_ = 0;
    emit({0xbc});  // mov esp, top of the page
    emit32(address() + 4096);
    emit({0x52, 0x9d});  // push edx; popf
    for (const int byte : instruction) page_[at_++] = static_cast<u8>(byte);
    emit({0x9c, 0x5a, 0xea});  // pushf; pop edx; jmp far 33:back
    const u32 back = address() + 1024;
    emit32(back);
    emit({0x33, 0x00});
    at_ = 1024;
    emit({0xff, 0xe3});  // in 64-bit mode again: jmp rbx
    far_ = u64{0x23} << 32 | address();
  }

  // Takes every register: what it needs of memory is a local, and no sanitizer wants one too.
  __attribute__((noinline, no_sanitize("address"))) void run(u32& eax, u32& eflags) {
    u64 rax = eax, rdx = eflags;
    const u64 far = far_;
    asm volatile(
        "mov %%rsp, %%r15\n\t"
        "lea 1f(%%rip), %%rbx\n\t"
        "ljmp *%[far]\n"
        "1:\n\t"
        "mov %%r15, %%rsp\n\t"
        "cld\n\t"
        : "+a"(rax), "+d"(rdx)
        : [far] "m"(far)
        : "rbx", "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "memory", "cc");
    eax = static_cast<u32>(rax);
    eflags = static_cast<u32>(rdx);
  }

 private:
  [[nodiscard]] u32 address() const { return static_cast<u32>(reinterpret_cast<u64>(page_)); }
  void emit(std::initializer_list<int> bytes) {
    for (const int byte : bytes) page_[at_++] = static_cast<u8>(byte);
  }
  void emit32(u32 value) {
    std::memcpy(page_ + at_, &value, 4);
    at_ += 4;
  }

  u8* page_ = nullptr;
  usize at_ = 0;
  u64 far_ = 0;
};

struct Decimal {
  const char* name;
  std::initializer_list<int> code;
  u64 defined;  // flags
};

TEST(Legacy, DecimalAdjustmentsAsTheProcessorDoesThem) {
  const Decimal cases[] = {
      {"daa", {0x27}, CF | AF | SF | ZF | PF},
      {"das", {0x2f}, CF | AF | SF | ZF | PF},
      {"aaa", {0x37}, CF | AF},
      {"aas", {0x3f}, CF | AF},
      {"aam", {0xd4, 10}, SF | ZF | PF},
      {"aad", {0xd5, 10}, SF | ZF | PF},
      {"aam 7", {0xd4, 7}, SF | ZF | PF},
      {"salc", {0xd6}, CF | AF | SF | ZF | PF},
  };
  Host32 host;
  if (!host.usable()) GTEST_SKIP() << "no executable memory below 4 GiB";
  for (const Decimal& c : cases) {
    SCOPED_TRACE(c.name);
    M m;
    m.protected_mode();
    m.code(c.code);
    host.set(c.code);
    for (u32 n = 0; n < 256 * 4; ++n) {
      const u32 ax = (n & 0xff) | (n * 7 & 0xff) << 8;
      u32 flags = static_cast<u32>(Rflags::fixed | ((n & 0x100) != 0 ? CF : 0) | ((n & 0x200) != 0 ? AF : 0));
      m.state.rip = M::kCode;
      m.state.gpr[RAX] = ax;
      m.state.rflags = flags;
      u32 eax = ax;
      host.run(eax, flags);
      ASSERT_EQ(m.step(), StepResult::Executed);
      ASSERT_EQ(m.state.gpr[RAX], eax) << "AX " << std::hex << ax << " n " << n;
      ASSERT_EQ(m.state.rflags & c.defined, flags & c.defined) << "AX " << std::hex << ax << " n " << n;
    }
  }
}

TEST(Legacy, PushaPopaKeepSpOutOfIt) {
  M m;
  m.protected_mode();
  for (unsigned n = 0; n < 8; ++n) {
    if (n != RSP) m.state.gpr[n] = 0x100 + n;
  }
  m.code({0x60, 0x31, 0xc0, 0x31, 0xff, 0x61});  // pusha; xor eax,eax; xor edi,edi; popa
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack - 32);
  EXPECT_EQ(m.peek<u32>(M::kStack - 4), 0x100u);      // EAX first
  EXPECT_EQ(m.peek<u32>(M::kStack - 20), M::kStack);  // ESP as it was
  m.steps(3);
  EXPECT_EQ(m.state.gpr[RAX], 0x100u);
  EXPECT_EQ(m.state.gpr[RDI], 0x107u);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack);
}

TEST(Legacy, SixteenBitAddressing) {
  M m;
  m.real_mode();
  m.state.segment[DS] = {0x2000, 0x93, 0xffff, 0x20000};
  m.state.gpr[RBX] = 0xfff0;
  m.state.gpr[RSI] = 0x30;
  m.poke<u16>(0x20020, 0xbeef);
  m.code({0x8b, 0x00});  // mov ax, [bx+si] wraps at 64 KiB
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RAX], 0xbeefu);
}

TEST(Legacy, BpAddressesTheStackSegment) {
  M m;
  m.real_mode();
  m.state.segment[SS] = {0x3000, 0x93, 0xffff, 0x30000};
  m.state.gpr[RBP] = 0x10;
  m.poke<u16>(0x30012, 0x1234);
  m.code({0x8b, 0x46, 0x02});  // mov ax, [bp+2]
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RAX], 0x1234u);
}

TEST(Legacy, StackWrapsInSixteenBits) {
  M m;
  m.real_mode();
  m.state.segment[SS] = {0x2000, 0x93, 0xffff, 0x20000};
  m.state.gpr[RSP] = 0xabcd0000;
  m.state.gpr[RAX] = 0x5678;
  m.code({0x50});
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RSP], 0xabcdfffeu);
  EXPECT_EQ(m.peek<u16>(0x2fffe), 0x5678);
}

TEST(Legacy, LdsLoadsPointerAndSegment) {
  M m;
  m.real_mode();
  m.put(0x500, {0x34, 0x12, 0x00, 0x20});
  m.code({0xc5, 0x36, 0x00, 0x05});  // lds si, [0x500]
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RSI], 0x1234u);
  EXPECT_EQ(m.state.segment[DS].base, 0x20000u);
}

TEST(Legacy, FarCallAndReturnInRealMode) {
  M m;
  m.real_mode();
  m.code({0x9a, 0x00, 0x01, 0x00, 0x02});  // call 0200:0100
  m.put(0x2100, {0xca, 0x04, 0x00});       // retf 4
  m.steps(1);
  EXPECT_EQ(m.state.rip, 0x100u);
  EXPECT_EQ(m.peek<u16>(M::kStack - 2), 0u);
  EXPECT_EQ(m.peek<u16>(M::kStack - 4), M::kCode + 5);
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::kCode + 5);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack + 4);
}

TEST(Legacy, LoopsCountInCxOrEcx) {
  M m;
  m.real_mode();
  m.state.gpr[RCX] = 0x10001;
  m.code({0xe2, 0xfe, 0x66, 0x67, 0xe2, 0xfc});  // loop self; loop with ecx
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RCX], 0x10000u);
  EXPECT_EQ(m.state.rip, M::kCode + 2);
}

TEST(Legacy, BoundIntoArpl) {
  M m;
  m.protected_mode();
  m.gate32(5);
  m.gate32(4);
  m.poke<u32>(0x20000, 10);
  m.poke<u32>(0x20004, 20);
  m.state.gpr[RAX] = 20;
  m.code({0x62, 0x05, 0, 0, 2, 0, 0x40, 0x62, 0x05, 0, 0, 2, 0});  // bound; inc eax; bound
  m.steps(3);
  EXPECT_EQ(m.state.rip, M::handler(5));
  EXPECT_EQ(m.peek<u32>(m.state.gpr[RSP]), M::kCode + 7);

  M n;
  n.protected_mode();
  n.gate32(4);
  n.state.rflags |= Rflags::OF;
  n.state.gpr[RAX] = 0x10;
  n.state.gpr[RCX] = 3;
  n.code({0x63, 0xc8, 0xce});  // arpl ax, cx; into
  n.steps(1);
  EXPECT_EQ(n.state.gpr[RAX], 0x13u);
  EXPECT_NE(n.state.rflags & ZF, 0u);
  n.steps(1);
  EXPECT_EQ(n.state.rip, n.handler(4));
  EXPECT_EQ(n.peek<u32>(n.state.gpr[RSP]), M::kCode + 3);
}

TEST(Legacy, EnterBuildsNestedFrames) {
  M m;
  m.protected_mode();
  m.state.gpr[RBP] = 0x7000;
  m.poke<u32>(0x6ffc, 0x11111111);
  m.code({0xc8, 0x10, 0x00, 0x02, 0xc9});  // enter 16, 2; leave
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RBP], M::kStack - 4);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack - 12 - 16);
  EXPECT_EQ(m.peek<u32>(M::kStack - 4), 0x7000u);
  EXPECT_EQ(m.peek<u32>(M::kStack - 8), 0x11111111u);
  EXPECT_EQ(m.peek<u32>(M::kStack - 12), M::kStack - 4);
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RBP], 0x7000u);
  EXPECT_EQ(m.state.gpr[RSP], M::kStack);
}

// SDM vol. 2A, ENTER: with 32-bit operands the frame is ESP, of which a push on a 16-bit stack moves only the
// lower half. So do processors (seen on a Zen 4, by way of an LDT).
TEST(Legacy, EnterOnSixteenBitStackKeepsTheUpperHalfInTheFrame) {
  M m;
  m.protected_mode();
  m.set_descriptor(M::kSpare, 0x000f93000000ffff);
  m.state.segment[SS] = m.descriptor(M::kSpare);
  m.state.gpr[RSP] = 0xabcd8000;
  m.state.gpr[RBP] = 0x12347000;
  m.poke<u32>(0x6ffc, 0x11111111);
  m.code({0xc8, 0x10, 0x00, 0x02, 0x66, 0xc8, 0x10, 0x00,
          0x00});  // enter 16, 2; with 16-bit operands: enter 16, 0
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RBP], 0xabcd7ffcu);
  EXPECT_EQ(m.state.gpr[RSP], 0xabcd8000u - 12 - 16);
  EXPECT_EQ(m.peek<u32>(0x7ffc), 0x12347000u);
  EXPECT_EQ(m.peek<u32>(0x7ff8), 0x11111111u);
  EXPECT_EQ(m.peek<u32>(0x7ff4), 0xabcd7ffcu);
  m.state.gpr[RBP] = 0x12347000;
  m.state.gpr[RSP] = 0xabcd8000;
  m.steps(1);
  EXPECT_EQ(m.state.gpr[RBP], 0x12347ffeu);
  EXPECT_EQ(m.state.gpr[RSP], 0xabcd8000u - 2 - 16);
}

TEST(Legacy, V86LeavesInterruptsAndFlagsToTheMonitor) {
  M m;
  m.protected_mode(3);
  m.gate32(13);
  m.poke<u32>(M::kTss + 4, 0x7000);
  m.poke<u32>(M::kTss + 8, M::kData);
  m.state.rflags |= Rflags::VM;
  for (cpu::Segment& segment : m.state.segment) segment = {0x100, 0xf3, 0xffff, 0x1000};
  m.state.rip = 0;
  m.state.gpr[RSP] = 0x800;
  m.code({0x9c});  // pushf with IOPL 0
  m.steps(1);
  EXPECT_EQ(m.state.rip, M::handler(13));
  EXPECT_EQ(m.state.cpl(), 0u);
  EXPECT_EQ(m.state.rflags & Rflags::VM, 0u);
  // error, eip, cs, eflags, esp, ss, es, ds, fs, gs
  EXPECT_EQ(m.state.gpr[RSP], 0x7000u - 40);
  EXPECT_EQ(m.peek<u32>(0x7000 - 28), Rflags::fixed | Rflags::VM | Rflags::RF);
  EXPECT_EQ(m.peek<u32>(0x7000 - 4), 0x100u);
  EXPECT_FALSE(m.state.segment[DS].present());
  // … and back: drop the error code, iret.
  m.put(M::handler(13), {0x83, 0xc4, 0x04, 0xcf});
  m.steps(2);
  EXPECT_EQ(m.state.rip, 0u);
  EXPECT_NE(m.state.rflags & Rflags::VM, 0u);
  EXPECT_EQ(m.state.segment[DS].base, 0x1000u);
  EXPECT_EQ(m.state.gpr[RSP], 0x800u);
}

TEST(Legacy, UnrealModeKeepsItsLimit) {
  M m;
  m.real_mode();
  m.state.segment[DS] = {0, 0x8093, 0xffffffff, 0};
  m.poke<u32>(0x20000, 0xcafef00d);
  m.state.gpr[RBX] = 0x20000;
  m.code({0x31, 0xc0, 0x8e, 0xd8, 0x67, 0x66, 0x8b, 0x03});  // xor ax,ax; mov ds,ax; mov eax,[ebx]
  m.steps(3);
  EXPECT_EQ(m.state.gpr[RAX], 0xcafef00du);
}

}  // namespace
}  // namespace nacre::interp
