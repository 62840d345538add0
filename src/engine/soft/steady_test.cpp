// Code in large global pages, as a kernel's: jumps into it outlive a flush of everything only while the page
// tables say the same.
#include "engine/soft/both.hpp"

namespace nacre::soft {
namespace {

// Two pages of 2 MiB at 1 GiB, and the table that may take the first one's place.
constexpr u64 kDirectory = 0x2f0000, kTable = 0x2f1000;
constexpr u64 kFirst = 0x600000, kSecond = 0x800000;  // physical; what each may become lies 4 MiB behind it
constexpr u64 kSmall = 0x30000, kSmallMoved = 0x50000;
constexpr u64 kLarge = 0x183;  // present, writable, large, global

// At 1 GiB: adds a number that is the page's own, goes to the other page by a jump that can be linked, and on
// by a return.
GUEST_CODE(first_code, R"(
  add $0x11111111, %rax
  call . + 0x200000 - 6
  ret)")
GUEST_CODE(second_code, R"(
  add $0x11111111, %rax
  ret)")

void prepare(Machine& m) {
  m.put64(conformance::kTables + 0x1000 + 8, kDirectory | 3);
  m.put64(kDirectory, kFirst | kLarge);
  m.put64(kDirectory + 8, kSecond | kLarge);
  u8 number = 1;
  for (const u64 at : {kFirst, kSecond, kFirst + 0x400000, kSecond + 0x400000}) {
    m.load(at, at == kFirst || at == kFirst + 0x400000 ? first_code : second_code);
    std::memset(m.base + at + 2, 0, 4);
    m.base[at + 2] = number;
    number = static_cast<u8>(number << 2);
  }
  // A small global page whose jump stands in the same place of the jump cache.
  for (const u64 at : {kSmall, kSmallMoved}) {
    m.load(at, second_code);
    std::memset(m.base + at + 2, 0, 4);
    m.base[at + 4] = at == kSmall ? 1 : 2;
  }
  m.put64(0x200000 + (kSmall >> 12) * 8, kSmall | 0x103);
  // The first page in small pieces, with the code of what it may become.
  for (u64 i = 0; i < 512; i++) m.put64(kTable + 8 * i, (kFirst + 0x400000 + i * kPageSize) | 0x103);
  m.vcpu->state().cr4 |= x86::Cr4::PGE;
}

// Calls some times, changes a page, says so, and calls again. RAX gathers what was there.
#define STEADY(name, change, flush)                                            \
  GUEST_CODE(name,                                                             \
             "xor %eax, %eax\n mov $0x40000000, %ebx\n mov $0x190000, %r14d\n" \
             "movq $1, (%r14)\n movq $2, 8(%r14)\n mov $5, %ecx\n"             \
             "1: call *%rbx\n call 9f\n call *%rbx\n call *%rbx\n" change      \
             "\n call *%rbx\n call *%rbx\n"                                    \
             "dec %ecx\n jnz 1b\n hlt\n 9:\n" flush "\n ret\n")

// Global pages go with it for a moment.
#define FLUSH "mov %cr4, %rdi\n btc $7, %rdi\n mov %rdi, %cr4\n btc $7, %rdi\n mov %rdi, %cr4\n"
#define BY_INVPCID "mov $2, %edi\n invpcid (%r14), %rdi\n"

STEADY(nothing_changed, "call 9f", FLUSH)
STEADY(nothing_changed_by_invpcid, "call 9f", BY_INVPCID)
STEADY(first_moved, "xorq $0xc00000, 0x2f0000\n call 9f", BY_INVPCID)
STEADY(second_moved, "xorq $0x400000, 0x2f0008\n call 9f", BY_INVPCID)
STEADY(both_moved, "xorq $0xc00000, 0x2f0000\n xorq $0x400000, 0x2f0008\n call 9f", FLUSH)
STEADY(invlpg_at_its_start, "xorq $0xc00000, 0x2f0000\n invlpg 0x40000000", BY_INVPCID)
STEADY(invlpg_at_its_end, "xorq $0x400000, 0x2f0008\n invlpg 0x403ff000", BY_INVPCID)
STEADY(in_small_pieces, "movq $0x2f1003, 0x2f0000\n call 9f", BY_INVPCID)
STEADY(not_global_any_more, R"(
  btrq $8, 0x2f0000
  call 9f
  call *%rbx
  xorq $0xc00000, 0x2f0000
  mov %cr3, %rdi
  mov %rdi, %cr3)",
       BY_INVPCID)
STEADY(not_accessed, "btrq $5, 0x2f0000\n call 9f", BY_INVPCID)
// A flush that is followed by another change before any block has been looked for is one flush.
STEADY(
    moved_between_two,
    "xorq $0x400000, 0x2f0008\n mov %cr4, %rdi\n btc $7, %rdi\n mov %rdi, %cr4\n xorq $0xc00000, 0x2f0000\n"
    "btc $7, %rdi\n mov %rdi, %cr4",
    FLUSH)
STEADY(small_page_at_its_place, R"(
  mov $0x30000, %esi
  call *%rsi
  xorq $0x60000, 0x200180
  call 9f
  call *%rsi
  call *%rbx
  call *%rsi)",
       BY_INVPCID)

TEST_F(Soft, jumps_into_large_global_pages_are_as_the_tables_say_after_a_flush_of_everything) {
  unsigned number = 0;
  for (const auto* program :
       {&nothing_changed, &nothing_changed_by_invpcid, &first_moved, &second_moved, &both_moved,
        &invlpg_at_its_start, &invlpg_at_its_end, &in_small_pieces, &not_global_any_more, &not_accessed,
        &moved_between_two, &small_page_at_its_place}) {
    SCOPED_TRACE(number++);
    const auto soft = run_both(*program, kCode, prepare);
    // Five calls, each of one number of the first page and one of the second, five times (an odd number: what
    // moves to and fro would hide what is stale); and the numbers are not all the first ones where something
    // has moved.
    EXPECT_EQ(soft->vcpu->state().gpr[x86::RAX] == 5 * 5 * (1 + 4), number <= 2 || number == 10);
  }
}

}  // namespace
}  // namespace nacre::soft
