#include "interp/vector_entry.hpp"

// Inside a stub: (%rsp) is the context, 8(%rsp) the exit's address; a stub ends with jmp *8(%rsp).
asm(R"(
  .text
  .globl nacre_vector_enter
  .hidden nacre_vector_enter
  .type nacre_vector_enter, @function
nacre_vector_enter:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  lea nacre_vector_exit(%rip), %rax
  push %rax
  push %rdi
  stmxcsr 160(%rdi)
  fnstcw 164(%rdi)
  mov 144(%rdi), %rsi
  mov 152(%rdi), %eax
  mov 156(%rdi), %edx
  xrstor64 (%rsi)
  pushfq
  pop %rax
  and $~0x8d5, %rax
  or 128(%rdi), %rax
  push %rax
  popfq
  pushq 136(%rdi)
  mov 0(%rdi), %rax
  mov 8(%rdi), %rcx
  mov 16(%rdi), %rdx
  mov 24(%rdi), %rbx
  mov 40(%rdi), %rbp
  mov 48(%rdi), %rsi
  mov 64(%rdi), %r8
  mov 72(%rdi), %r9
  mov 80(%rdi), %r10
  mov 88(%rdi), %r11
  mov 96(%rdi), %r12
  mov 104(%rdi), %r13
  mov 112(%rdi), %r14
  mov 120(%rdi), %r15
  mov 56(%rdi), %rdi
  ret

  .globl nacre_vector_exit
  .hidden nacre_vector_exit
nacre_vector_exit:
  mov (%rsp), %rdi
  mov %rax, 0(%rdi)
  mov %rcx, 8(%rdi)
  mov %rdx, 16(%rdi)
  mov %rbx, 24(%rdi)
  mov %rbp, 40(%rdi)
  mov %rsi, 48(%rdi)
  mov %r8, 64(%rdi)
  mov %r9, 72(%rdi)
  mov %r10, 80(%rdi)
  mov %r11, 88(%rdi)
  mov %r12, 96(%rdi)
  mov %r13, 104(%rdi)
  mov %r14, 112(%rdi)
  mov %r15, 120(%rdi)
  pushfq
  popq 128(%rdi)
  mov 144(%rdi), %rsi
  mov 152(%rdi), %eax
  mov 156(%rdi), %edx
  xsave64 (%rsi)
  fninit
  fldcw 164(%rdi)
  ldmxcsr 160(%rdi)
  testb $4, 152(%rdi)
  jz 1f
  vzeroupper
1:
  pop %rdi
  pop %rax
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
  .size nacre_vector_enter, . - nacre_vector_enter

  .globl nacre_vector_serialize
  .hidden nacre_vector_serialize
  .type nacre_vector_serialize, @function
nacre_vector_serialize:
  mov %rsp, %rcx
  mov %ss, %eax
  push %rax
  push %rcx
  pushfq
  mov %cs, %eax
  push %rax
  lea 1f(%rip), %rax
  push %rax
  iretq
1:
  ret
  .size nacre_vector_serialize, . - nacre_vector_serialize
)");
