# The beginning of every test kernel: a multiboot 1 kernel, entered in 32-bit protected mode, that goes to 64-bit mode
# with the first 4 GiB mapped to themselves, installs descriptor tables, and calls main(magic, information).
# Multiboot Specification 0.6.96, sections 3.1 and 3.2.
.set multiboot_magic, 0x1badb002
.set multiboot_flags, 3              # modules on page borders; memory information
.section .multiboot, "a"
.balign 4
.long multiboot_magic, multiboot_flags, -(multiboot_magic + multiboot_flags)

.text
.code32
.globl _start
_start:
    cld
    mov %eax, boot_magic
    mov %ebx, boot_information
    mov $stack_top, %esp

    # 2048 large pages of 2 MiB: present, writable, reachable by user code where a test adds that.
    mov $directories, %edi
    mov $0x83, %eax
    xor %edx, %edx
1:  mov %eax, (%edi)
    mov %edx, 4(%edi)
    add $0x200000, %eax
    add $8, %edi
    cmp $directories + 4 * 4096, %edi
    jb 1b
    movl $directories + 0x0007, pointers
    movl $directories + 0x1007, pointers + 8
    movl $directories + 0x2007, pointers + 16
    movl $directories + 0x3007, pointers + 24
    movl $pointers + 7, root
    mov $root, %eax
    mov %eax, %cr3
    mov %cr4, %eax
    or $0x20, %eax                   # PAE
    mov %eax, %cr4
    mov $0xc0000080, %ecx            # EFER: LME, NXE
    rdmsr
    or $0x900, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80010000, %eax             # PG, WP
    mov %eax, %cr0
    lgdt gdt_pointer
    ljmp $8, $long_mode

.code64
long_mode:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    xor %eax, %eax
    mov %eax, %fs
    mov %eax, %gs
    lldt %ax
    call install_tables
    mov boot_magic, %edi
    mov boot_information, %esi
    xor %ebp, %ebp
    call main
    mov %eax, %edi
    call leave
1:  hlt
    jmp 1b

# One stub a vector; those without an error code push a zero in its place. Then struct frame, of kernel.h.
.altmacro
.macro stub vector
stub_\vector:
    .if \vector != 8 && \vector != 17 && \vector != 21 && (\vector < 10 || \vector > 14)
    push $0
    .endif
    push $\vector
    jmp common
.endm
.set i, 0
.rept 256
    stub %i
    .set i, i + 1
.endr

common:
    push %r15; push %r14; push %r13; push %r12; push %r11; push %r10; push %r9; push %r8
    push %rbp; push %rdi; push %rsi; push %rdx; push %rcx; push %rbx; push %rax
    cld
    mov %rsp, %rdi
    mov %rsp, %rbp
    and $-16, %rsp
    call on_interrupt
    mov %rbp, %rsp
    pop %rax; pop %rbx; pop %rcx; pop %rdx; pop %rsi; pop %rdi; pop %rbp
    pop %r8; pop %r9; pop %r10; pop %r11; pop %r12; pop %r13; pop %r14; pop %r15
    add $16, %rsp
    iretq

.section .rodata
.globl stubs
.balign 8
.macro address vector
    .quad stub_\vector
.endm
stubs:
.set i, 0
.rept 256
    address %i
    .set i, i + 1
.endr

.data
.balign 16
.globl gdt
gdt:
    .quad 0
    .quad 0x00af9b000000ffff         # 0x08 kernel code, 64-bit
    .quad 0x00cf93000000ffff         # 0x10 kernel data
    .quad 0x00cffb000000ffff         # 0x18 user code, 32-bit
    .quad 0x00cff3000000ffff         # 0x20 user data
    .quad 0x00affb000000ffff         # 0x28 user code, 64-bit
    .quad 0x00cf9b000000ffff         # 0x30 kernel code, 32-bit
    .quad 0, 0                       # 0x38 task state
    .quad 0x00af1b000000ffff         # 0x48 kernel code, not present
gdt_end:
.globl gdt_pointer
gdt_pointer:
    .word gdt_end - gdt - 1
    .quad gdt

.bss
.balign 4096
.globl root, pointers, directories
root: .skip 4096
pointers: .skip 4096
directories: .skip 4 * 4096
.skip 16384
.globl stack_top
stack_top:
.globl boot_magic, boot_information
boot_magic: .skip 4
boot_information: .skip 4
.section .note.GNU-stack, "", @progbits
