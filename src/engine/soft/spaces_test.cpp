// Address spaces with PCIDs: what is kept of one while another is current must be right when it is back, and gone when the
// guest has said so. SDM vol. 3, 4.10.1 and 4.10.4.1.
#include "engine/soft/both.hpp"

namespace nacre::soft {
namespace {

// Two spaces, A and B. The user pages of each, at the same linear addresses, are physical pages of its own, or the
// same one where `shared` says so.
constexpr u64 kTablesB = 0x2f0000;  // PML4, PDPT, PD, PT
constexpr u64 kTableA = 0x200000, kTableB = kTablesB + 0x3000;
constexpr u64 kData = 0x150000, kUser = 0x160000, kFar = 0x170000, kShared = 0x180000;
constexpr u64 kFirstOfA = 0x1a0000, kFirstOfB = 0x1b0000;
constexpr u64 kUserPage = 7;  // present, writable, user

// User code at kUser: counts in the data page, calls through a pointer into another page, jumps back from there,
// and leaves with SYSCALL. RAX gathers what it was told.
GUEST_CODE(user_code, R"(
  incq 0x150000
  add 0x150008, %rax
  mov $0x170000, %ebx
  call *%rbx
  syscall)")

// At kFar; adds a number that the test sets at offset 2, goes through a third page, and comes back.
GUEST_CODE(far_code, R"(
  add $0x11111111, %rax
  jmp . - 0x170006 + 0x180000)")
GUEST_CODE(shared_code, R"(
  add $0x100, %rax
  ret)")

void prepare_spaces(Machine& m) {
  // B has all that A has, through tables of its own.
  m.put64(kTablesB, (kTablesB + 0x1000) | kUserPage);
  m.put64(kTablesB + 0x1000, (kTablesB + 0x2000) | kUserPage);
  for (u64 i = 1; i < kRamBytes / (2 * kMiB); i++) m.put64(kTablesB + 0x2000 + 8 * i, (kTableA + i * 0x1000) | 3);
  m.put64(kTablesB + 0x2000, kTableB | kUserPage);
  for (u64 k = 0; k < 512; k++) m.put64(kTableB + 8 * k, (k * kPageSize) | 3);
  for (const u64 entry : {conformance::kTables, conformance::kTables + 0x1000, conformance::kTables + 0x2000})
    m.put64(entry, m.get64(entry) | kUserPage);
  const auto map = [&](u64 table, u64 linear, u64 physical) { m.put64(table + (linear >> 12) * 8, physical | kUserPage); };
  u64 number = 1;
  for (const auto& [table, first] : {std::pair{kTableA, kFirstOfA}, std::pair{kTableB, kFirstOfB}}) {
    map(table, kData, first);
    map(table, kUser, first + 0x1000);
    map(table, kFar, first + 0x2000);
    map(table, kShared, kShared);
    map(table, kStackTop - kPageSize, kStackTop - kPageSize);
    m.put64(first + 8, number << 32);
    m.load(first + 0x1000, user_code);
    m.load(first + 0x2000, far_code);
    m.base[first + 0x2002] = static_cast<u8>(number);
    number += 4;
  }
  m.load(kShared, shared_code);
  // Data pages for later: what a page table is changed to.
  for (u64 i = 0; i < 8; i++) {
    m.put64(0x1c0000 + i * kPageSize + 8, (0x20 + i) << 32);
    m.load(0x1d0000 + i * kPageSize, far_code);
    m.base[0x1d0002 + i * kPageSize] = static_cast<u8>(0x20 + i);
  }
  cpu::State& s = m.vcpu->state();
  s.cr4 |= x86::Cr4::PCIDE;
  s.cr3 = conformance::kTables | 1;
  s.efer |= x86::Efer::SCE;
  s.star = u64{8} << 32 | u64{0x10} << 48;  // user CS is 20H, SS 18H; SYSRET reads no descriptor
  s.lstar = kCode + 0x800;
  s.fmask = 0;
}

// A and B by turns, with "no flush".
GUEST_CODE(by_turns, R"(
  xor %eax, %eax
  mov $50, %ebp
  mov $0x8000000000001001, %r12
  mov $0x80000000002f0002, %r13
1: mov %r12, %cr3
  call by_turns_user
  mov %r13, %cr3
  call by_turns_user
  dec %ebp
  jnz 1b
  hlt
by_turns_user:
  mov $0x160000, %ecx
  mov $2, %r11d
  sysretq
  .org code_by_turns + 0x800
  ret)")

TEST_F(Soft, spaces_by_turns_keep_to_themselves) {
  const auto soft = run_both(by_turns, kCode, prepare_spaces);
  EXPECT_EQ(soft->get64(kFirstOfA), 50U);
  EXPECT_EQ(soft->get64(kFirstOfB), 50U);
}

// After some turns A's pages are mapped elsewhere while B is current, the processor is told (`how`), and A is current again.
#define BEFORE_TELLING                                                                               \
  "xor %eax, %eax\n mov $0x8000000000001001, %r12\n mov $0x80000000002f0002, %r13\n"                 \
  "mov $0x190000, %r14d\n xor %ebp, %ebp\n"                                                          \
  "1: mov %r12, %cr3\n call 9f\n call 9f\n mov %r13, %cr3\n call 9f\n"                               \
  "mov %rbp, %rdx\n shl $12, %rdx\n lea 0x1c0007(%rdx), %rsi\n mov %rsi, 0x200a80\n"                \
  "lea 0x1d0007(%rdx), %rsi\n mov %rsi, 0x200b80\n"
#define AFTER_TELLING(name)                                                                          \
  "call 9f\n mov %r13, %cr3\n call 9f\n inc %ebp\n cmp $8, %ebp\n jne 1b\n hlt\n"                   \
  "9: mov $0x160000, %ecx\n mov $2, %r11d\n sysretq\n .org code_" #name " + 0x800\n ret\n"
#define TELLING(name, how) GUEST_CODE(name, BEFORE_TELLING how AFTER_TELLING(name))

TELLING(told_by_flush, R"(
  mov $0x1001, %edi
  mov %rdi, %cr3
)")
TELLING(told_by_address, R"(
  movq $1, (%r14)
  movq $0x150000, 8(%r14)
  xor %edi, %edi
  invpcid (%r14), %rdi
  movq $0x170000, 8(%r14)
  invpcid (%r14), %rdi
  mov %r12, %cr3
)")
TELLING(told_by_pcid, R"(
  movq $1, (%r14)
  mov $1, %edi
  invpcid (%r14), %rdi
  mov %r12, %cr3
)")
TELLING(told_by_all, R"(
  mov $2, %edi
  invpcid (%r14), %rdi
  mov %r12, %cr3
)")
TELLING(told_by_all_not_global, R"(
  mov $3, %edi
  invpcid (%r14), %rdi
  mov %r12, %cr3
)")
TELLING(told_by_invlpg, R"(
  mov %r12, %cr3
  invlpg 0x150000
  invlpg 0x170000
)")
TELLING(told_by_cr4, R"(
  mov %cr4, %rdi
  xor $0x80, %rdi
  mov %rdi, %cr4
  mov %r12, %cr3
)")
TELLING(told_within_the_space, R"(
  mov %r12, %cr3
  movq $1, (%r14)
  mov $1, %edi
  invpcid (%r14), %rdi
)")

TEST_F(Soft, a_space_that_is_away_forgets_what_it_is_told_to) {
  for (const auto* how : {&told_by_flush, &told_by_address, &told_by_pcid, &told_by_all, &told_by_all_not_global,
                          &told_by_invlpg, &told_by_cr4, &told_within_the_space}) {
    const auto soft = run_both(*how, kCode, prepare_spaces);
    // The first page: once after it was mapped, and twice in the next round before the next one is.
    EXPECT_EQ(soft->get64(0x1c0000), 3U);
    EXPECT_EQ(soft->get64(0x1c7000), 1U);
    EXPECT_EQ(soft->get64(kFirstOfB), 16U);
  }
}

// A may write the page that B runs code from, has just done so, and does so again after B has run it.
GUEST_CODE(code_of_another, R"(
  xor %eax, %eax
  mov $20, %ebp
  mov $0x8000000000001001, %r12
  mov $0x80000000002f0002, %r13
1: mov %r12, %cr3
  incb 0x180002  # takes the code away
  incb 0x180002  # makes an entry that may write
  mov %r13, %cr3
  call 9f
  mov %r12, %cr3
  incb 0x180002
  mov %r13, %cr3
  call 9f
  dec %ebp
  jnz 1b
  hlt
9: mov $0x160000, %ecx
  mov $2, %r11d
  sysretq
  .org code_code_of_another + 0x800
  ret)")

TEST_F(Soft, a_space_that_is_away_cannot_write_code_unseen) { run_both(code_of_another, kCode, prepare_spaces); }

GUEST_CODE(straight_to_shared, R"(
  mov $0x180000, %ebx
  call *%rbx
  syscall)")

TEST_F(Soft, no_jump_of_a_space_leads_to_code_that_was_written_while_it_was_away) {
  run_both(code_of_another, kCode, [](Machine& m) {
    prepare_spaces(m);
    m.load(kFirstOfB + 0x1000, straight_to_shared);
  });
}

// More PCIDs than are kept; odd ones are A, even ones B.
GUEST_CODE(many, R"(
  xor %eax, %eax
  mov $40, %ebp
  mov $0x8000000000001000, %r12
  mov $0x80000000002f0000, %r13
1: mov $1, %r14d
2: lea (%r12,%r14), %rdi
  mov %rdi, %cr3
  call 9f
  lea 1(%r13,%r14), %rdi
  mov %rdi, %cr3
  call 9f
  add $2, %r14d
  cmp $21, %r14d
  jne 2b
  dec %ebp
  jnz 1b
  hlt
9: mov $0x160000, %ecx
  mov $2, %r11d
  sysretq
  .org code_many + 0x800
  ret)")

TEST_F(Soft, more_spaces_than_are_kept) {
  const auto soft = run_both(many, kCode, prepare_spaces);
  EXPECT_EQ(soft->get64(kFirstOfA), 400U);
  EXPECT_EQ(soft->get64(kFirstOfB), 400U);
}

// Another address space under the same PCID, with "no flush": nothing may be kept of it that was never told apart.
GUEST_CODE(without_a_name, R"(
  xor %eax, %eax
  mov $0x8000000000001003, %r12
  mov $0x80000000002f0002, %r13
  mov %r12, %cr3
  call 9f
  mov %r13, %cr3
  call 9f
  mov $0x2f0003, %edi   # PCID 3 is B now, and flushed
  mov %rdi, %cr3
  call 9f
  mov %r13, %cr3
  call 9f
  mov $0x80000000002f0003, %rdi
  mov %rdi, %cr3
  call 9f
  hlt
9: mov $0x160000, %ecx
  mov $2, %r11d
  sysretq
  .org code_without_a_name + 0x800
  ret)")

TEST_F(Soft, a_pcid_may_be_given_to_another_space) {
  const auto soft = run_both(without_a_name, kCode, prepare_spaces);
  EXPECT_EQ(soft->get64(kFirstOfA), 1U);
  EXPECT_EQ(soft->get64(kFirstOfB), 4U);
}

}  // namespace
}  // namespace nacre::soft
