# Climbs through the processor's modes and back: 32-bit protected mode without paging, segments with bases and limits,
# 16-bit protected mode, two-level paging with small and large pages, PAE, long mode, compatibility mode, real mode with
# its interrupts, and "unreal" segments. Each stage checks a value that it could only get in its mode. It starts by itself,
# as it leaves the state that start.S makes. Prints PASS modes, or FAIL and the stage.
#
# A stage that fails jumps to `failed` with the stage's number in `stage`.
.set multiboot_magic, 0x1badb002
.section .multiboot, "a"
.balign 4
.long multiboot_magic, 0, -multiboot_magic

.set low, 0x8000                     # where the 16-bit code is copied to
.set alias, 0x40000000               # a linear address that paging maps to `target`
.set target, 0x600000

.macro begin number
    movl $\number, stage
.endm

.text
.code32
.globl _start
_start:
    mov $stack_end, %esp
    cld
    lgdt table_pointer
    ljmp $0x08, $1f
1:  mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov %eax, %fs
    mov %eax, %gs
    mov $0x3fb, %edx                 # serial line: eight bits
    mov $3, %al
    outb %al, %dx

    begin 1                          # a segment with a base: offset 0x10 is `words` + 0x10
    mov $words, %eax
    mov %ax, table + 0x18 + 2
    shr $16, %eax
    mov %al, table + 0x18 + 4
    mov %ah, table + 0x18 + 7
    mov $0x18, %eax
    mov %eax, %gs
    mov %gs:0x10, %eax
    cmp $0x44444444, %eax
    jne failed
    lsl %gs:selector_18 - words, %eax    # the limit, read by a selector in memory through that segment
    jnz failed
    cmp $0xfff, %eax
    jne failed
    movl $0x99, %gs:0x20
    cmpl $0x99, words + 0x20
    jne failed

    begin 2                          # 16-bit protected mode: the same bytes are other instructions
    mov $sixteen, %esi
    mov $low, %edi
    mov $sixteen_end - sixteen, %ecx
    rep movsb
    ljmp $0x20, $low + (protected_16 - sixteen)
back_from_16:
    cmp $0x5678, %eax                # the upper half stayed away from `mov $0x5678, %ax`
    jne failed

    begin 3                          # two levels, a large page
    mov $directory, %edi
    xor %eax, %eax
    mov $1024, %ecx
    rep stosl
    movl $0x000083, directory
    movl $0x400083, directory + 4
    movl $target + 0x83 - 0x200000, directory + (alias >> 22) * 4
    mov %cr4, %eax
    or $0x10, %eax                   # PSE
    mov %eax, %cr4
    mov $directory, %eax
    mov %eax, %cr3
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    movl $0x33333333, alias + 0x200010
    cmpl $0x33333333, target + 0x10
    jne failed
    mov directory + (alias >> 22) * 4, %eax
    and $0x60, %eax
    cmp $0x60, %eax                  # accessed and dirty
    jne failed

    begin 4                          # two levels, a small page
    movl $small + 7, directory + (alias >> 22) * 4
    movl $target + 0x1003, small
    movl $target + 0x2003, small + 4
    mov %cr3, %eax
    mov %eax, %cr3
    movl $0x41414141, alias + 0xffe  # over the border of two pages that lie side by side ...
    cmpl $0x41414141, target + 0x1ffe
    jne failed
    movl $target + 0x5003, small + 4
    invlpg alias + 0x1000
    movl $0x42434445, alias + 0xffe  # ... and of two that do not
    cmpw $0x4445, target + 0x1ffe
    jne failed
    cmpw $0x4243, target + 0x5000
    jne failed
    cmpl $0x42434445, alias + 0xffe
    jne failed
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0

    begin 5                          # PAE
    movl $0x000083, pae_low
    movl $0x200083, pae_low + 8
    movl $0x400083, pae_low + 16
    movl $0x600083, pae_low + 24
    movl $target + 0x83, pae_high
    movl $pae_low + 1, pae_pointers
    movl $pae_high + 1, pae_pointers + 8
    mov %cr4, %eax
    or $0x20, %eax
    mov %eax, %cr4
    mov $pae_pointers, %eax
    mov %eax, %cr3
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    movl $0x55555555, alias + 0x40
    cmpl $0x55555555, target + 0x40
    jne failed
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0

    begin 6                          # long mode, in compatibility first
    movl $long_pointers + 3, long_root
    movl $pae_low + 3, long_pointers
    movl $pae_high + 3, long_pointers + 8
    mov $long_root, %eax
    mov %eax, %cr3
    mov $0xc0000080, %ecx
    rdmsr
    or $0x100, %eax
    wrmsr
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    rdmsr
    test $0x400, %eax                # EFER.LMA
    jz failed
    mov $0x10, %eax
    .byte 0x48                       # dec %eax here, a REX prefix in 64-bit mode
    nop
    cmp $0x0f, %eax
    jne failed
    ljmp $0x28, $in_64
.code64
in_64:
    mov $0x123456789abcdef0, %rax
    mov %rax, %r9
    shr $32, %r9
    cmp $0x12345678, %r9
    jne failed_64
    mov $alias, %r8d
    movq %rax, 0x80(%r8)
    lea target(%rip), %rbx           # an absolute symbol, by way of rip
    mov $target, %ebx
    cmp %rax, 0x80(%rbx)
    jne failed_64
    ljmp *to_compatibility(%rip)
failed_64:
    ljmp *to_failed(%rip)
.code32
in_compatibility:
    cmpl $0x9abcdef0, target + 0x80
    jne failed

    begin 7                          # and out of long mode
    mov %cr0, %eax
    and $0x7fffffff, %eax
    mov %eax, %cr0
    rdmsr
    test $0x400, %eax
    jnz failed
    and $~0x100, %eax
    wrmsr
    mov %cr4, %eax
    and $~0x30, %eax
    mov %eax, %cr4

    begin 8                          # real mode, see to_real
    lidt real_idt
    ljmp $0x20, $low + (to_real - sixteen)
stage_8_done:
    mov $0x10, %eax
    mov %eax, %ds
    mov %eax, %es
    mov %eax, %ss
    mov $stack_end, %esp
    cmpl $0x77, target + 0x100       # written through an "unreal" segment
    jne failed
    cmpw $0xbeef, 0x20010            # 0x2000:0x0010
    jne failed
    cmpw $0xcafe, 0x100010           # 0xffff:0x0020
    jne failed
    cmpl $3, interrupts              # INT 0x40, INT3, and the division's
    jne failed
    mov $passed_text, %esi
    mov $0x10, %ebx
    jmp finish

failed:
    mov stage, %eax
    add $'0', %al
    mov %al, failed_stage
    mov $failed_text, %esi
    mov $0x11, %ebx
finish:
    mov $0x3f8, %edx
1:  lodsb
    test %al, %al
    jz 3f
    mov %al, %cl
    mov $0x3fd, %edx
2:  inb %dx, %al
    test $0x20, %al
    jz 2b
    mov $0x3f8, %edx
    mov %cl, %al
    outb %al, %dx
    jmp 1b
3:  mov %ebx, %eax
    outl %eax, $0xf4
4:  cli
    hlt
    jmp 4b

# Runs at `low`, copied there: offsets are relative to `sixteen`.
.code16
sixteen:
protected_16:
    xor %eax, %eax
    mov $0x5678, %ax
    ljmpl $0x08, $back_from_16

to_real:
    mov $0x30, %ax                   # 64 KiB segments, as real mode has them; FS stays at 4 GiB
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov %ax, %gs
    mov %cr0, %eax
    and $~1, %al
    mov %eax, %cr0
    ljmp $low >> 4, $real - sixteen
real:
    xor %ax, %ax
    mov %ax, %ss
    mov $0x7000, %sp
    mov %ax, %ds
    mov $target + 0x100, %ebx
    movl $0x77, %fs:(%ebx)           # FS keeps its 4 GiB
    mov $interrupts, %ebx
    movw $handler - sixteen, 0x40 * 4
    movw $low >> 4, 0x40 * 4 + 2
    movw $handler - sixteen, 3 * 4
    movw $low >> 4, 3 * 4 + 2
    movw $divided - sixteen, 0
    movw $low >> 4, 2
    mov $0x2000, %ax
    mov %ax, %es
    movw $0xbeef, %es:0x10
    mov $0xffff, %ax
    mov %ax, %es
    movw $0xcafe, %es:0x20           # A20 is open
    stc
    int $0x40
    jnc 1f                           # IRET brought carry back
    int3
    xor %dx, %dx
    mov $1, %ax
    xor %cx, %cx
    div %cx
    nop
1:  mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    ljmpl $0x08, $stage_8_done
handler:
    clc
    incl %fs:(%ebx)
    iret
divided:
    incl %fs:(%ebx)
    push %bp
    mov %sp, %bp
    addw $2, 2(%bp)                  # over the two bytes of div
    pop %bp
    iret
sixteen_end:

.section .rodata
passed_text: .asciz "PASS modes\r\n"
to_compatibility: .long in_compatibility
    .word 0x08
to_failed: .long failed
    .word 0x08
table_pointer:
    .word table_end - table - 1
    .long table
real_idt:
    .word 0x3ff
    .long 0

.data
failed_text: .ascii "FAIL modes: stage "
failed_stage: .asciz "?\r\n"
.balign 8
table:
    .quad 0
    .quad 0x00cf9b000000ffff         # 0x08 code, 32-bit
    .quad 0x00cf93000000ffff         # 0x10 data
    .quad 0x0040930000000fff         # 0x18 data, 4 KiB from `words` on
    .quad 0x00009b000000ffff         # 0x20 code, 16-bit
    .quad 0x00af9b000000ffff         # 0x28 code, 64-bit
    .quad 0x000093000000ffff         # 0x30 data, 64 KiB
table_end:
words: .long 0, 0, 0, 0, 0x44444444, 0, 0, 0, 0
selector_18: .word 0x18
stage: .long 0
interrupts: .long 0

.bss
.balign 4096
directory: .skip 4096
small: .skip 4096
pae_low: .skip 4096
pae_high: .skip 4096
pae_pointers: .skip 4096
long_root: .skip 4096
long_pointers: .skip 4096
.skip 4096
stack_end:
.section .note.GNU-stack, "", @progbits
