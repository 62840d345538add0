# Hardware task switches, 32- and 16-bit. SDM vol. 3, chapter 7. Task 2 is at `two`, its descriptor 0x60; a task gate to it is 0x68.
#include "protected.inc"
.set two, 0x3400
.set two_selector, 0x60
.set two_gate, 0x68
.set narrow, 0x3600
.set narrow_selector, 0x70
.set stack_two, 0x5000
    reset_vector
    .text
    enter_protected
    handler_code

# A fresh second task that starts at `where` in ring 0.
.macro second where
    mov $\where, %eax
    call make_second
.endm

# What is in both tasks' states and descriptors now.
.macro busy selector
    cmpb $0x8b, gdt + \selector + 5
    jne failed
.endm
.macro available selector
    cmpb $0x89, gdt + \selector + 5
    jne failed
.endm
.macro nested on
    pushf
    pop %eax
    test $0x4000, %eax
    .if \on
    jz failed
    .else
    jnz failed
    .endif
.endm

protected:
    begin 0x01                       # JMP there, and back
    second 1f
    mov $0x11, %ebx
    mov $0x22, %esi
    clts
    ljmp $two_selector, $0x12345678
    jmp 2f
1:  mov %cr0, %eax
    test $8, %al                     # TS
    jz failed
    clts
    cmp $0x1003, %ebx                # the image's
    jne failed
    cmp $stack_two, %esp
    jne failed
    str %ax
    cmp $two_selector, %ax
    jne failed
    available task
    busy two_selector
    cmpl $0x11, tss + 0x34           # EBX, ESI, ESP, CS of the one that left
    jne failed
    cmpl $0x22, tss + 0x40
    jne failed
    cmpl $stack_0, tss + 0x38
    jne failed
    cmpw $code_0, tss + 0x4c
    jne failed
    nested 0
    ljmp $task, $0
    jmp failed
2:  cmp $0x11, %ebx
    jne failed
    busy task
    available two_selector

    begin 0x02                       # through a task gate
    second 1f
    ljmp $two_gate, $0
    jmp 2f
1:  ljmp $task, $0
2:

    begin 0x03                       # CALL and IRET
    second 1f
    lcall $two_selector, $0
    jmp 2f
1:  nested 1
    cmpw $task, two
    jne failed
    busy task
    busy two_selector
    iret
    jmp 3f                           # a second call goes on here
2:  nested 0
    busy task
    available two_selector
    testl $0x4000, two + 0x24        # NT is not kept
    jnz failed
    lcall $two_gate, $0
    jmp 4f
3:  nested 1
    iret
4:

    begin 0x04                       # an interrupt and an exception through task gates
    movw $two_selector, idt + 0x32 * 8 + 2
    movl $0x8500, idt + 0x32 * 8 + 4
    second 1f
    sti
    int $0x32
2:  cli
    jmp 2f
1:  nested 1
    pushf
    pop %eax
    test $0x200, %eax                # IF is the new task's
    jnz failed
    testl $0x200, tss + 0x24
    jz failed
    cmpl $2b, tss + 0x20
    jne failed
    iret
2:  movl $two_selector << 16, idt + 13 * 8
    movl $0x8500, idt + 13 * 8 + 4
    second 1f
    mov $0x1000, %eax
3:  mov %eax, %fs                    # the fault is put right, and the instruction comes again
    jmp 2f
1:  cmp $stack_two - 4, %esp
    jne failed
    cmpl $0x1000, (%esp)             # the error code
    jne failed
    cmpl $3b, tss + 0x20
    jne failed
    testl $0x10000, tss + 0x24       # RF: it was a fault
    jz failed
    movl $0, tss + 0x28
    add $4, %esp
    iret
2:  movw $handlers + 13 * 16, idt + 13 * 8
    movw $code_0, idt + 13 * 8 + 2
    movl $0x8e00, idt + 13 * 8 + 4

    begin 0x05                       # what cannot be switched to
    second failed
    movb $0x8b, gdt + two_selector + 5
    raises 13, two_selector, ljmp $two_selector, $0
    raises 13, two_selector, lcall $two_selector, $0
    raises 13, two_selector, lcall $two_gate, $0
    raises 13, two_selector, int $0x32
    movb $0x09, gdt + two_selector + 5
    raises 11, two_selector, ljmp $two_selector, $0
    raises 11, two_selector, int $0x32
    movb $0x89, gdt + two_selector + 5
    movb $0x66, gdt + two_selector
    raises 10, two_selector, ljmp $two_selector, $0
    raises 10, two_selector, int $0x32
    movb $0x67, gdt + two_selector
    movw $data_0, gdt + two_gate + 2
    raises 13, data_0, ljmp $two_gate, $0
    movw $two_selector + 4, gdt + two_gate + 2
    raises 13, (two_selector+4), ljmp $two_gate, $0
    movw $0x1000, gdt + two_gate + 2
    raises 13, 0x1000, ljmp $two_gate, $0
    movw $two_selector, gdt + two_gate + 2
    movb $0x05, gdt + two_gate + 5
    raises 11, two_gate, ljmp $two_gate, $0
    movb $0x85, gdt + two_gate + 5
    movb $0x05, idt + 0x32 * 8 + 5
    raises 11, 0x32*8+2, int $0x32
    movb $0x85, idt + 0x32 * 8 + 5
    ring_3
    raises 13, two_selector, ljmp $two_selector, $0
    ring_3
    raises 13, two_gate, lcall $two_gate, $0
    ring_3
    raises 13, 0x32*8+2, int $0x32
    pushf                            # IRET with NT and nowhere to go
    orl $0x4000, (%esp)
    popf
    movl $0, tss
    raises 10, 0, iret
    pushf
    orl $0x4000, (%esp)
    popf
    movl $two_selector, tss          # not busy
    raises 10, two_selector, iret
    busy task
    available two_selector

.macro in_new_task number, code, where, change:vararg
    second failed
    movl $\where, two + 0x20
    \change
    movl $9f, resume
    ljmp $two_selector, $0
9:  check_event \number, \code
    cmpl $\where, eip                # of the new task
    jne failed
    str %ax
    cmp $two_selector, %ax
    jne failed
    call main_again
.endm
    begin 0x06                       # segments that cannot be loaded: faults in the new task
    in_new_task 10, 0x1000, two_ends, movw $0x1000, two + 0x48
    in_new_task 10, task, two_ends, movw $task, two + 0x54
    in_new_task 10, 0x1000, two_ends, movw $0x1000, two + 0x58
    place 0x78, 0, 0xfffff, 0xc012
    in_new_task 11, 0x78, two_ends, movw $0x78, two + 0x5c
    in_new_task 11, 0x78, two_ends, movw $0x78, two + 0x54
    in_new_task 13, 0, two_far, nop
    jmp 1f
two_ends:
    jmp failed
1:

    begin 0x07                       # the new task in ring 3
    second 1f
    movw $code_3, two + 0x4c
    movw $data_3, two + 0x50
    movw $data_3, two + 0x54
    movw $data_3, two + 0x48
    movl $stack_inner, two + 4
    movl $data_0, two + 8
    movl $2f, resume
    lcall $two_selector, $0
    jmp 3f
1:  mov %cs, %eax
    cmp $code_3, %eax
    jne failed
    int $0x30                        # to ring 0 on the stack of its own task state
2:  cmpl $stack_inner - 20, esp_was
    jne failed
    pushf
    orl $0x4000, (%esp)              # an interrupt gate cleared NT
    popf
    iret
3:

    begin 0x08                       # the debug bit: a trap before the first instruction
    second two_ends
    movw $1, two + 0x64
    mov $0xffff0ff0, %eax
    mov %eax, %dr6
    movl $1f, resume
    ljmp $two_selector, $0
1:  check_event 1, 0
    cmpl $two_ends, eip
    jne failed
    mov %dr6, %eax
    test $0x8000, %eax
    jz failed
    call main_again

    begin 0x09                       # local breakpoints go, global ones stay
    second 1f
    mov $0x75d, %eax                 # L0, L1, G1, L2, L3, LE, GE
    mov $failed, %ebx
    mov %ebx, %dr0
    mov %ebx, %dr1
    mov %ebx, %dr2
    mov %eax, %dr7
    lcall $two_selector, $0
    jmp 2f
1:  mov %dr7, %eax
    and $0xff, %eax
    cmp $0x08, %eax
    jne failed
    xor %eax, %eax
    mov %eax, %dr7
    iret
2:

    begin 0x0a                       # 16-bit tasks
    mov $narrow, %edi
    mov $0x16, %ecx
    xor %eax, %eax
    rep stosw
    movw $1f, narrow + 0x0e
    movw $2, narrow + 0x10
    movw $0x4321, narrow + 0x12
    movw $stack_two, narrow + 0x1a
    movw $data_0, narrow + 0x22
    movw $code_16, narrow + 0x24
    movw $data_0, narrow + 0x26
    movw $data_0, narrow + 0x28
    place narrow_selector, narrow, 0x2b, 0x0081
    mov $0x12345678, %ebx
    lcall $narrow_selector, $0
    jmp 2f
    .code16
1:  cmp $0x4321, %ax
    jne 3f
    mov %fs, %ax
    test %ax, %ax
    jnz 3f
    mov $0x9999, %dx
    iret
3:  ljmpl $code_0, $failed
    .code32
2:  cmp $0x12345678, %ebx
    jne failed
    cmpw $0x9999, narrow + 0x16
    jne failed
    cmpw $task, narrow
    jne failed
    cmpb $0x81, gdt + narrow_selector + 5
    jne failed
    movb $0x2a, gdt + narrow_selector
    raises 10, narrow_selector, lcall $narrow_selector, $0

    begin 0x0b                       # an LDT of its own
    movl $0x0000ffff, ldt + 8        # flat data
    movl $0x00cf9300, ldt + 12
    place 0x50, ldt, 0xf, 0x0082
    second 1f
    movw $0x50, two + 0x60
    movw $0x0c, two + 0x54
    lcall $two_selector, $0
    jmp 2f
1:  sldt %ax
    cmp $0x50, %ax
    jne failed
    mov %ds, %eax
    cmp $0x0c, %eax
    jne failed
    mov %esp, 0x700
    iret
2:  sldt %ax
    test %ax, %ax
    jnz failed

    passed

# EAX: where it starts.
make_second:
    push %eax
    push %edi
    push %ecx
    push %ds
    pop %es
    mov $two, %edi
    mov $0x1a, %ecx
    xor %eax, %eax
    rep stosl
    movl $0x1000, two + 0x28
    movl $0x1001, two + 0x2c
    movl $0x1002, two + 0x30
    movl $0x1003, two + 0x34
    movl $stack_two, two + 0x38
    movl $2, two + 0x24
    movl $data_0, two + 0x48
    movl $code_0, two + 0x4c
    movl $data_0, two + 0x50
    movl $data_0, two + 0x54
    movw $0x68, two + 0x66
    place two_selector, two, 0x67, 0x0089
    movl $two_selector << 16, gdt + two_gate
    movl $0x8500, gdt + two_gate + 4
    pop %ecx
    pop %edi
    pop %eax
    mov %eax, two + 0x20
    ret
# The main task becomes current without a switch.
main_again:
    movb $0x89, gdt + task + 5
    mov $task, %ax
    ltr %ax
    pushf
    andl $~0x4000, (%esp)
    popf
    ret
.set two_far, 0x20000
    failing
