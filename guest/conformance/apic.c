// The local APIC: timer modes, registers, interrupts to oneself and others. SDM vol. 3, chapter 10. Durations
// are compared with the TSC or each other, and generously.
#include "suite.h"
#define GROUP "apic"

enum { vector = 0x61, other_vector = 0x72, masked = 0x10000, periodic = 0x20000, deadline = 0x40000 };

// --- timer
static void start_timer(uint32_t mode, uint32_t initial) {
  hook[vector] = count_interrupt;
  APIC(apic_divide) = 0xb;  // by 1
  APIC(apic_lvt_timer) = mode | vector;
  APIC(apic_initial) = initial;
}
CASE(timer_one_shot, "SDM 3A 10.5.4") {
  start_timer(0, 10000);
  TRUE(wait_for(&count[vector], 1));
  EQUAL(APIC(apic_current), 0);
  for (unsigned i = 0; i < 1000; i++) open_window();
  EQUAL(count[vector], 1);
}
CASE(timer_periodic, "SDM 3A 10.5.4") {
  start_timer(periodic, 100000);
  TRUE(wait_for(&count[vector], 3));
  APIC(apic_initial) = 0;
}
CASE(timer_initial_0_stops, "SDM 3A 10.5.4") {
  start_timer(periodic, 100000);
  TRUE(wait_for(&count[vector], 1));
  APIC(apic_initial) = 0;
  EQUAL(APIC(apic_current), 0);
  open_window();
  const uint32_t before = count[vector];
  for (unsigned i = 0; i < 2000; i++) open_window();
  EQUAL(count[vector], before);
}
CASE(timer_masked_counts_without_interrupting, "SDM 3A 10.5.4") {
  start_timer(masked, 1000);
  for (const uint64_t until = read_tsc() + 2000000000ull; APIC(apic_current) != 0 && read_tsc() < until;)
    open_window();
  EQUAL(APIC(apic_current), 0);
  EQUAL(count[vector], 0);
}
CASE(timer_counts_down, "SDM 3A 10.5.4") {
  start_timer(masked, 0xffffffff);
  const uint32_t first = APIC(apic_current);
  uint32_t second = first;
  for (unsigned i = 0; i < 10000 && second == first; i++) second = APIC(apic_current);
  TRUE(second < first);
  APIC(apic_initial) = 0;
}
CASE(timer_count_is_read_only, "SDM 3A 10.5.4") {
  start_timer(masked, 0xffffffff);
  APIC(apic_current) = 5;
  TRUE(APIC(apic_current) > 0x80000000);
  EQUAL(APIC(apic_initial), 0xffffffff);
  APIC(apic_initial) = 0;
}
CASE(timer_restarts_when_written, "SDM 3A 10.5.4") {
  start_timer(masked, 0x10000);
  APIC(apic_initial) = 0xf0000000;
  TRUE(APIC(apic_current) > 0xe0000000);
  APIC(apic_initial) = 0;
}
CASE(timer_divides, "SDM 3A 10.5.4") {
  // The same number of ticks of the TSC at divisors 1 and 16: the counts differ by about that.
  uint32_t moved[2];
  for (unsigned i = 0; i < 2; i++) {
    APIC(apic_lvt_timer) = masked | vector;
    APIC(apic_divide) = i == 0 ? 0xb : 0x3;
    APIC(apic_initial) = 0xffffffff;
    for (const uint64_t until = read_tsc() + 40000000; read_tsc() < until;) __asm__ volatile("pause");
    moved[i] = 0xffffffff - APIC(apic_current);
    APIC(apic_initial) = 0;
  }
  TRUE(moved[0] > moved[1] * 4);
}
CASE(timer_divide_register_has_three_bits, "SDM 3A 10.5.4") {
  APIC(apic_divide) = 0xffffffff;
  EQUAL(APIC(apic_divide), 0xb);
}
CASE(timer_wakes_hlt, "SDM 2A HLT") {
  start_timer(0, 20000);
  __asm__ volatile("sti\n hlt\n cli");
  EQUAL(count[vector], 1);
}
CASE(timer_pending_while_closed, "SDM 3A 10.8.4") {
  start_timer(0, 1000);
  for (const uint64_t until = read_tsc() + 2000000000ull;
       !(APIC(apic_irr + 0x30) >> (vector % 32) & 1) && read_tsc() < until;) {
  }
  EQUAL(APIC(apic_irr + 0x30) >> (vector % 32) & 1, 1);
  open_window();
  EQUAL(count[vector], 1);
}
CASE(deadline_interrupts_once, "SDM 3A 10.5.4.1") {
  NEEDS(HAS(1, 0, c, 24), "no TSC deadline");
  start_timer(deadline, 0);
  write_msr(msr_deadline, read_tsc() + 100000);
  TRUE(wait_for(&count[vector], 1));
  EQUAL(read_msr(msr_deadline), 0);
  for (unsigned i = 0; i < 1000; i++) open_window();
  EQUAL(count[vector], 1);
}
CASE(deadline_is_not_early, "SDM 3A 10.5.4.1") {
  NEEDS(HAS(1, 0, c, 24), "no TSC deadline");
  static volatile uint64_t came;
  void note(struct frame * frame) {
    came = read_tsc(), count_interrupt(frame);
  }
  start_timer(deadline, 0);
  hook[vector] = note;
  const uint64_t wanted = read_tsc() + 3000000;
  write_msr(msr_deadline, wanted);
  TRUE(wait_for(&count[vector], 1));
  TRUE(came >= wanted);
}
CASE(deadline_in_the_past_interrupts_at_once, "SDM 3A 10.5.4.1") {
  NEEDS(HAS(1, 0, c, 24), "no TSC deadline");
  start_timer(deadline, 0);
  write_msr(msr_deadline, 1);
  TRUE(wait_for(&count[vector], 1));
}
CASE(deadline_of_0_disarms, "SDM 3A 10.5.4.1") {
  NEEDS(HAS(1, 0, c, 24), "no TSC deadline");
  start_timer(deadline, 0);
  write_msr(msr_deadline, read_tsc() + 3000000);
  write_msr(msr_deadline, 0);
  for (const uint64_t until = read_tsc() + 10000000; read_tsc() < until;) open_window();
  EQUAL(count[vector], 0);
}
CASE(deadline_mode_has_no_counter, "SDM 3A 10.5.4.1") {
  NEEDS(HAS(1, 0, c, 24), "no TSC deadline");
  start_timer(deadline, 0);
  APIC(apic_initial) = 100000;
  EQUAL(APIC(apic_current), 0);
  write_msr(msr_deadline, 0);
}
CASE(changing_the_mode_disarms, "SDM 3A 10.5.4.1") {
  NEEDS(HAS(1, 0, c, 24), "no TSC deadline");
  start_timer(deadline, 0);
  write_msr(msr_deadline, read_tsc() + 3000000);
  APIC(apic_lvt_timer) = vector;
  for (const uint64_t until = read_tsc() + 10000000; read_tsc() < until;) open_window();
  EQUAL(count[vector], 0);
}

// --- registers
CASE(version_and_number_of_entries, "SDM 3A 10.4.8") {
  EQUAL(APIC(apic_version) & 0xf0, 0x10);
  TRUE((APIC(apic_version) >> 16 & 0xff) >= 3);
}
CASE(id_is_that_of_cpuid, "SDM 3A 10.4.6") {
  EQUAL(APIC(apic_id) >> 24, cpuid(1, 0).b >> 24);
}
CASE(software_disable_masks_the_local_vectors, "SDM 3A 10.4.7.2") {
  APIC(apic_lvt_timer) = vector;
  APIC(apic_svr) = 0xff;
  EQUAL(APIC(apic_lvt_timer) & masked, masked);
  APIC(apic_lvt_timer) = vector;  // and they cannot be unmasked then
  EQUAL(APIC(apic_lvt_timer) & masked, masked);
  APIC(apic_svr) = 0x1ff;
}
CASE(disabled_by_the_base_register, "SDM 3A 10.4.3") {
  const uint64_t base = read_msr(msr_apic_base);
  APIC(apic_tpr) = 0x30;
  write_msr(msr_apic_base, base & ~0x800ull);
  write_msr(msr_apic_base, base);
  EQUAL(APIC(apic_tpr), 0);  // as after a reset
  EQUAL(APIC(apic_svr) & 0x1ff, 0xff);
  APIC(apic_svr) = 0x1ff;
}
CASE(priority_register, "SDM 3A 10.8.3.1") {
  APIC(apic_tpr) = 0x35;
  EQUAL(APIC(apic_tpr), 0x35);
  EQUAL(APIC(apic_ppr), 0x35);
  APIC(apic_tpr) = 0;
}
CASE(local_vector_below_16_is_an_error, "SDM 3A 10.5.3") {
  APIC(apic_esr) = 0;
  APIC(apic_lvt_timer) = masked | 5;
  APIC(apic_icr_high) = APIC(apic_id);
  APIC(apic_icr) = 0x4005;  // a fixed interrupt of vector 5
  APIC(apic_esr) = 0;
  EQUAL((APIC(apic_esr) & 0x60) != 0, 1);
}
CASE(error_status_is_latched_by_a_write, "SDM 3A 10.5.3") {
  APIC(apic_esr) = 0;
  APIC(apic_esr) = 0;
  EQUAL(APIC(apic_esr), 0);
  APIC(apic_icr_high) = APIC(apic_id);
  APIC(apic_icr) = 0x4005;
  EQUAL(APIC(apic_esr), 0);
  APIC(apic_esr) = 0;
  TRUE(APIC(apic_esr) != 0);
  APIC(apic_esr) = 0;
  EQUAL(APIC(apic_esr), 0);
}
CASE(error_interrupt, "SDM 3A 10.5.3") {
  hook[other_vector] = count_interrupt;
  APIC(apic_lvt_error) = other_vector;
  APIC(apic_icr_high) = APIC(apic_id);
  APIC(apic_icr) = 0x4005;
  TRUE(wait_for(&count[other_vector], 1));
}
CASE(logical_id_and_format, "SDM 3A 10.6.2.2") {
  APIC(apic_dfr) = 0x0fffffff;
  EQUAL(APIC(apic_dfr), 0x0fffffff);
  APIC(apic_dfr) = 0xffffffff;
  APIC(apic_ldr) = 0x5affffff;
  EQUAL(APIC(apic_ldr), 0x5a000000);
}
CASE(command_register_reads_back_idle, "SDM 3A 10.6.1") {
  hook[vector] = count_interrupt;
  APIC(apic_icr_high) = APIC(apic_id);
  APIC(apic_icr) = 0x4000 | vector;
  EQUAL(APIC(apic_icr) & 0x1000, 0);  // delivered: not pending
  open_window();
}

// --- interrupts to oneself
#define TO_SELF(name, section, prepare, high, low)                    \
  CASE(name, section) {                                               \
    hook[vector] = count_interrupt;                                   \
    prepare;                                                          \
    APIC(apic_icr_high) = high;                                       \
    APIC(apic_icr) = (low) | vector;                                  \
    EQUAL(APIC(apic_irr + 16 * (vector / 32)) >> vector % 32 & 1, 1); \
    open_window();                                                    \
    EQUAL(count[vector], 1);                                          \
    EQUAL(APIC(apic_irr + 16 * (vector / 32)), 0);                    \
    EQUAL(APIC(apic_isr + 16 * (vector / 32)), 0);                    \
  }
TO_SELF(ipi_by_id, "SDM 3A 10.6.2.1", (void)0, APIC(apic_id), 0x4000)
TO_SELF(ipi_by_shorthand, "SDM 3A 10.6.1", (void)0, 0, 0x44000)
TO_SELF(ipi_to_all_with_self, "SDM 3A 10.6.1", (void)0, 0, 0x84000)
TO_SELF(ipi_by_flat_logical_id, "SDM 3A 10.6.2.2", APIC(apic_ldr) = 0x02000000, 0x03000000, 0x4800)
TO_SELF(ipi_by_cluster, "SDM 3A 10.6.2.2", (APIC(apic_dfr) = 0x0fffffff, APIC(apic_ldr) = 0x12000000),
        0x13000000, 0x4800)
TO_SELF(ipi_broadcast_id, "SDM 3A 10.6.2.1", (void)0, 0xff000000, 0x4000)
CASE(ipi_to_another_cluster, "SDM 3A 10.6.2.2") {
  hook[vector] = count_interrupt;
  APIC(apic_dfr) = 0x0fffffff;
  APIC(apic_ldr) = 0x12000000;
  APIC(apic_icr_high) = 0x22000000;
  APIC(apic_icr) = 0x4800 | vector;
  open_window();
  EQUAL(count[vector], 0);
}
CASE(ipi_to_no_logical_id, "SDM 3A 10.6.2.2") {
  hook[vector] = count_interrupt;
  APIC(apic_ldr) = 0x01000000;
  APIC(apic_icr_high) = 0x40000000;
  APIC(apic_icr) = 0x4800 | vector;
  open_window();
  EQUAL(count[vector], 0);
}
CASE(x2apic_self_ipi, "SDM 3A 10.12.11") {
  NEEDS(HAS(1, 0, c, 21), "no x2APIC");
  hook[vector] = count_interrupt;
  const uint64_t base = read_msr(msr_apic_base);
  write_msr(msr_apic_base, base | 0xc00);
  write_msr(0x83f, vector);
  open_window();
  write_msr(msr_apic_base, base & ~0xc00ull);
  write_msr(msr_apic_base, base);
  APIC(apic_svr) = 0x1ff;
  EQUAL(count[vector], 1);
}
CASE(x2apic_ipi_by_id, "SDM 3A 10.12.9") {
  NEEDS(HAS(1, 0, c, 21), "no x2APIC");
  hook[vector] = count_interrupt;
  const uint64_t base = read_msr(msr_apic_base);
  write_msr(msr_apic_base, base | 0xc00);
  write_msr(0x830, read_msr(0x802) << 32 | 0x4000 | vector);
  open_window();
  write_msr(msr_apic_base, base & ~0xc00ull);
  write_msr(msr_apic_base, base);
  APIC(apic_svr) = 0x1ff;
  EQUAL(count[vector], 1);
}
