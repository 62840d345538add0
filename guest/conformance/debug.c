// Breakpoints, single-stepping, DR6 and DR7. SDM vol. 3, chapter 17.
#include "suite.h"
#define GROUP "debug"

enum {
  on_execute = 0,
  on_write = 1,
  on_io = 2,
  on_access = 3,
  bytes_1 = 0,
  bytes_2 = 1,
  bytes_8 = 2,
  bytes_4 = 3
};
static void watch(unsigned n, uint64_t address, unsigned type, unsigned length) {
  switch (n) {
    case 0:
      set_dr0(address);
      break;
    case 1:
      set_dr1(address);
      break;
    case 2:
      set_dr2(address);
      break;
    default:
      set_dr3(address);
  }
  set_dr7(dr7() | 2u << 2 * n | (type | length << 2) << (16 + 4 * n));
}
#define HITS(bits) EQUAL(seen_dr6 & 0xe00f, bits)

CASE(single_step_is_a_trap_after_the_next, "SDM 3B 17.3.1.4") {
  TRY("pushq $0x102\n popfq\n nop\n" MARK "nop");
  WANT(DB, 0);
  HITS(0x4000);
  EQUAL(seen.rflags & TF, TF);
}
CASE(single_step_does_not_set_rf, "SDM 3B 17.3.1.4") {
  TRY("pushq $0x102\n popfq\n nop\n nop");
  EQUAL(seen.rflags & RF, 0);
}
CASE(single_step_of_a_branch, "SDM 3B 17.3.1.4") {
  TRY("pushq $0x102\n popfq\n jmp 1f\n ud2\n 1: " MARK "nop");
  WANT(DB, 0);
}
CASE(single_step_of_popf_that_clears_tf, "SDM 3B 17.3.1.4") {
  // TF as it was before the instruction decides.
  TRY("push $2\n pushq $0x102\n popfq\n popfq\n" MARK "nop");
  WANT(DB, 0);
  EQUAL(seen.rflags & TF, 0);
}
CASE(faulting_instruction_does_not_trap, "SDM 3A 6.9") {
  TRY("pushq $0x102\n popfq\n" MARK "ud2");
  WANT(UD, 0);
  EQUAL(seen.rflags & TF, TF);
  HITS(0);
}
CASE(int_n_clears_tf_and_does_not_trap_in_the_handler, "SDM 3B 17.3.1.4") {
  static volatile uint32_t handled;
  handled = 0;
  void handle(struct frame * frame) {
    handled++, (void)frame;
  }
  hook[0x81] = handle;
  TRY("pushq $0x102\n popfq\n int $0x81\n nop\n" MARK "nop");
  // The handler runs without TF; IRET restores it, and the instruction after the next one's beginning traps.
  WANT(DB, 0);
  EQUAL(handled, 1);
}
CASE(single_step_of_rep_traps_after_each, "SDM 3B 17.3.1.4") {
  TRY("mov %%rbx, %%rsi\n mov %%rbx, %%rdi\n mov $5, %%ecx\n pushq $0x102\n popfq\n" MARK "rep movsb",
      "b"(PAGE(0)));
  WANT(DB, 0);
  EQUAL(seen.rcx, 4);
}
CASE(single_step_over_mov_ss, "SDM 3A 6.8.3") {
  TRY("mov %%ss, %%eax\n pushq $0x102\n popfq\n mov %%eax, %%ss\n nop\n" MARK "nop");
  WANT(DB, 0);
}
CASE(single_step_over_sti_is_not_held_back, "SDM 2B STI") {
  TRY("pushq $0x102\n popfq\n sti\n" MARK "cli");
  WANT(DB, 0);
}
CASE(single_step_in_user_mode, "SDM 3B 17.3.1.4") {
  USER64("nop\n" MARK "nop", .flags = TF);
  WANT(DB, 0);
  EQUAL(seen.cs, user_code_64);
  HITS(0x4000);
}
CASE(single_step_of_syscall, "SDM 2B SYSCALL") {
  // With TF masked nothing traps in the kernel.
  extern const char call_target[];
  write_msr(msr_efer, base_efer | efer_sce);
  write_msr(msr_star, (uint64_t)kernel_code << 32);
  write_msr(msr_lstar, (uint64_t)call_target);
  write_msr(msr_fmask, TF);
  USER64("syscall", .flags = TF);
  EQUAL(seen.vector, done);
  EQUAL(seen.r11 & TF, TF);
}
CASE(iret_to_tf_traps_after_one_instruction, "SDM 3B 17.3.1.4") {
  TRY("mov %%rsp, %%rsi\n pushq $0x10\n push %%rsi\n pushq $0x102\n pushq $8\n pushq $1f\n iretq\n 1: "
      "nop\n" MARK "nop");
  WANT(DB, 0);
}
CASE(dr6_keeps_what_came_before, "SDM 3B 17.2.3") {
  // Bits 0 to 3 may be cleared by a later debug exception; BD, BS and BT are not.
  set_dr6(0xffff0ff0 | 0x8000);
  TRY("pushq $0x102\n popfq\n nop\n nop");
  EQUAL(seen_dr6 & 0xc000, 0xc000);
}
CASE(debug_exception_clears_the_hits_of_earlier_ones, "APM 2 13.1.1.3") {
  // Intel's manual leaves it open (SDM 3B 17.2.3).
  NEEDS(is_amd, "not AMD");
  set_dr6(0xffff0ff0 | 0x400a);
  watch(0, PAGE(0) + 8, on_write, bytes_8);
  TRY("mov %%rax, (%%rbx)\n" MARK "nop", "b"(PAGE(0) + 8));
  WANT(DB, 0);
  HITS(0x4001);
  __asm__ volatile("mov $debug_hits_1, %%rax\n mov %%rax, %%dr0" : : : "rax");
  set_dr6(0xffff0ff0 | 0x8006);
  set_dr7(0x402);
  TRY(MARK "debug_hits_1: nop");
  WANT(DB, 0);
  HITS(0x8001);
}
CASE(int1_is_none_of_the_debug_statuss_causes, "SDM 3B 17.3.1") {
  set_dr6(0xffff0ff0 | 0x4006);
  TRY(".byte 0xf1\n" MARK "nop");
  WANT(DB, 0);
  // Whether it clears B0 to B3 of earlier ones is left open.
  EQUAL(seen_dr6 & 0xe00f & ~6ull, 0x4000);
}

// --- instruction breakpoints: faults, before the instruction
CASE(breakpoint_on_execution, "SDM 3B 17.3.1.1") {
  __asm__ volatile("mov $debug_1, %%rax\n mov %%rax, %%dr0" : : : "rax");
  set_dr7(0x402);
  TRY("xor %%ecx, %%ecx\n" MARK "debug_1: inc %%ecx");
  WANT(DB, 0);
  EQUAL(seen.rcx, 0);
  EQUAL(seen_dr6 & 1, 1);
}
#define BREAK_AT(label) __asm__ volatile("mov $" #label ", %%rax\n mov %%rax, %%dr0" : : : "rax")
CASE(breakpoint_saves_rf, "SDM 3B 17.3.1.1") {
  // Intel's frame of an instruction breakpoint has RF clear; it is the handler that sets it.
  BREAK_AT(debug_2);
  set_dr7(0x402);
  TRY("nop\n debug_2: nop");
  EQUAL(seen.vector, DB);
  TRUE((seen.rflags & RF) == 0 || is_amd);
}
CASE(breakpoint_by_the_local_enable, "SDM 3B 17.2.4") {
  BREAK_AT(debug_3);
  set_dr7(0x401);
  TRY("nop\n" MARK "debug_3: nop");
  WANT(DB, 0);
}
CASE(breakpoint_that_is_not_enabled, "SDM 3B 17.2.4") {
  BREAK_AT(debug_4);
  set_dr7(0x400);
  TRY("nop\n debug_4: nop");
  WANT_DONE();
}
CASE(breakpoint_in_the_middle_of_an_instruction, "SDM 3B 17.2.5") {
  BREAK_AT(debug_5 + 1);
  set_dr7(0x402);
  TRY("debug_5: mov $1, %%eax");
  WANT_DONE();
}
CASE(breakpoint_comes_before_the_instructions_fault, "SDM 3A table 6-2") {
  BREAK_AT(debug_6);
  set_dr7(0x402);
  TRY("nop\n" MARK "debug_6: ud2");
  WANT(DB, 0);
}
CASE(breakpoint_comes_before_the_fetch_faults, "SDM 3A table 6-2") {
  map(0, 0);
  watch(0, PAGE(0), on_execute, bytes_1);
  TRY("jmp *%%rbx", "b"(PAGE(0)));
  WANT_AT(DB, 0, PAGE(0));
}
CASE(breakpoint_on_the_first_prefix, "SDM 3B 17.2.5") {
  BREAK_AT(debug_7);
  set_dr7(0x402);
  TRY("nop\n" MARK "debug_7: .byte 0x66\n nop");
  WANT(DB, 0);
}
CASE(rf_lets_the_instruction_run_once, "SDM 3B 17.3.1.1") {
  BREAK_AT(debug_8);
  set_dr7(0x402);
  static volatile uint32_t hits;
  hits = 0;
  void resume(struct frame * frame) {
    hits++, frame->rflags |= RF;
  }
  hook[DB] = resume;
  TRY("mov $3, %%ecx\n debug_8: dec %%ecx\n jnz debug_8");
  WANT_DONE();
  EQUAL(hits, 3);  // RF is cleared after the instruction, and the next round breaks again
}
CASE(popf_does_not_set_rf, "SDM 3B 17.3.1.1") {
  BREAK_AT(debug_9);
  set_dr7(0x402);
  TRY("pushq $0x10002\n popfq\n" MARK "debug_9: nop");
  WANT(DB, 0);
}
CASE(mov_ss_holds_back_an_instruction_breakpoint, "SDM 3A 6.8.3") {
  BREAK_AT(debug_10);
  set_dr7(0x402);
  TRY("mov %%ss, %%eax\n mov %%eax, %%ss\n" MARK "debug_10: nop");
  // AMD's do hit there.
  if (is_amd) NEEDS(seen.vector == done, "AMD: not held back");
  WANT_DONE();
}
CASE(breakpoint_and_single_step_together, "SDM 3B 17.3.1") {
  BREAK_AT(debug_11);
  set_dr7(0x402);
  TRY("pushq $0x102\n popfq\n nop\n" MARK "debug_11: nop");
  WANT(DB, 0);
  EQUAL(seen_dr6 & 0x4000, 0x4000);
}

// --- data breakpoints: traps, after the instruction
#define DATA(name, section, type, length, offset, text, hit)  \
  CASE(name, section) {                                       \
    watch(1, PAGE(0) + 8, type, length);                      \
    TRY(text "\n" MARK "nop\n nop", "b"(PAGE(0) + (offset))); \
    if (hit) {                                                \
      WANT(DB, 0);                                            \
      HITS(2);                                                \
    } else {                                                  \
      WANT_DONE();                                            \
    }                                                         \
  }
DATA(write_is_seen, "SDM 3B 17.3.1.2", on_write, bytes_8, 8, "mov %%rax, (%%rbx)", 1)
DATA(read_is_not_a_write, "SDM 3B 17.3.1.2", on_write, bytes_8, 8, "mov (%%rbx), %%rax", 0)
DATA(read_is_an_access, "SDM 3B 17.3.1.2", on_access, bytes_8, 8, "mov (%%rbx), %%rax", 1)
DATA(fetch_is_no_access, "SDM 3B 17.3.1.2", on_access, bytes_8, 8,
     "movb $0xc3, -8(%%rbx)\n lea -8(%%rbx), %%rcx\n call *%%rcx", 0)
DATA(write_beside_a_byte, "SDM 3B 17.2.5", on_write, bytes_1, 9, "movb $1, (%%rbx)", 0)
DATA(write_of_a_byte, "SDM 3B 17.2.5", on_write, bytes_1, 8, "movb $1, (%%rbx)", 1)
DATA(write_that_overlaps_from_below, "SDM 3B 17.2.5", on_write, bytes_4, 5, "movl $1, (%%rbx)", 1)
DATA(write_that_ends_just_below, "SDM 3B 17.2.5", on_write, bytes_4, 4, "movl $1, (%%rbx)", 0)
DATA(write_into_the_last_byte, "SDM 3B 17.2.5", on_write, bytes_4, 11, "movb $1, (%%rbx)", 1)
DATA(write_just_behind, "SDM 3B 17.2.5", on_write, bytes_4, 12, "movb $1, (%%rbx)", 0)
DATA(length_of_two, "SDM 3B 17.2.5", on_write, bytes_2, 9, "movb $1, (%%rbx)", 1)
DATA(modify_is_seen, "SDM 3B 17.3.1.2", on_write, bytes_8, 8, "incq (%%rbx)", 1)
DATA(locked_modify_is_seen, "SDM 3B 17.3.1.2", on_write, bytes_8, 8, "lock incq (%%rbx)", 1)
DATA(write_of_the_same_value_is_seen, "SDM 3B 17.3.1.2", on_write, bytes_8, 8,
     "mov (%%rbx), %%rax\n mov %%rax, (%%rbx)", 1)
DATA(string_store_is_seen, "SDM 3B 17.3.1.2", on_write, bytes_8, 8, "mov %%rbx, %%rdi\n stosb", 1)
CASE(push_is_seen, "SDM 3B 17.3.1.2") {
  watch(1, PAGE(4) + 8, on_write, bytes_8);
  TRY("mov %%rbx, %%rsp\n push %%rax\n" MARK "nop", "b"(PAGE(4) + 16));
  EQUAL(seen.vector, DB);
  HITS(2);
}
CASE(string_stops_at_the_watched_element, "SDM 3B 17.3.1.2") {
  watch(1, PAGE(0) + 8, on_write, bytes_1);
  TRY("mov %%rbx, %%rdi\n mov $32, %%ecx\n" MARK "rep stosb", "b"(PAGE(0)));
  EQUAL(seen.vector, DB);
  HITS(2);
  // After the iteration; some processors end some more first.
  TRUE(seen.rcx <= 23);
}
CASE(data_breakpoint_is_aligned_by_its_length, "SDM 3B 17.2.5") {
  watch(1, PAGE(0) + 11, on_write, bytes_4);
  TRY("movb $1, 8(%%rbx)\n" MARK "nop", "b"(PAGE(0)));
  WANT(DB, 0);
}
CASE(data_breakpoint_after_a_fault_that_wins, "SDM 3A table 6-2") {
  watch(1, PAGE(0) + 8, on_write, bytes_8);
  map(0, 0);
  TRY("mov %%rax, (%%rbx)", "b"(PAGE(0) + 8));
  WANT(PF, pf_write);
  HITS(0);
}
CASE(two_at_once, "SDM 3B 17.2.3") {
  watch(0, PAGE(0) + 8, on_write, bytes_8);
  watch(3, PAGE(0) + 8, on_access, bytes_1);
  TRY("mov %%rax, (%%rbx)\n" MARK "nop", "b"(PAGE(0) + 8));
  WANT(DB, 0);
  HITS(9);
}
CASE(data_breakpoint_and_single_step, "SDM 3B 17.3.1") {
  watch(0, PAGE(0) + 8, on_write, bytes_8);
  TRY("pushq $0x102\n popfq\n mov %%rax, (%%rbx)\n" MARK "nop", "b"(PAGE(0) + 8));
  WANT(DB, 0);
  HITS(0x4001);
}
CASE(mov_ss_delays_a_data_breakpoint, "SDM 3A 6.8.3") {
  WORD(PAGE(0) + 8) = kernel_data;
  watch(0, PAGE(0) + 8, on_access, bytes_8);
  TRY("mov (%%rbx), %%ss\n nop\n" MARK "nop", "b"(PAGE(0) + 8));
  WANT(DB, 0);
}
CASE(mov_ss_delays_a_data_breakpoint_into_int1, "SDM 3A 6.8.3") {
  // One debug exception, not another one at its handler's first instruction.
  static volatile uint32_t handled;
  handled = 0;
  void handle(struct frame * frame) {
    handled++, (void)frame;
  }
  hook[1] = handle;
  WORD(PAGE(0) + 8) = kernel_data;
  watch(0, PAGE(0) + 8, on_access, bytes_8);
  TRY("mov (%%rbx), %%ss\n .byte 0xf1\n nop", "b"(PAGE(0) + 8));
  WANT_DONE();
  EQUAL(handled, 1);
}
CASE(user_write_is_seen, "SDM 3B 17.3.1.2") {
  watch(0, (uint64_t)user_stack - 16, on_write, bytes_8);
  USER64("mov %%rax, (%%rdi)\n" MARK "nop", .rdi = (uint64_t)user_stack - 16);
  WANT(DB, 0);
  EQUAL(seen.cs, user_code_64);
}
CASE(write_across_pages_into_the_watched, "SDM 3B 17.2.5") {
  watch(1, PAGE(1), on_write, bytes_1);
  TRY("mov %%rax, -4(%%rbx)\n" MARK "nop", "b"(PAGE(1)));
  WANT(DB, 0);
}
CASE(io_breakpoint, "SDM 3B 17.3.1.2") {
  set_cr4(base_cr4 | cr4_de);
  watch(2, 0x80, on_io, bytes_1);
  TRY("out %%al, $0x80\n" MARK "nop");
  WANT(DB, 0);
  HITS(4);
}
CASE(io_breakpoint_on_another_port, "SDM 3B 17.3.1.2") {
  set_cr4(base_cr4 | cr4_de);
  watch(2, 0x81, on_io, bytes_1);
  TRY("out %%al, $0x80\n nop");
  WANT_DONE();
}

// --- the registers
CASE(dr4_is_dr6, "SDM 3B 17.2.2") {
  set_dr6(0xffff0ff0 | 5);
  TRY(".byte 0x0f, 0x21, 0xe0");  // mov %dr4, %rax
  WANT_DONE();
  EQUAL(seen.rax & 15, 5);
}
CASE(dr5_is_dr7, "SDM 3B 17.2.2") {
  TRY(".byte 0x0f, 0x21, 0xe8");
  WANT_DONE();
  EQUAL(seen.rax, 0x400);
}
CASE(dr4_with_debugging_extensions, "SDM 3B 17.2.2") {
  set_cr4(base_cr4 | cr4_de);
  TRY(".byte 0x0f, 0x21, 0xe0");
  WANT(UD, 0);
}
CASE(dr5_write_with_debugging_extensions, "SDM 3B 17.2.2") {
  set_cr4(base_cr4 | cr4_de);
  TRY(".byte 0x0f, 0x23, 0xe8");
  WANT(UD, 0);
}
FAULTS(dr7_above_32_bits, "SDM 3B 17.2.6", GP, 0, "mov %%rax, %%dr7", "a"(1ull << 32))
FAULTS(dr6_above_32_bits, "SDM 3B 17.2.6", GP, 0, "mov %%rax, %%dr6", "a"(1ull << 32))
CASE(dr0_holds_64_bits, "SDM 3B 17.2.6") {
  set_dr0(0x123456789abcdef0);
  EQUAL(dr0(), 0x123456789abcdef0);
}
CASE(dr7_fixed_bits, "SDM 3B 17.2.4") {
  set_dr7(0);
  EQUAL(dr7(), 0x400);
}
CASE(dr6_fixed_bits, "SDM 3B 17.2.3") {
  set_dr6(0);
  EQUAL(dr6() & 0xfffe1ff0, 0xfffe0ff0);
}
CASE(general_detect, "SDM 3B 17.3.1.3") {
  set_dr7(0x2400);
  TRY("mov %%dr0, %%rax");
  WANT(DB, 0);
  EQUAL(seen_dr6 & 0x2000, 0x2000);
}
CASE(general_detect_is_cleared_on_entry, "SDM 3B 17.2.4") {
  set_dr7(0x2400);
  TRY("mov %%rax, %%dr1");
  WANT(DB, 0);
  EQUAL(dr7() & 0x2000, 0);
}
CASE(user_reads_debug_registers, "SDM 2B MOV DR") {
  USER64("mov %%dr0, %%rax");
  WANT(GP, 0);
}
CASE(user_writes_debug_registers, "SDM 2B MOV DR") {
  USER64("mov %%rax, %%dr7");
  WANT(GP, 0);
}
CASE(dr4_undefined_before_privilege, "SDM 2B MOV DR") {
  set_cr4(base_cr4 | cr4_de);
  USER64(".byte 0x0f, 0x21, 0xe0");
  TRUE(seen.vector == UD || seen.vector == GP);
}
