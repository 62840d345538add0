/* The program of the stub process (docs/adr/0010), position-independent, copied to the start of its block. Two threads
   run it in one address space:
     the runner, which asks to be traced by the vCPU's thread, gives up every system call, and stops. From then
       on the vCPU gives it the guest's registers and lets it go; it runs guest code and nothing else.
     the mapper, which maps and unmaps pages as the orders say. It uses no stack and writes no memory: what it reads,
       guest code cannot write, and its registers are out of guest code's reach.
   The offsets are protocol.hpp's; stub_process.cpp checks the numbers.
   The mapper: RBX the block, R12 the orders, R13 the last sequence number served, R14 an order, R15 how many are left. */
    .section .rodata
    .globl nacre_direct_stub
    .globl nacre_direct_stub_end
    .balign 64
nacre_direct_stub:
    lea nacre_direct_stub(%rip), %rbx
    xor %esp, %esp
    /* Everything of the process that made this one goes. */
    xor %edi, %edi
    mov %rbx, %rsi
    mov $11, %eax                   /* munmap(0, block) */
    syscall
    test %rax, %rax
    js fail
    lea 0x5000(%rbx), %rdi
    mov $0x7ffffffff000, %rsi
    sub %rdi, %rsi
    mov $11, %eax                   /* munmap(behind the block, the rest) */
    syscall
    test %rax, %rax
    js fail
    mov $56, %eax                   /* clone(a thread | CLONE_PARENT_SETTID, no stack, kBirth) */
    mov $0x150f00, %edi
    xor %esi, %esi
    lea 0x4000(%rbx), %rdx
    xor %r10d, %r10d
    xor %r8d, %r8d
    syscall
    test %rax, %rax
    js fail
    jz runner

    mov $14, %eax                   /* rt_sigprocmask(SIG_SETMASK, all) */
    mov $2, %edi
    lea all_signals(%rip), %rsi
    xor %edx, %edx
    mov $8, %r10d
    syscall
    test %rax, %rax
    js fail
    mov $317, %eax                  /* seccomp(SECCOMP_SET_MODE_FILTER, SPEC_ALLOW, kMapperFilter) */
    mov $1, %edi
    mov $4, %esi
    lea 0x900(%rbx), %rdx
    syscall
    test %rax, %rax
    js fail
    lea 0x1000(%rbx), %r12
    xor %r13d, %r13d
    jmp done                        /* one report to begin with: it is there */

wait:
    mov (%r12), %eax
    cmp %r13d, %eax
    jne serve
    mov $202, %eax                  /* futex(&sequence, FUTEX_WAIT, served, no end) */
    mov %r12, %rdi
    xor %esi, %esi
    mov %r13d, %edx
    xor %r10d, %r10d
    syscall
    jmp wait
serve:
    mov %eax, %r13d
    mov 4(%r12), %r15d
    lea 32(%r12), %r14
next:
    test %r15d, %r15d
    jz done
    mov (%r14), %rdi
    mov 8(%r14), %rsi
    mov 24(%r14), %edx
    mov $11, %eax                   /* munmap(address, bytes) */
    test %edx, %edx
    jz 1f
    mov $9, %eax                    /* mmap(…, MAP_SHARED | MAP_FIXED | MAP_POPULATE, file, offset) */
    mov $0x8011, %r10d
    mov 28(%r14), %r8d
    mov 16(%r14), %r9
1:  syscall
    lea refused(%rip), %rsi
    cmp $-4096, %rax
    ja report
    add $32, %r14
    dec %r15d
    jmp next
done:
    lea all_done(%rip), %rsi
report:
    mov $1, %eax                    /* write(kReport, one byte) */
    mov $5, %edi
    mov $1, %edx
    syscall
    jmp wait

runner:
    mov $101, %eax                  /* ptrace(PTRACE_TRACEME) */
    xor %edi, %edi
    xor %esi, %esi
    xor %edx, %edx
    xor %r10d, %r10d
    syscall
    test %rax, %rax
    js fail
    mov $317, %eax                  /* seccomp(…, kRunnerFilter) */
    mov $1, %edi
    mov $4, %esi
    lea 0x800(%rbx), %rdx
    syscall
    test %rax, %rax
    js fail
    ud2                             /* the stop in which the vCPU finds it */

fail:
    mov $231, %eax                  /* exit_group(1) */
    mov $1, %edi
    syscall
    jmp fail

all_done: .ascii "d"
refused:  .ascii "r"
    .balign 8
all_signals: .quad -1
    /* RFLAGS.ID can only be changed by POPF in ring 3. RSP: where the flags are, in readable memory. */
    .balign 16
    .globl nacre_direct_stub_popf
nacre_direct_stub_popf:
    popfq
    ud2
nacre_direct_stub_end:
    .section .note.GNU-stack, "", @progbits
