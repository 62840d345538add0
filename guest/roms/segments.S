# 32-bit protected mode without paging: segment limits and types, gates, privilege changes.
#include "protected.inc"
.set task2, 0x3100
.set task2_selector, 0x60
    reset_vector
    .text
    enter_protected
    handler_code

protected:
    begin 0x01                       # limits of a data segment
    place 0x40, 0x20000, 0xfff, 0x4092
    mov $0x40, %eax
    mov %eax, %fs
    works movb $1, %fs:0xfff
    works movl $1, %fs:0xffc
    raises 13, 0, movb $1, %fs:0x1000
    raises 13, 0, movw $1, %fs:0xfff
    raises 13, 0, mov %fs:0xffd, %eax
    raises 13, 0, incl %fs:0xffe
    raises 13, 0, mov %fs:0xffffffff, %eax
    testb $1, gdt + 0x45             # loading it has marked it accessed
    jz failed
    mov $0x40, %eax
    mov %eax, %ss                    # the same as a stack
    mov $0x800, %esp
    raises 12, 0, movb $1, %ss:0x1000
    mov $0x40, %eax
    mov %eax, %ss
    mov $0x800, %esp
    mov $0x1000, %ebp
    raises 12, 0, mov (%ebp), %al
    mov $0x40, %eax
    mov %eax, %ss
    mov $0x1000, %esp
    works push %eax
    mov $data_0, %eax
    mov %eax, %ss
    mov $stack_0, %esp

    begin 0x02                       # segments that expand down: all but [0, limit]
    place 0x40, 0x20000, 0xfff, 0x4096
    mov $0x40, %eax
    mov %eax, %fs
    works movb $1, %fs:0x1000
    works movb $1, %fs:0x10000
    raises 13, 0, movb $1, %fs:0xfff
    raises 13, 0, movw $1, %fs:0xfff
    place 0x40, 0x20000, 0xfff, 0x0096
    mov $0x40, %eax
    mov %eax, %fs
    works movb $1, %fs:0xffff
    raises 13, 0, movb $1, %fs:0x10000
    raises 13, 0, movw $1, %fs:0xffff

    begin 0x03                       # what a type allows
    place 0x40, 0x20000, 0xfff, 0x4090
    mov $0x40, %eax
    mov %eax, %fs
    works mov %fs:0, %eax
    raises 13, 0, mov %eax, %fs:0
    raises 13, 0, xaddl %eax, %fs:0
    raises 13, 0, mov %eax, %cs:0
    xor %eax, %eax
    mov %eax, %fs
    raises 13, 0, mov %fs:0, %eax
    place 0x40, 0xf0000, 0xffff, 0x4098 # code that may not be read
    mov $0x40, %eax
    raises 13, 0x40, mov %eax, %fs

    begin 0x04                       # loading registers
    mov $0x1000, %eax
    raises 13, 0x1000, mov %eax, %fs
    mov $0x1003, %eax
    raises 13, 0x1000, mov %eax, %fs
    mov $0x4, %eax                   # there is no LDT
    raises 13, 0x4, mov %eax, %fs
    mov $task, %eax
    raises 13, task, mov %eax, %fs
    place 0x40, 0x20000, 0xfff, 0x4012
    mov $0x40, %eax
    raises 11, 0x40, mov %eax, %fs
    raises 12, 0x40, mov %eax, %ss
    xor %eax, %eax
    raises 13, 0, mov %eax, %ss
    mov $data_3, %eax
    raises 13, (data_3&~3), mov %eax, %ss
    mov $data_0 + 1, %eax
    raises 13, data_0, mov %eax, %ss
    place 0x40, 0x20000, 0xfff, 0x4090
    mov $0x40, %eax
    raises 13, 0x40, mov %eax, %ss
    mov $code_0, %eax
    raises 13, code_0, mov %eax, %ss
    raises 6, 0, .byte 0x8e, 0xc8    # MOV to CS
    mov $data_0 + 3, %eax            # the RPL counts
    place 0x40, 0x20000, 0xfff, 0x40b2 # DPL 1
    mov $0x43, %eax
    raises 13, 0x40, mov %eax, %fs
    mov $0x41, %eax
    works mov %eax, %fs
    mov %fs, %eax
    cmp $0x41, %eax
    jne failed
    pushl $0x1000                    # by POP, LFS
    raises 13, 0x1000, pop %fs
    movl $0x12345678, 0x700
    movw $0x1000, 0x704
    mov $7, %ebx
    raises 13, 0x1000, lfs 0x700, %ebx
    cmp $7, %ebx
    jne failed
    movw $data_0, 0x704
    works lfs 0x700, %ebx
    cmp $0x12345678, %ebx
    jne failed

    begin 0x05                       # far jumps
    raises 13, data_0, ljmp $data_0, $0
    raises 13, 0, ljmp $0, $0
    raises 13, 0, ljmp $3, $0
    raises 13, 0x1000, ljmp $0x1000, $0
    raises 13, (code_3&~3), ljmp $code_3, $0
    raises 13, (code_3&~3), ljmp $code_3 & ~3, $0
    raises 13, 0, ljmp $code_0, $0x10000
    raises 13, 0, jmp . + 0x20000
    place 0x40, 0xf0000, 0xffff, 0x401a
    raises 11, 0x40, ljmp $0x40, $0
    raises 11, 0x40, lcall $0x40, $0
    ljmp $conforming, $1f
1:  ljmp $code_0, $1f
1:  ljmp $code_16, $2f
    .code16
2:  ljmpl $code_0, $1f
    .code32
1:

    begin 0x06                       # LAR, LSL, VERR, VERW
    place 0x40, 0x20000, 0x12345, 0xc0b2
    mov $0x40, %eax
    xor %ebx, %ebx
    lar %eax, %ebx
    jnz failed
    and $0x00f0ff00, %ebx            # bits 16 to 19 may be anything
    cmp $0x00c0b200, %ebx
    jne failed
    lsl %eax, %ebx
    jnz failed
    cmp $0x12345fff, %ebx
    jne failed
    verr %ax
    jnz failed
    verw %ax
    jnz failed
    mov $0x42, %eax                  # RPL 2, DPL 1
    verr %ax
    jz failed
    mov $0x55, %ebx
    lar %eax, %ebx
    jz failed
    cmp $0x55, %ebx
    jne failed
    mov $code_0, %eax
    verr %ax
    jnz failed
    verw %ax
    jz failed
    mov $task, %eax
    verr %ax
    jz failed
    lar %eax, %ebx
    jnz failed
    cmp $0x8b00, %ebx                # busy since LTR
    jne failed
    lsl %eax, %ebx
    jnz failed
    cmp $0x78, %ebx
    jne failed
    xor %eax, %eax
    lar %eax, %ebx
    jz failed
    mov $0x1000, %eax
    lsl %eax, %ebx
    jz failed
    place 0x40, 0x20000, 0, 0x008c   # a call gate has rights and no limit
    mov $0x40, %eax
    lar %eax, %ebx
    jnz failed
    lsl %eax, %ebx
    jz failed
    place 0x40, 0x20000, 0, 0x008e   # an interrupt gate has neither
    lar %eax, %ebx
    jz failed

    begin 0x07                       # ARPL
    mov $0x1000, %eax
    mov $0x0003, %ebx
    arpl %bx, %ax
    jnz failed
    cmp $0x1003, %eax
    jne failed
    mov $0x0002, %ebx
    arpl %bx, %ax
    jz failed
    cmp $0x1003, %eax
    jne failed

    begin 0x08                       # ring 3: what it may not do
    ring_3
    raises 13, 0, cli
    ring_3
    raises 13, 0, hlt
    ring_3
    raises 13, 0, mov %cr0, %eax
    ring_3
    raises 13, 0, lgdt 0
    ring_3
    raises 13, 0, ltr %ax
    ring_3
    raises 13, 0, clts
    ring_3
    raises 13, 0, wbinvd
    ring_3
    mov $data_0, %eax
    raises 13, data_0, mov %eax, %fs
    ring_3
    raises 13, 0x31*8+2, int $0x31
    ring_3
    raises 13, code_0, ljmp $code_0, $0
    ring_3
    raises 13, code_0, lcall $code_0, $0
    ring_3
    smsw %ax
    sgdt 0x700
    sldt %ax
    str %ax
    cmp $task, %ax
    jne failed
    pushf
    orl $0x3200, (%esp)              # IF and IOPL stay as they are
    popf
    pushf
    pop %ebx
    test $0x3200, %ebx
    jnz failed
    ring_0

    begin 0x09                       # ring 3 and ports
    ring_3
    works in $0x10, %al
    works in $0x14, %eax
    raises 13, 0, in $0x0f, %al
    ring_3
    raises 13, 0, in $0x17, %ax      # half of it is forbidden
    ring_3
    raises 13, 0, out %al, $0x80
    ring_3
    mov $0x88, %dx                   # past the map's end
    raises 13, 0, in (%dx), %al
    ring_3 0x3002
    works cli
    mov $0x80, %al
    works out %al, $0x80
    pushf
    orl $0x200, (%esp)
    popf
    pushf
    pop %ebx
    cli
    test $0x200, %ebx
    jz failed
    ring_0

    begin 0x0a                       # a call gate to ring 0 takes parameters along
    place_gate gdt, 0x48, from_ring_3, 0xec02
    ring_3
    pushl $0x1111
    pushl $0x2222
    mov $none, %eax
    lcall $0x48, $0x12345678
    cmp $0x77, %eax                  # it has been there
    jne failed
    cmp $stack_3, %esp               # the parameters are gone
    jne failed
    mov %cs, %eax
    cmp $code_3, %eax
    jne failed
    mov %fs, %eax                    # a register for ring 0 did not come back
    test %eax, %eax
    jnz failed
    ring_0

    begin 0x0b                       # a 16-bit gate moves words
    place_gate gdt, 0x48, from_ring_3_narrow, 0xe402
    movw $code_16, gdt + 0x4a
    ring_3
    pushw $0x1111
    pushw $0x2222
    lcall $0x48, $0
    cmp $0x78, %eax
    jne failed
    cmp $stack_3, %sp
    jne failed
    ring_0

    begin 0x0c                       # gates that refuse
    place_gate gdt, 0x48, from_ring_3, 0x8c00
    ring_3
    raises 13, 0x48, lcall $0x48, $0
    place_gate gdt, 0x48, from_ring_3, 0x6c00
    ring_3
    raises 11, 0x48, lcall $0x48, $0
    place_gate gdt, 0x48, from_ring_3, 0xec00
    movw $0, gdt + 0x4a              # names nothing
    ring_3
    raises 13, 0, lcall $0x48, $0
    movw $data_0, gdt + 0x4a         # names data
    ring_3
    raises 13, data_0, lcall $0x48, $0
    movw $code_0, gdt + 0x4a
    ring_3
    raises 13, code_0, ljmp $0x48, $0 # a jump may not change privilege
    place_gate gdt, 0x48, 0, 0xec00
    movl $0x0001ec00, gdt + 0x4c     # past the end of the code
    ring_3
    raises 13, 0, lcall $0x48, $0

    begin 0x0d                       # the inner stack is no good: ring 1, so that ring 0 can tell
    place 0x50, 0xf0000, 0xffff, 0x40ba
    place 0x58, 0, 0xfffff, 0xc0b2
    place_gate gdt, 0x48, from_ring_3, 0xec00
    movw $0x50, gdt + 0x4a
    movl $stack_1, tss + 0x0c
    movl $0x58, tss + 0x10           # RPL 0
    ring_3
    raises 10, 0x58, lcall $0x48, $0
    movl $data_0, tss + 0x10
    ring_3
    raises 10, data_0, lcall $0x48, $0
    movl $0, tss + 0x10
    ring_3
    raises 10, 0, lcall $0x48, $0
    movl $0x1001, tss + 0x10
    ring_3
    raises 10, 0x1000, lcall $0x48, $0
    movl $0x59, tss + 0x10
    place 0x58, 0, 0xfffff, 0xc032   # not there
    ring_3
    raises 12, 0x58, lcall $0x48, $0
    place 0x58, 0, 0x100, 0x40b2     # too small
    ring_3
    raises 12, 0x58, lcall $0x48, $0
    place 0x58, 0, 0xfffff, 0xc0b2
    movl $ring_1_code, gdt + 0x48
    movw $0x50, gdt + 0x4a
    ring_3
    lcall $0x48, $0                  # and now it works
    cmp $0x51, %eax
    jne failed
    ring_0

    begin 0x0e                       # interrupts from ring 3: the frame
    ring_3 0x3003
    movl $1f, resume
    int $0x30
1:  cmpl $1b, eip
    jne failed
    cmpl $code_3, cs_was
    jne failed
    cmpl $0x3003, flags_were
    jne failed
    mov esp_was, %eax
    cmpl $stack_inner - 20, %eax
    jne failed
    cmpl $stack_3, 12(%eax)
    jne failed
    cmpl $data_3, 16(%eax)
    jne failed

    begin 0x0f                       # gates of the interrupt table
    movb $0x0e, idt + 0x31 * 8 + 5
    raises 11, 0x31*8+2, int $0x31
    movb $0x8c, idt + 0x31 * 8 + 5
    raises 13, 0x31*8+2, int $0x31
    raises 13, 0x40*8+2, int $0x40
    movb $0x8e, idt + 0x31 * 8 + 5
    movw $data_0, idt + 0x31*8+2
    raises 13, data_0, int $0x31
    movw $0, idt + 0x31*8+2
    raises 13, 0, int $0x31
    movw $code_0, idt + 0x31*8+2
    sti                              # a trap gate keeps IF, an interrupt gate does not
    movl $1f, resume
    int $0x31
1:  pushf
    pop %eax
    test $0x200, %eax
    jnz failed
    movb $0x8f, idt + 0x31 * 8 + 5
    sti
    movl $1f, resume
    int $0x31
1:  pushf
    pop %eax
    cli
    test $0x200, %eax
    jz failed
    place_gate idt, 0x31*8, narrow_handler, 0x8600
    movw $code_16, idt + 0x31*8+2
    mov $stack_0, %esp
    int $0x31                        # a 16-bit gate pushes words
    cmp $0x79, %eax
    jne failed
    cmp $stack_0, %esp
    jne failed
    movb $0x0e, idt + 13 * 8 + 5     # a fault on the way to another: double fault
    movl $1f, resume
    mov $0x1000, %eax
2:  mov %eax, %fs
    jmp failed
1:  check_event 8, 0
    cmpl $2b, eip
    jne failed
    movb $0x8e, idt + 13 * 8 + 5

    begin 0x10                       # returns
    pushl $data_3
    pushl $stack_3
    pushl $2
    pushl $code_3
    pushl $0x10000                   # past the end
    mov %esp, %edx
    raises 13, 0, iret
    pushl $data_0                    # a stack of ring 0 for ring 3
    pushl $stack_3
    pushl $2
    pushl $code_3
    pushl $failed
    raises 13, data_0, iret
    pushl $0
    pushl $stack_3
    pushl $2
    pushl $code_3
    pushl $failed
    raises 13, 0, iret
    pushl $2
    pushl $data_0
    pushl $failed
    raises 13, data_0, iret
    pushl $0
    pushl $failed
    raises 13, 0, lret
    pushl $0x1000
    pushl $failed
    raises 13, 0x1000, lret
    ring_3
    pushl $code_0
    pushl $failed
    raises 13, code_0, lret          # not inwards
    pushl $data_3                    # RETF outwards releases on both stacks
    pushl $stack_3 - 8
    pushl $0x1111
    pushl $0x2222
    pushl $code_3
    pushl $1f
    lret $8
1:  cmp $stack_3, %esp
    jne failed
    mov $data_3, %eax
    mov %eax, %ds
    ring_0

    begin 0x11                       # conforming code runs with the caller's privilege
    ring_3
    lcall $conforming, $conforming_code
    cmp $conforming | 3, %eax
    jne failed
    ring_0

    begin 0x12                       # strings up to a limit
    place 0x40, 0x20000, 0xffb, 0x4092
    mov $0x40, %eax
    mov %eax, %es
    mov $0xff0, %edi
    mov $8, %ecx
    mov $0x12345678, %eax
    raises 13, 0, rep stosl
    cmp $0xffc, %edi
    jne failed
    cmp $5, %ecx
    jne failed
    mov $0x700, %esi
    mov $0xff8, %edi
    mov $2, %ecx
    raises 13, 0, rep movsl
    cmp $0x704, %esi
    jne failed
    cmp $0xffc, %edi
    jne failed
    cmp $1, %ecx
    jne failed
    mov $0xff9, %edi
    std
    mov $1, %ecx
    raises 13, 0, rep stosl
    cld
    mov $0x40, %eax
    mov %eax, %fs
    mov $0xffc, %esi
    raises 13, 0, lodsl %fs:(%esi), %eax
    mov $0x10004, %edi               # 16-bit addresses in 32-bit code
    mov $0x10003, %ecx
    addr16 rep stosb
    cmp $0x10007, %edi
    jne failed
    cmp $0x10000, %ecx
    jne failed
    mov $data_0, %eax
    mov %eax, %es

    begin 0x13                       # little room on the stack: nothing has happened
    place 0x40, 0x20000, 0xfff, 0x4096
    mov $0x40, %eax
    mov %eax, %ss
    mov $0x1010, %esp
    mov $0x99, %ebp
    movw $task2_selector, idt + 12 * 8 + 2 # SS: by a task of its own, as there is no room for a frame
    movl $((0x8500) | 0), idt + 12 * 8 + 4
    mov $task2, %edi
    place task2_selector, task2, 0x67, 0x0089
    movl $1f, task2 + 0x20
    movl $2, task2 + 0x24
    movl $stack_inner, task2 + 0x38
    movl $data_0, task2 + 0x48
    movl $code_0, task2 + 0x4c
    movl $data_0, task2 + 0x50
    movl $data_0, task2 + 0x54
    pusha
    jmp failed
1:  cmpl $0x1010, tss + 0x38         # the old task's registers
    jne failed
    cmpl $0x99, tss + 0x3c
    jne failed
    cmpl $0x40, tss + 0x50
    jne failed
    cmpl $0, (%esp)                  # the error code
    jne failed

    begin 0x14                       # BOUND, INTO, DIV
    movl $-5, 0x700
    movl $5, 0x704
    mov $6, %eax
    clts
    raises 5, 0, bound %eax, 0x700
    mov $5, %eax
    works bound %eax, 0x700
    xor %ecx, %ecx
    raises 0, 0, div %ecx
    mov $0x80000000, %eax
    cdq
    mov $-1, %ecx
    raises 0, 0, idiv %ecx
    raises 6, 0, ud2

    passed

from_ring_3:
    cmpl $0x2222, 8(%esp)
    jne failed
    cmpl $0x1111, 12(%esp)
    jne failed
    cmpl $code_3, 4(%esp)
    jne failed
    cmpl $stack_3 - 8, 16(%esp)
    jne failed
    cmpl $data_3, 20(%esp)
    jne failed
    cmp $stack_inner - 24, %esp
    jne failed
    mov %ss, %eax
    cmp $data_0, %eax
    jne failed
    mov %eax, %fs
    mov $0x77, %eax
    lret $8

ring_1_code:
    mov %cs, %eax
    lret
conforming_code:
    mov %cs, %eax
    lret

    .code16
narrow_handler:
    cmpw $code_0, %ss:2(%esp)
    jne 1f
    mov $0x79, %eax
    iretw
1:  ljmpl $code_0, $failed
from_ring_3_narrow:
    cmpw $0x2222, %ss:4(%esp)
    jne 1f
    cmpw $0x1111, %ss:6(%esp)
    jne 1f
    cmpw $code_3, %ss:2(%esp)
    jne 1f
    cmpw $stack_3 - 4, %ss:8(%esp)
    jne 1f
    cmpw $data_3, %ss:10(%esp)
    jne 1f
    mov $0x78, %eax
    lretw $4
1:  ljmpl $code_0, $failed
    .code32
    failing
