// When interrupts are taken: windows and shadows, HLT, priorities among local vectors, NMI. SDM vol.
// 3, 6.7, 6.8 and 10.8.
#include "suite.h"
#define GROUP "interrupts"

enum { low_vector = 0x51, high_vector = 0x91 };
static void to_self(uint32_t vector) {
  APIC(apic_icr) = 0x44000 | vector;
}
// A pending interrupt, closed out by IF; the hook notes where it came.
static void pend(void) {
  hook[low_vector] = count_interrupt;
  count[low_vector] = 0;
  to_self(low_vector);
}
#define AFTER(name, section, text) \
  CASE(name, section) {            \
    pend();                        \
    TRY(text "\n cli");            \
    WANT_DONE();                   \
    EQUAL(count[low_vector], 1);   \
    EQUAL(last_rip, EXPECTED_RIP); \
  }
CASE(closed_by_if, "SDM 3A 6.8.1") {
  pend();
  TRY("nop\n nop\n nop");
  EQUAL(count[low_vector], 0);
  open_window();
  EQUAL(count[low_vector], 1);
}
AFTER(sti_lets_one_instruction_pass, "SDM 2B STI", "sti\n nop\n" MARK "nop")
CASE(sti_then_cli_is_no_window, "SDM 2B STI") {
  pend();
  TRY("sti\n cli\n nop");
  WANT_DONE();
  EQUAL(count[low_vector], 0);
}
AFTER(sti_with_if_set_has_no_shadow, "SDM 2B STI", "pushq $0x202\n popfq\n" MARK "sti\n nop")
AFTER(popf_opens_at_once, "SDM 3A 6.8.1", "pushq $0x202\n popfq\n" MARK "nop\n nop")
AFTER(iret_opens_at_once, "SDM 3A 6.8.1",
      "mov %%rsp, %%rsi\n pushq $0x10\n push %%rsi\n pushq $0x202\n pushq $8\n pushq $1f\n iretq\n 1:" MARK
      "nop\n nop")
AFTER(mov_ss_lets_one_instruction_pass, "SDM 3A 6.8.3",
      "mov %%ss, %%eax\n sti\n mov %%eax, %%ss\n nop\n" MARK "nop")
AFTER(shadow_of_sti_is_one_even_over_a_branch, "SDM 2B STI", "sti\n jmp 2f\n ud2\n 2:" MARK "nop")
CASE(two_stis_make_one_shadow, "SDM 2B STI") {
  // The second STI finds IF set and makes none.
  pend();
  TRY("sti\n sti\n" MARK "nop\n nop\n cli");
  WANT_DONE();
  EQUAL(count[low_vector], 1);
  EQUAL(last_rip, EXPECTED_RIP);
}
CASE(sti_and_hlt_wait_together, "SDM 2A HLT") {
  pend();
  TRY("sti\n hlt\n" MARK "cli");
  WANT_DONE();
  EQUAL(count[low_vector], 1);
  EQUAL(last_rip, EXPECTED_RIP);
}
CASE(shadow_and_a_fault, "SDM 3A 6.8.3") {
  // The instruction in the shadow faults: its exception comes first.
  pend();
  TRY("sti\n" MARK "ud2");
  WANT(UD, 0);
  EQUAL(count[low_vector], 0);
}
CASE(interrupt_between_iterations_of_rep, "SDM 2B REP") {
  // Open from the start of a long string instruction: taken before it or in it, with RIP at it.
  pend();
  TRY("mov %%rbx, %%rdi\n mov $4096, %%ecx\n sti\n" MARK "rep stosb\n cli", "b"(PAGE(0)));
  WANT_DONE();
  EQUAL(count[low_vector], 1);
  EQUAL(seen.rcx, 0);
  TRUE(last_rip == EXPECTED_RIP || last_rip == EXPECTED_RIP + 2);
}
CASE(frame_of_an_interrupt, "SDM 3A 6.14.2") {
  pend();
  static volatile uint64_t flags, cs;
  void note(struct frame * frame) {
    flags = frame->rflags, cs = frame->cs, count_interrupt(frame);
  }
  hook[low_vector] = note;
  TRY("stc\n sti\n nop\n nop\n cli");
  EQUAL(flags & (IF | CF), IF | CF);
  EQUAL(flags & RF, 0);
  EQUAL(cs, kernel_code);
}
CASE(interrupt_comes_from_users, "SDM 3A 6.12.1") {
  pend();
  static volatile uint64_t cs, at;
  void note(struct frame * frame) {
    cs = frame->cs, at = (uint64_t)&frame->ss + 8, count_interrupt(frame);
  }
  hook[low_vector] = note;
  USER64("nop", .flags = IF);
  EQUAL(count[low_vector], 1);
  EQUAL(cs, user_code_64);
  EQUAL(at, (uint64_t)interrupt_stack + sizeof interrupt_stack);
}
CASE(user_popf_does_not_open, "SDM 2B POPF") {
  pend();
  USER64("pushq $0x202\n popfq\n nop");
  EQUAL(count[low_vector], 0);
}

// --- priorities
static uint32_t order[4];
static volatile uint32_t orders;
static void note_order(struct frame* frame) {
  if (orders < 4) order[orders++] = (uint32_t)frame->vector;
  count_interrupt(frame);
}
CASE(higher_vector_first, "SDM 3A 10.8.3.1") {
  orders = 0;
  hook[low_vector] = hook[high_vector] = note_order;
  to_self(low_vector), to_self(high_vector);
  open_window();
  open_window();
  EQUAL(orders, 2);
  EQUAL(order[0], high_vector);
  EQUAL(order[1], low_vector);
}
CASE(same_class_does_not_interrupt, "SDM 3A 10.8.3.1") {
  static volatile uint32_t nested;
  nested = 0;
  void inner(struct frame * frame) {
    if (frame->vector == 0x52) {
      to_self(0x5f);
      open_window();
      nested = count[0x5f];
    }
    count_interrupt(frame);
  }
  hook[0x52] = inner;
  hook[0x5f] = count_interrupt;
  to_self(0x52);
  open_window();
  EQUAL(nested, 0);
  open_window();
  EQUAL(count[0x5f], 1);
}
CASE(higher_class_interrupts, "SDM 3A 10.8.3.1") {
  static volatile uint32_t nested;
  nested = 0;
  void inner(struct frame * frame) {
    to_self(high_vector);
    open_window();
    nested = count[high_vector];
    count_interrupt(frame);
  }
  hook[low_vector] = inner;
  hook[high_vector] = count_interrupt;
  to_self(low_vector);
  open_window();
  EQUAL(nested, 1);
}
CASE(task_priority_holds_back, "SDM 3A 10.8.3.1") {
  pend();
  set_cr8(5);
  open_window();
  EQUAL(count[low_vector], 0);
  set_cr8(4);
  open_window();
  EQUAL(count[low_vector], 1);
}
CASE(lowering_cr8_with_if_set_delivers, "SDM 3A 10.8.6") {
  pend();
  set_cr8(5);
  TRY("sti\n nop\n mov %%rax, %%cr8\n" MARK "nop\n nop\n cli", "a"(0));
  WANT_DONE();
  EQUAL(count[low_vector], 1);
  EQUAL(last_rip, EXPECTED_RIP);
}
CASE(processor_priority_follows_the_service, "SDM 3A 10.8.3.1") {
  static volatile uint32_t priority;
  void inner(struct frame * frame) {
    priority = APIC(apic_ppr), count_interrupt(frame);
  }
  hook[low_vector] = inner;
  to_self(low_vector);
  open_window();
  EQUAL(priority & 0xf0, low_vector & 0xf0);
  EQUAL(APIC(apic_ppr), 0);
}
CASE(same_vector_twice_is_kept_once_more, "SDM 3A 10.8.4") {
  static volatile uint32_t entered;
  entered = 0;
  void inner(struct frame * frame) {
    if (entered++ == 0) to_self(low_vector), to_self(low_vector);
    count_interrupt(frame);
  }
  hook[low_vector] = inner;
  to_self(low_vector), to_self(low_vector);
  open_window();
  open_window();
  open_window();
  EQUAL(entered, 2);
}
CASE(without_eoi_nothing_of_the_class_comes, "SDM 3A 10.8.5") {
  static volatile uint32_t entered;
  entered = 0;
  void forget(struct frame * frame) {
    entered++, (void)frame;
  }
  hook[low_vector] = forget;
  to_self(low_vector);
  open_window();
  to_self(low_vector);
  open_window();
  EQUAL(entered, 1);
  EQUAL(APIC(apic_isr + 0x20) >> (low_vector % 32) & 1, 1);
  APIC(apic_eoi) = 0;
  open_window();
  EQUAL(entered, 2);
  APIC(apic_eoi) = 0;
}

// --- NMI, by an IPI to this processor
static volatile uint32_t nmis;
static void count_nmi(struct frame* frame) {
  nmis++;
  last_rip = frame->rip;
}
static void send_nmi(void) {
  APIC(apic_icr_high) = APIC(apic_id);
  APIC(apic_icr) = 0x4400;
}
static bool wait_nmi(uint32_t wanted) {
  for (const uint64_t until = read_tsc() + 2000000000ull; nmis < wanted && read_tsc() < until;)
    __asm__ volatile("pause");
  return nmis >= wanted;
}
CASE(nmi_comes_with_if_clear, "SDM 3A 6.7") {
  nmis = 0;
  hook[NMI] = count_nmi;
  send_nmi();
  TRUE(wait_nmi(1));
  EQUAL(nmis, 1);
}
CASE(nmi_is_blocked_until_iret, "SDM 3A 6.7.1") {
  nmis = 0;
  static volatile uint32_t within;
  void handle(struct frame * frame) {
    (void)frame;
    if (nmis++ == 0) {
      send_nmi();
      for (unsigned i = 0; i < 1000; i++) __asm__ volatile("pause");
      within = nmis;
    }
  }
  hook[NMI] = handle;
  send_nmi();
  TRUE(wait_nmi(2));
  EQUAL(within, 1);
  EQUAL(nmis, 2);
}
CASE(nmis_while_blocked_are_kept_as_one, "SDM 3A 6.7.1") {
  nmis = 0;
  void handle(struct frame * frame) {
    (void)frame;
    if (nmis++ == 0) {
      for (unsigned i = 0; i < 3; i++) send_nmi();
      for (unsigned i = 0; i < 1000; i++) __asm__ volatile("pause");
    }
  }
  hook[NMI] = handle;
  send_nmi();
  TRUE(wait_nmi(2));
  for (unsigned i = 0; i < 1000; i++) __asm__ volatile("pause");
  EQUAL(nmis, 2);
}
CASE(any_iret_unblocks_nmi, "SDM 3A 6.7.1") {
  // Also that of an exception's handler within the NMI's.
  nmis = 0;
  static volatile uint32_t within;
  void skip_ud2(struct frame * frame) {
    frame->rip += 2;
  }
  void handle(struct frame * frame) {
    (void)frame;
    if (nmis++ == 0) {
      send_nmi();
      __asm__ volatile("ud2");
      wait_nmi(2);
      within = nmis;
    }
  }
  hook[NMI] = handle;
  hook[UD] = skip_ud2;
  send_nmi();
  TRUE(wait_nmi(2));
  EQUAL(within, 2);
}
CASE(nmi_ignores_the_task_priority, "SDM 3A 10.8.3.1") {
  nmis = 0;
  hook[NMI] = count_nmi;
  set_cr8(15);
  send_nmi();
  TRUE(wait_nmi(1));
  set_cr8(0);
}
CASE(int_2_is_no_nmi, "SDM 3A 6.7") {
  // Its handler runs, but NMIs are not blocked in it.
  nmis = 0;
  static volatile uint32_t within;
  void handle(struct frame * frame) {
    (void)frame;
    if (nmis++ == 0) {
      send_nmi();
      wait_nmi(2);
      within = nmis;
    }
  }
  hook[NMI] = handle;
  __asm__ volatile("int $2");
  EQUAL(within, 2);
}
CASE(nmi_in_user_mode, "SDM 3A 6.7") {
  nmis = 0;
  static volatile uint64_t cs;
  void handle(struct frame * frame) {
    nmis++, cs = frame->cs;
  }
  hook[NMI] = handle;
  APIC(apic_icr_high) = APIC(apic_id);
  // Users cannot reach the APIC; the kernel's page with it is opened to them for the time.
  touch_tables()[0xfee00000 >> 21] |= U;
  flush_translations();
  USER64("movl $0x4400, (%%rdi)\n mov $20000, %%ecx\n 1: pause\n loop 1b", .rdi = 0xfee00300);
  WANT_DONE();
  EQUAL(nmis, 1);
  EQUAL(cs, user_code_64);
}
