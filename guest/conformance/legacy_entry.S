# The way out of long mode and back: run_legacy_code() enters what `in` (at legacy_in) describes, in protected mode, V86 mode
# or real mode, and whatever exception or interrupt comes there ends it: `legacy_seen` says how. The memory at
# 20000h to 2ffffh is the case's code and stack and what of this has to be below 64 KiB of a segment.
.set low, 0x20000
.set in, 0x2d000                     # struct legacy
.set in_cr0, in + 0
.set in_cr3, in + 4
.set in_cr4, in + 8
.set in_registers, in + 12           # edi, esi, ebp, -, ebx, edx, ecx, eax
.set in_eip, in + 44
.set in_cs, in + 48
.set in_eflags, in + 52
.set in_esp, in + 56
.set in_ss, in + 60
.set in_es, in + 64
.set in_ds, in + 68
.set in_fs, in + 72
.set in_gs, in + 76
.set in_real, in + 80
.set code_16, 0xf0                   # base 20000h, 64 KiB
.set data_16, 0xf8                   # base 0, 64 KiB
.set task_32, 0x68
.set vectors, 0x90

.text
.code64
.globl run_legacy_code
run_legacy_code:
    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15
    mov %rsp, long_stack
    ljmp *to_32(%rip)

.code32
enter_32:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $legacy_stack_top, %esp
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
    mov $0xc0000080, %ecx
    rdmsr
    and $~0x100, %eax
    wrmsr
    mov in_cr4, %eax
    mov %eax, %cr4
    mov in_cr3, %eax
    mov %eax, %cr3
    lidt legacy_idt_pointer
    mov $task_32, %eax
    ltr %ax
    cmpl $0, in_real
    jne enter_real
    mov in_cr0, %eax
    mov %eax, %cr0
    testl $0x20000, in_eflags
    jz 1f
    pushl in_gs                      # V86 mode
    pushl in_fs
    pushl in_ds
    pushl in_es
    pushl in_ss
    pushl in_esp
    jmp 3f
1:  testl $3, in_cs
    jz 2f
    pushl in_ss                      # another privilege
    pushl in_esp
    jmp 3f
2:  mov in_ss, %ss
    mov in_esp, %esp
3:  pushl in_eflags
    pushl in_cs
    pushl in_eip
    mov in_registers + 0, %edi
    mov in_registers + 4, %esi
    mov in_registers + 8, %ebp
    mov in_registers + 16, %ebx
    mov in_registers + 20, %edx
    mov in_registers + 24, %ecx
    mov in_registers + 28, %eax
    testl $0x20000, in_eflags
    jnz 4f
    mov in_es, %es
    mov in_fs, %fs
    mov in_gs, %gs
    mov in_ds, %ds
4:  iretl

enter_real:
    lidt real_idt_pointer
    ljmp $code_16, $to_real - low_begin + 0xe000

# Protected and V86 mode end here, from a stub below: the vector, an error code and the frame are on the stack.
leave_32:
    pushal
    mov %ds, %ebx
    mov %es, %ecx
    mov %fs, %edx
    mov %gs, %ebp
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    cld
    push %ecx
    mov %esp, %esi
    add $4, %esi
    mov $legacy_seen, %edi
    mov $19, %ecx
    rep movsl %ss:(%esi), %es:(%edi)
    pop %ecx
    testl $0x20000, legacy_seen + 48
    jnz back
    mov %ecx, legacy_seen + 60
    mov %ebx, legacy_seen + 64
    mov %edx, legacy_seen + 68
    mov %ebp, legacy_seen + 72
    testl $3, legacy_seen + 44
    jnz back
    lea 32 + 8 + 12(%esp), %eax      # over the registers, vector and error code, and the frame
    mov %eax, legacy_seen + 52
    mov %ss, %eax
    mov %eax, legacy_seen + 56

back:
    mov %cr2, %eax
    mov %eax, legacy_seen + 76
    mov %dr6, %eax
    mov %eax, legacy_seen + 80
    mov %cr0, %eax
    mov %eax, legacy_seen + 84
    and $0x7fffffff, %eax
    mov %eax, %cr0
    mov base_cr4, %eax
    mov %eax, %cr4
    mov $root, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov base_cr0, %eax
    mov %eax, %cr0
    ljmp $8, $back_64
.code64
back_64:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov long_stack, %rsp
    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx
    ret

# From real mode, by way of real_common.
.code32
leave_real:
    mov %ss, %ebx                    # the paragraph still
    movzwl %bx, %ebx
    shl $4, %ebx
    movzwl %sp, %esi
    add %ebx, %esi
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $legacy_stack_top, %esp
    cld
    mov %esi, %ebp                   # gs, fs, es, ds; eight registers; the stub's address; ip, cs, flags
    add $8, %esi
    mov $legacy_seen, %edi
    mov $8, %ecx
    rep movsl
    movzwl 40(%ebp), %eax
    sub $0xe000 + real_stubs - low_begin + 3, %eax
    mov $3, %ecx
    xor %edx, %edx
    div %ecx
    mov %eax, legacy_seen + 32
    movl $0, legacy_seen + 36
    movzwl 42(%ebp), %eax
    mov %eax, legacy_seen + 40
    movzwl 44(%ebp), %eax
    mov %eax, legacy_seen + 44
    movzwl 46(%ebp), %eax
    mov %eax, legacy_seen + 48
    lea 48(%ebp), %eax
    sub %ebx, %eax
    mov %eax, legacy_seen + 52
    shr $4, %ebx
    mov %ebx, legacy_seen + 56
    movzwl 4(%ebp), %eax
    mov %eax, legacy_seen + 60
    movzwl 6(%ebp), %eax
    mov %eax, legacy_seen + 64
    movzwl 2(%ebp), %eax
    mov %eax, legacy_seen + 68
    movzwl 0(%ebp), %eax
    mov %eax, legacy_seen + 72
    jmp back

# To be copied to low + e000h.
.globl low_begin, low_end, real_stubs
.code16
low_begin:
to_real:
    mov $data_16, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %fs
    mov %ax, %gs
    mov %cr0, %eax
    and $~1, %al
    mov %eax, %cr0
    ljmp $low >> 4, $1f - low_begin + 0xe000
1:  mov %cs:in_ss - low, %ss
    mov %cs:in_esp - low, %esp
    pushw %cs:in_eflags - low
    pushw %cs:in_cs - low
    pushw %cs:in_eip - low
    mov %cs:in_es - low, %es
    mov %cs:in_ds - low, %ds
    mov %cs:in_fs - low, %fs
    mov %cs:in_gs - low, %gs
    mov %cs:in_registers - low + 0, %edi
    mov %cs:in_registers - low + 4, %esi
    mov %cs:in_registers - low + 8, %ebp
    mov %cs:in_registers - low + 16, %ebx
    mov %cs:in_registers - low + 20, %edx
    mov %cs:in_registers - low + 24, %ecx
    mov %cs:in_registers - low + 28, %eax
    iretw
real_common:
    pushal
    push %ds
    push %es
    push %fs
    push %gs
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x30, $leave_real
real_stubs:                          # each tells its vector by where it is
.rept vectors
    .byte 0xe8
    .word real_common - . - 2
.endr
low_end:

.code32
.altmacro
.macro stub vector
legacy_stub_\vector:
    .if \vector != 8 && \vector != 17 && \vector != 21 && (\vector < 10 || \vector > 14)
    push $0
    .endif
    push $\vector
    jmp leave_32
.endm
.set i, 0
.rept vectors
    stub %i
    .set i, i + 1
.endr

.section .rodata
.globl legacy_stubs
.balign 4
.macro address vector
    .long legacy_stub_\vector
.endm
legacy_stubs:
.set i, 0
.rept vectors
    address %i
    .set i, i + 1
.endr
to_32:
    .long enter_32
    .word 0x30
legacy_idt_pointer:
    .word vectors * 8 - 1
    .long legacy_idt
real_idt_pointer:
    .word 0x3ff
    .long 0

.bss
.balign 16
.globl legacy_seen, legacy_idt, legacy_stack_top
legacy_seen: .skip 88
.balign 8
legacy_idt: .skip vectors * 8
long_stack: .skip 8
.balign 16
.skip 4096
legacy_stack_top:
.section .note.GNU-stack, "", @progbits
