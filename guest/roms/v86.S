# Virtual-8086 mode: SDM vol. 3, chapter 20. Segment f000 there is where the code is here, so labels are the same.
#include "protected.inc"
.set stack_v86, 0x4800
.set flags_v86, 0x20002
.set iopl_3, 0x3000
    reset_vector
    .text
    enter_protected
    handler_code

# On to the 16-bit code that follows, in V86 mode: DS, ES, SS 0.
.macro v86 flags=0
    pushl $0x5678                    # GS
    pushl $0x1234                    # FS
    pushl $0
    pushl $0
    pushl $0
    pushl $stack_v86
    pushl $flags_v86 | \flags
    pushl $0xf000
    pushl $9f
    iret
    .code16
9:
.endm
.macro v86_raises flags, number, code, instruction:vararg
    movl $none, vector
    movl $2f, resume
    v86 \flags
1:  \instruction
    hlt
    .code32
2:  check_event \number, \code
    cmpl $1b, eip
    jne failed
    testl $0x20000, flags_were
    jz failed
.endm
# HLT behind it leaves V86 mode.
.macro v86_works flags, instructions
    movl $none, vector
    movl $2f, resume
    v86 \flags
    \instructions
1:  hlt
    .code32
2:  check_event 13, 0
    cmpl $1b, eip
    jne failed
.endm

protected:
    begin 0x01                       # what the handler finds
    mov $0x77, %ebx
    v86_works 0, "inc %bx"
    cmp $0x78, %ebx
    jne failed
    mov esp_was, %eax
    cmp $stack_inner - 36, %eax
    jne failed
    cmpl $0xf000, 4(%eax)
    jne failed
    mov 8(%eax), %ecx
    and $0x23002, %ecx
    cmp $0x20002, %ecx
    jne failed
    cmpl $stack_v86, 12(%eax)
    jne failed
    cmpl $0, 16(%eax)
    jne failed
    cmpl $0x1234, 28(%eax)
    jne failed
    cmpl $0x5678, 32(%eax)
    jne failed
    mov %fs, %eax                    # registers are null in the handler
    test %eax, %eax
    jnz failed
    mov %es, %eax
    test %eax, %eax
    jnz failed

    begin 0x02                       # segments are those of an 8086
    mov $0x2000, %eax
    v86_works 0, "mov %ax, %es; movw $0x4444, %es:0x10"
    cmpw $0x4444, 0x20010
    jne failed
    mov $0xffff, %ebx
    v86_works 0, "mov (%bx), %al"
    v86_raises 0, 13, 0, mov (%bx), %ax
    v86_raises 0, 13, 0, mov %ax, (%bx)
    mov $0xffff, %ebp
    v86_raises 0, 12, 0, mov (%bp), %ax
    mov $0x10000, %ebx
    v86_raises 0, 13, 0, mov (%ebx), %al
    mov $0xfffe, %esi
    mov $0x700, %edi
    mov $4, %ecx
    v86_raises 0, 13, 0, rep movsl
    cmp $0xfffe, %esi
    jne failed
    cmp $4, %ecx
    jne failed
    v86_works 0, "mov %cs:0xfff0, %al"
    cmp $0xea, %al
    jne failed
    v86_works 0, "mov %ax, %cs:0x8000" # code may be written to as well

    begin 0x03                       # without IOPL 3
    v86_raises 0, 13, 0, cli
    v86_raises 0, 13, 0, sti
    v86_raises 0, 13, 0, pushf
    v86_raises 0, 13, 0, popf
    v86_raises 0, 13, 0, int $0x30
    v86_raises 0, 13, 0, iret
    v86_raises 0x2000, 13, 0, pushfl
    movb $0xee, idt + 3 * 8 + 5      # INT3 and INTO do not look at IOPL
    movb $0xee, idt + 4 * 8 + 5
    movl $2f, resume
    v86
    int3
1:  hlt
    .code32
2:  check_event 3, 0
    cmpl $1b, eip
    jne failed
    movl $2f, resume
    v86 0x800
    into
1:  hlt
    .code32
2:  check_event 4, 0
    cmpl $1b, eip
    jne failed

    begin 0x04                       # with IOPL 3
    v86_works iopl_3, "cli; sti; cli"
    v86_works iopl_3, "pushfw; pop %bx"
    test $0x3000, %ebx
    jz failed
    v86_works iopl_3, "pushfl; pop %ebx"
    test $0x20000, %ebx              # VM and RF are not pushed
    jnz failed
    v86_works iopl_3, "pushw $0x0202; popfw; pushfw; pop %bx; cli"
    and $0x3200, %ebx                # IF changes, IOPL does not
    cmp $0x3200, %ebx
    jne failed
    v86_works iopl_3, "pushl $0x00000002; popfl; pushfl; pop %ebx"
    test $0x3000, %ebx
    jz failed
    movl $2f, resume
    v86 iopl_3
    int $0x30
1:  hlt
    .code32
2:  check_event 0x30, 0
    cmpl $1b, eip
    jne failed
    v86_raises iopl_3, 13, 0x31*8+2, int $0x31
    movl $2f, resume
    v86 iopl_3
    pushw $0x3202                    # IRET in V86 mode
    pushw $0xf100
    pushw $3f - 0x1000
    iret
    hlt
3:  mov %cs, %bx
1:  hlt
    .code32
2:  check_event 13, 0
    cmpl $1b - 0x1000, eip
    jne failed
    cmp $0xf100, %bx
    jne failed
    testl $0x200, flags_were
    jz failed

    begin 0x05                       # privileged, and undefined
    v86_raises iopl_3, 13, 0, mov %cr0, %eax
    v86_raises iopl_3, 13, 0, mov %eax, %cr3
    v86_raises iopl_3, 13, 0, lgdt 0x700
    v86_raises iopl_3, 13, 0, lidt 0x700
    v86_raises iopl_3, 13, 0, clts
    v86_raises iopl_3, 13, 0, lmsw %ax
    v86_raises iopl_3, 13, 0, mov %dr7, %eax
    v86_raises iopl_3, 6, 0, lldt %ax
    v86_raises iopl_3, 6, 0, ltr %ax
    v86_raises iopl_3, 6, 0, sldt %ax
    v86_raises iopl_3, 6, 0, str %ax
    v86_raises iopl_3, 6, 0, lar %ax, %bx
    v86_raises iopl_3, 6, 0, lsl %ax, %bx
    v86_raises iopl_3, 6, 0, verr %ax
    v86_raises iopl_3, 6, 0, arpl %ax, %bx
    v86_works 0, "smsw %ax"
    test $1, %al
    jz failed

    begin 0x06                       # ports: the map alone decides
    v86_works 0, "in $0x10, %al"
    v86_raises 0, 13, 0, in $0x20, %al
    v86_raises iopl_3, 13, 0, in $0x20, %al
    v86_raises iopl_3, 13, 0, out %ax, $0x17
    mov $0x10, %edx
    mov $0x700, %edi
    v86_works 0, "insb"

    begin 0x07                       # handlers that are not in ring 0
    movw $conforming, idt + 0x30 * 8 + 2
    v86_raises iopl_3, 13, conforming, int $0x30
    place 0x50, 0xf0000, 0xffff, 0x40ba
    movw $0x50, idt + 0x30 * 8 + 2
    v86_raises iopl_3, 13, 0x50, int $0x30
    movw $code_0, idt + 0x30 * 8 + 2

    begin 0x08                       # from the handler back into V86 mode
    movw $returns, idt + 0x30 * 8
    movl $2f, resume
    xor %ebx, %ebx
    v86 iopl_3
    mov $0x1111, %ax
    mov %ax, %ds
    int $0x30
    mov %ds, %bx
1:  hlt
    .code32
2:  check_event 13, 0
    cmpl $1b, eip
    jne failed
    cmp $0x1111, %ebx
    jne failed
    cmpw $0x2222, 0x704              # the handler was there
    jne failed

    begin 0x09                       # far transfers
    v86_works 0, "lcall $0xf000, $far_v86"
    cmp $0x3333, %ax
    jne failed
    mov $0, %eax
    movl $2f, resume
    v86
    ljmp $0xf100, $3f - 0x1000
    hlt
3:  mov $0x4444, %ax
    hlt
    .code32
2:  cmp $0x4444, %ax
    jne failed

    begin 0x0a                       # VM in a frame counts in ring 0 alone
    ring_3
    pushl $data_3
    pushl $stack_3
    pushl $0x20002
    pushl $code_3
    pushl $1f
    iret
1:  pushf
    mov %cs, %eax
    cmp $code_3, %eax
    jne failed
    ring_0

    begin 0x0b                       # a task in V86 mode, and an exception out of it
    mov $0x3400, %edi
    push %ds
    pop %es
    mov $0x1a, %ecx
    xor %eax, %eax
    rep stosl
    movl $1f, 0x3420
    movl $0x20002, 0x3424
    movl $stack_v86, 0x3438
    movl $stack_inner, 0x3404
    movl $data_0, 0x3408
    movw $0xf000, 0x344c
    movw $0x2000, 0x3454
    movw $0x68, 0x3466
    place 0x60, 0x3400, 0x67, 0x0089
    movl $2f, resume
    movl $0xabcd, 0x20020
    ljmp $0x60, $0
    .code16
1:  mov 0x20, %bx
3:  hlt
    .code32
2:  check_event 13, 0
    cmpl $3b, eip
    jne failed
    cmp $0xabcd, %ebx
    jne failed
    testl $0x20000, flags_were
    jz failed

    passed

returns:
    push %eax
    mov $data_0, %eax
    mov %eax, %ds
    movw $0x2222, 0x704
    pop %eax
    iret
    .code16
far_v86:
    mov $0x3333, %ax
    lret
    .code32
    failing
