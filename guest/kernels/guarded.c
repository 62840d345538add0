#include "guarded.h"

struct frame seen;
static bool active;
uint64_t guard_stack;
extern const char guard_return[];

// The stack pointer marks the place to come back to; flags are brought back by the caller's being in C.
void run_guarded(void (*code)(uint64_t), uint64_t argument);
void run_guarded_user(uint64_t rip, uint64_t cs, uint64_t flags, uint64_t stack, uint64_t argument);
__asm__(
    ".text\n"
    "run_guarded:\n push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, guard_stack\n mov %rdi, %rax\n mov %rsi, %rdi\n call *%rax\n"
    "guard_return:\n mov guard_stack, %rsp\n pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n "
    "cld\n ret\n"
    "run_guarded_user:\n push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "mov %rsp, guard_stack\n pushq $0x23\n push %rcx\n push %rdx\n push %rsi\n push %rdi\n mov %r8, %rdi\n"
    "mov $0x23, %eax\n mov %eax, %ds\n mov %eax, %es\n iretq\n");

void guarded(void (*code)(uint64_t), uint64_t argument) {
  seen.vector = none;
  active = true;
  run_guarded(code, argument);
  active = false;
}

void guarded_user(const char* begin, const char* end, uint16_t cs, uint64_t flags, uint64_t argument) {
  directories[user_page >> 21] |= 4;
  flush_translations();
  memcpy((void*)user_page, begin, (size_t)(end - begin));
  seen.vector = none;
  active = true;
  run_guarded_user(user_page, cs, flags | 2, user_stack, argument);
  active = false;
}

bool end_guarded(struct frame* frame) {
  if (!active) return false;
  seen = *frame;
  active = false;
  frame->rip = (uint64_t)guard_return;
  frame->cs = kernel_code;
  frame->ss = kernel_data;
  frame->rsp = guard_stack;
  frame->rflags = 2;
  return true;
}
