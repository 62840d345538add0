// SYSCALL, SYSRET, SYSENTER, SYSEXIT in each mode. SDM vol. 3, 5.8.7 and 5.8.8; AMD APM vol. 2, 6.1: the two
// differ in compatibility mode, and a case takes the side of the processor's vendor.
#include "suite.h"
#define GROUP "syscalls"

extern const char call_target[], call_target_32[];
// Where the fast calls arrive: on no stack of the kernel's own, so the first thing is to take one.
uint64_t arrival_stack;
__asm__(
    ".pushsection .text\n"
    ".globl call_target\ncall_target: mov %rsp, arrival_stack\n mov $stack_top - 2048, %rsp\n int $0x80\n"
    ".popsection");
static void enable(void) {
  write_msr(msr_efer, base_efer | efer_sce);
  write_msr(msr_star, (uint64_t)kernel_code << 32 | (uint64_t)user_code_32 << 48);
  write_msr(msr_lstar, (uint64_t)call_target);
  write_msr(msr_cstar, (uint64_t)call_target);
  write_msr(msr_fmask, 0);
}
FAULTS(syscall_disabled, "SDM 2B SYSCALL", UD, 0, "syscall")
CASE(sysret_disabled, "SDM 2B SYSRET") {
  TRY("mov $0x40010000, %%ecx\n" MARK "sysretq");
  WANT(UD, 0);
}
CASE(syscall_from_users, "SDM 2B SYSCALL") {
  enable();
  USER64("stc\n syscall\n nop", .flags = 0);
  EQUAL(seen.vector, done);
  EQUAL(seen.cs, kernel_code);
  EQUAL(seen.ss, kernel_code + 8);
  EQUAL(seen.rcx, user_code + 3);
  EQUAL(seen.r11 & 0xf03, CF | 2);
  EQUAL(arrival_stack, user_stack - 0x100);  // RSP is not touched
}
CASE(syscall_masks_flags, "SDM 2B SYSCALL") {
  enable();
  write_msr(msr_fmask, 0x47701);
  USER64("stc\n std\n syscall", .flags = 0x3202);
  EQUAL(seen.vector, done);
  EQUAL(seen.r11 & 0x3701, 0x3601 | CF);
  EQUAL(seen.rflags & 0x3701, 0);
}
CASE(syscall_keeps_flags_that_are_not_masked, "SDM 2B SYSCALL") {
  enable();
  write_msr(msr_fmask, CF);
  USER64("stc\n std\n syscall");
  EQUAL(seen.rflags & (DF_flag | CF), DF_flag);
}
CASE(syscall_from_the_kernel, "SDM 2B SYSCALL") {
  enable();
  TRY("mov %%rsp, %%rbx\n syscall\n 1:");
  EQUAL(seen.vector, done);
  EQUAL(seen.cs, kernel_code);
}
CASE(syscall_takes_the_selector_without_its_rpl, "SDM 2B SYSCALL") {
  enable();
  write_msr(msr_star, (uint64_t)(kernel_code | 3) << 32);
  USER64("syscall");
  EQUAL(seen.vector, done);
  EQUAL(seen.cs, kernel_code);
}
CASE(syscall_does_not_read_the_descriptor_table, "SDM 2B SYSCALL") {
  // CS and SS are loaded with fixed values, and so with selectors that no table holds.
  enable();
  write_msr(msr_star, 0x800ull << 32);
  hook[done] = NULL;
  USER64("syscall");
  EQUAL(seen.vector, done);
  EQUAL(seen.cs, 0x800);
  EQUAL(seen.ss, 0x808);
}
CASE(syscall_in_compatibility_mode, "AMD APM 3 SYSCALL") {
  enable();
  USER32(".byte 0x0f, 0x05\n nop");
  if (!is_amd) {
    WANT(UD, 0);
    return;
  }
  EQUAL(seen.vector, done);
  EQUAL(seen.cs, kernel_code);
  EQUAL(seen.rcx, user_code + 2);
}
CASE(sysret_to_64_bits, "SDM 2B SYSRET") {
  enable();
  static const uint8_t bytes[] = {0xcc, 0x90};
  memcpy((void*)FRAME(16), bytes, 2);
  TRY("mov $2, %%r11d\n sysretq", "c"(user_code));
  EQUAL(seen.vector, done);
  EQUAL(seen.cs, user_code_64);
  EQUAL(seen.ss, user_data);
  EQUAL(seen.rip, user_code + 1);
}
CASE(sysret_to_32_bits, "SDM 2B SYSRET") {
  enable();
  static const uint8_t bytes[] = {0xcc, 0x90};
  memcpy((void*)FRAME(16), bytes, 2);
  TRY("mov $2, %%r11d\n sysretl", "c"(0x123400000000 | user_code));
  EQUAL(seen.vector, done);
  EQUAL(seen.cs, user_code_32);
  EQUAL(seen.rip, user_code + 1);  // EIP is ECX
}
CASE(sysret_loads_flags_from_r11, "SDM 2B SYSRET") {
  enable();
  static const uint8_t bytes[] = {0xcc, 0x90};
  memcpy((void*)FRAME(16), bytes, 2);
  TRY("mov $0x200cd7, %%r11d\n sysretq", "c"(user_code));
  EQUAL(seen.rflags, (0x200cd7 & ~0x28) | 2);
}
CASE(sysret_clears_rf_and_vm, "SDM 2B SYSRET") {
  enable();
  static const uint8_t bytes[] = {0xcc, 0x90};
  memcpy((void*)FRAME(16), bytes, 2);
  TRY("mov $0x30002, %%r11d\n sysretq", "c"(user_code));
  EQUAL(seen.vector, done);
  EQUAL(seen.rflags & (RF | VM), 0);
}
CASE(sysret_from_users, "SDM 2B SYSRET") {
  enable();
  USER64("sysretq");
  WANT(GP, 0);
}
CASE(sysret_from_compatibility_mode, "SDM 2B SYSRET") {
  enable();
  KERNEL32(".byte 0x0f, 0x07");
  // AMD returns from there, to 32-bit code at ECX (which is 0 here, and the kernel's page).
  if (is_amd) WANT_AT(PF, seen.error, 0);
  if (!is_amd) WANT(UD, 0);
}
CASE(sysret_to_a_bad_address, "SDM 2B SYSRET") {
  enable();
  const uint64_t gate = idt[GP * 2];
  set_gate(GP, (gate & 0xffff) | (gate >> 32 & 0xffff0000), (struct gate){kernel_code, 1, 0x8e});
  TRY("mov $2, %%r11d\n sysretq", "c"(1ull << 47));
  // Intel faults in the kernel, with the user's stack; AMD when users fetch there.
  EQUAL(seen.vector, GP);
  EQUAL(seen.error, 0);
  EQUAL(seen.cs, is_amd ? user_code_64 : kernel_code);
}
CASE(sysret_rip_in_the_upper_half, "SDM 2B SYSRET") {
  enable();
  TRY("mov $2, %%r11d\n sysretq", "c"(0xffff800000000000));
  // Canonical, so users get there, and cannot fetch.
  EQUAL(seen.vector, PF);
  EQUAL(seen.error, pf_user | pf_fetch);
  EQUAL(seen.rip, 0xffff800000000000);
}
CASE(sysret_gives_ss_its_rpl, "SDM 2B SYSRET") {
  enable();
  write_msr(msr_star, (uint64_t)(user_code_32 & ~3) << 48);
  static const uint8_t bytes[] = {0xcc, 0x90};
  memcpy((void*)FRAME(16), bytes, 2);
  TRY("mov $2, %%r11d\n sysretq", "c"(user_code));
  EQUAL(seen.cs, user_code_64);
  // Intel sets the RPL of SS to 3; AMD takes the field as it is.
  TRUE((seen.ss & ~3ull) == (user_data & ~3ull) && (is_amd || seen.ss == user_data));
}
CASE(user_stack_works_after_sysret, "SDM 2B SYSRET") {
  // The hidden parts of SS are fixed by the instruction on Intel; loaded or not, 64-bit code may use its
  // stack.
  enable();
  static const uint8_t bytes[] = {0x6a, 5, 0x58, 0xcc};  // push $5; pop %rax; int3
  memcpy((void*)FRAME(16), bytes, sizeof bytes);
  TRY("mov %%rdx, %%rsp\n mov $2, %%r11d\n sysretq", "c"(user_code), "d"(user_stack - 64));
  EQUAL(seen.vector, done);
  EQUAL(seen.rax, 5);
}
CASE(star_writes_keep_all_bits, "SDM 3A 5.8.8") {
  enable();
  write_msr(msr_star, 0x123456789abcdef0);
  EQUAL(read_msr(msr_star), 0x123456789abcdef0);
}
FAULTS(lstar_of_a_bad_address, "SDM 2B WRMSR", GP, 0, "wrmsr", "c"(msr_lstar), "a"(0), "d"(0x8000))
FAULTS(cstar_of_a_bad_address, "SDM 2B WRMSR", GP, 0, "wrmsr", "c"(msr_cstar), "a"(0), "d"(0x8000))

// --- SYSENTER and SYSEXIT
static void enable_enter(void) {
  write_msr(msr_sysenter_cs, kernel_code);
  write_msr(msr_sysenter_esp, (uint64_t)stack_top - 1024);
  write_msr(msr_sysenter_eip, (uint64_t)call_target);
}
CASE(sysenter_from_64_bits, "SDM 2B SYSENTER") {
  enable_enter();
  USER64("std\n sysenter", .flags = 0x3202);
  if (is_amd) {
    EQUAL(seen.vector, UD);
    return;
  }
  EQUAL(seen.vector, done);
  EQUAL(seen.cs, kernel_code);
  EQUAL(seen.ss, kernel_code + 8);
  EQUAL(arrival_stack, (uint64_t)stack_top - 1024);
  EQUAL(seen.rflags & (IF | VM), 0);
  EQUAL(seen.rflags & DF_flag, DF_flag);
}
CASE(sysenter_from_compatibility_mode, "SDM 2B SYSENTER") {
  enable_enter();
  USER32(".byte 0x0f, 0x34");
  EQUAL(seen.vector, is_amd ? UD : done);
}
CASE(sysenter_with_null_cs, "SDM 2B SYSENTER") {
  enable_enter();
  write_msr(msr_sysenter_cs, 0);
  USER64("sysenter");
  WANT(is_amd ? UD : GP, 0);
}
CASE(sysexit_to_64_bits, "SDM 2B SYSEXIT") {
  enable_enter();
  static const uint8_t bytes[] = {0xcc, 0x90};
  memcpy((void*)FRAME(16), bytes, 2);
  TRY("sysexitq", "c"(user_stack), "d"(user_code));
  if (is_amd) {
    EQUAL(seen.vector, UD);
    return;
  }
  EQUAL(seen.vector, done);
  EQUAL(seen.cs, kernel_code + 32 + 3);
  EQUAL(seen.ss, kernel_code + 40 + 3);
  EQUAL(seen.rsp, user_stack);
}
CASE(sysexit_from_users, "SDM 2B SYSEXIT") {
  enable_enter();
  USER64("sysexitl");
  // In long mode AMD does not know it; which of the two faults comes first is not written down.
  TRUE(seen.vector == GP || (is_amd && seen.vector == UD));
}
CASE(sysexit_with_null_cs, "SDM 2B SYSEXIT") {
  enable_enter();
  write_msr(msr_sysenter_cs, 3);
  TRY("sysexitq", "c"(user_stack), "d"(user_code));
  WANT(is_amd ? UD : GP, 0);
}
CASE(sysenter_registers_hold_what_is_written, "SDM 4 table 2-2") {
  write_msr(msr_sysenter_esp, 0xffff800012345678);
  write_msr(msr_sysenter_eip, 0x00007fff87654321);
  // AMD's have 32 bits only where SYSENTER is not there for 64-bit code; Linux writes them all the same.
  TRUE(read_msr(msr_sysenter_esp) == 0xffff800012345678 ||
       (is_amd && read_msr(msr_sysenter_esp) == 0x12345678));
  TRUE(read_msr(msr_sysenter_eip) == 0x00007fff87654321 ||
       (is_amd && read_msr(msr_sysenter_eip) == 0x87654321));
}
