# Real mode: segment limits, the interrupt table's limit, what is undefined there, flags, "unreal" segments, strings.
# Bochs passes; QEMU's translator checks no limits.
#include "rom.inc"
    reset_vector
    .text
    .code16

.set vector, 0x600                   # of the last interrupt; 0xff: none
.set came_from, 0x602                # its return address
.set resume, 0x604                   # where to go on
.set flags_were, 0x608
.set table, 0x1000                   # copies of what must be in RAM

handlers:
.set n, 0
.rept 0x50
    push $n
    jmp handle
    .balign 8
.set n, n + 1
.endr
handle:                              # DS may be anything
    push %ax
    push %ds
    xor %ax, %ax
    mov %ax, %ds
    push %bp
    mov %sp, %bp
    mov 6(%bp), %ax
    mov %al, vector
    mov 8(%bp), %ax
    mov %ax, came_from
    mov 12(%bp), %ax
    mov %ax, flags_were
    mov resume, %ax
    mov %ax, 8(%bp)
    andw $0xfeff, 12(%bp)            # steps once
    movw $0xf000, 10(%bp)            # a test may have been elsewhere
    pop %bp
    pop %ds
    pop %ax
    add $2, %sp
    iret

.macro raises number, instruction:vararg
    movb $0xff, %ss:vector
    movw $2f, %ss:resume
1:  \instruction
    jmp failed
2:  cmpb $\number, %ss:vector
    jne failed
    cmpw $1b, %ss:came_from          # faults leave IP at the instruction
    jne failed
.endm

# Traps: IP is behind the instruction.
.macro traps number, instruction:vararg
    movb $0xff, %ss:vector
    movw $2f, %ss:resume
    \instruction
1:  jmp failed
2:  cmpb $\number, %ss:vector
    jne failed
    cmpw $1b, %ss:came_from
    jne failed
.endm

.macro works instruction:vararg
    movb $0xff, %ss:vector
    movw $failed, %ss:resume
    \instruction
.endm

start:
    cli
    cld
    xor %ax, %ax
    mov %ax, %ds
    mov %ax, %es
    mov %ax, %ss
    mov $0x7000, %sp
    xor %bx, %bx                     # the interrupt table
    mov $handlers, %ax
1:  mov %ax, (%bx)
    movw $0xf000, 2(%bx)
    add $8, %ax
    add $4, %bx
    cmp $0x50 * 4, %bx
    jb 1b

    begin 0x01                        # words and doublewords over the end of a segment
    mov $0xffff, %bx
    works mov (%bx), %al
    raises 13, mov (%bx), %ax
    raises 13, mov %ax, (%bx)
    raises 13, addw $1, (%bx)
    raises 13, xchg %ax, (%bx)
    mov $0xfffd, %bx
    raises 13, mov (%bx), %eax
    raises 13, mov %eax, (%bx)
    works mov (%bx), %ax
    mov $0xfff9, %bx
    raises 13, fldl (%bx)
    raises 13, lgdtl 2(%bx)
    raises 13, bound %ax, 4(%bx)

    begin 0x02                        # the same through SS
    mov $0xffff, %bp
    works mov (%bp), %al
    raises 12, mov (%bp), %ax
    raises 12, mov %ax, (%bp)
    raises 12, mov %ss:0xffff, %ax

    begin 0x03                        # 32-bit addresses past the end
    mov $0x10000, %ebx
    raises 13, mov (%ebx), %al
    mov $0xffff0000, %ebx
    raises 13, mov %al, (%ebx)
    mov $0x10000, %ebp
    raises 12, mov (%ebp), %al
    works mov 0x10(%bx), %al         # 16-bit addresses wrap instead
    mov $0x8000, %ebx
    mov $0x8000, %esi
    works mov (%bx, %si), %al

    begin 0x04                        # code: a jump past the end, by its 32-bit form
    mov $0x10000, %eax
    raises 13, jmp *%eax
    raises 13, call *%eax

    begin 0x05                        # code: an instruction over the end of its segment
    mov $0x2000, %ax                 # ... a copy in RAM at 2000:fffe
    mov %ax, %es
    movw $0xb890, %es:0xfffe         # nop; mov $imm, %ax cut off
    movb $0xff, vector
    movw $2f, resume
    ljmp $0x2000, $0xfffe
2:  cmpb $13, vector
    jne failed
    cmpw $0xffff, came_from
    jne failed

    begin 0x06                        # the interrupt table has a limit
    movw $0x40 * 4 - 1, table
    movl $0, table + 2
    lidt table
    traps 0x3f, int $0x3f
    raises 13, int $0x40
    movw $0x3ff, table
    lidt table
    traps 0x40, int $0x40

    begin 0x07                        # strings stop where the element is that crosses, with what was done done
    xor %ax, %ax
    mov %ax, %es
    mov $0xfffb, %si
    mov $0x3000, %di
    mov $8, %cx
    raises 13, rep movsw
    cmp $0xffff, %si
    jne failed
    cmp $0x3004, %di
    jne failed
    cmp $6, %cx
    jne failed
    mov $0xfffd, %di
    mov $0x3000, %si
    mov $8, %cx
    raises 13, rep movsw
    cmp $0xffff, %di
    jne failed
    cmp $7, %cx
    jne failed
    mov $0xffff, %di
    mov $3, %cx
    raises 13, rep stosw
    cmp $3, %cx
    jne failed
    mov $0xffff, %si
    raises 13, lodsw
    raises 13, cmpsw
    mov $0xffff, %di
    raises 13, scasw
    mov $0xffff, %di                 # bytes go round
    mov $2, %cx
    movw $0x1122, table
    movb $0, %es:0
    mov $table, %si
    mov 0, %bl
    works rep movsb
    cmp $1, %di
    jne failed
    cmpb $0x11, %es:0
    jne failed
    movb $0x22, %al
    cmpb %al, %es:0xffff
    jne failed
    mov %bl, 0
    mov $handlers, %ax               # vector 0 again
    mov %ax, 0

    begin 0x08                        # the stack goes round at 0, not over the end
    mov %sp, %bx
    mov $0, %sp
    push %ax
    cmp $0xfffe, %sp
    jne failed
    pop %ax
    cmp $0, %sp
    jne failed
    mov %bx, %sp

    begin 0x09                        # ENTER, LEAVE
    mov $0x1234, %bp
    mov %sp, %bx
    enter $6, $0
    lea 2(%bp), %ax
    cmp %ax, %bx
    jne failed
    lea 6, %ax
    add %sp, %ax
    cmp %ax, %bp
    jne failed
    cmpw $0x1234, (%bp)
    jne failed
    leave
    cmp $0x1234, %bp
    jne failed
    cmp %bx, %sp
    jne failed
    mov $0x6800, %bp                 # levels copy the display
    movw $0xaaaa, 0x67fe
    movw $0xbbbb, 0x67fc
    enter $4, $3
    cmpw $0xaaaa, -2(%bp)
    jne failed
    cmpw $0xbbbb, -4(%bp)
    jne failed
    cmp %bp, -6(%bp)
    jne failed
    mov %bp, %ax
    sub $10, %ax
    cmp %ax, %sp
    jne failed
    leave
    cmp %bx, %sp
    jne failed

    begin 0x0a                        # undefined here: what asks about selectors
    raises 6, lar %ax, %bx
    raises 6, lsl %ax, %bx
    raises 6, verr %ax
    raises 6, verw %ax
    raises 6, sldt %ax
    raises 6, str %ax
    raises 6, lldt %ax
    raises 6, ltr %ax
    raises 6, arpl %ax, %bx
    raises 6, .byte 0xf0, 0x90
    raises 6, .byte 0xf0, 0x89, 0xc3            # LOCK MOV
    raises 6, ud2
    raises 6, .byte 0xc4, 0xc0       # LES of a register

    begin 0x0b                        # 16 bytes are too long for an instruction
    raises 13, .fill 15, 1, 0x2e; nop

    begin 0x10                        # exceptions that instructions ask for
    mov $1, %ax
    xor %dx, %dx
    xor %bx, %bx
    raises 0, div %bx
    raises 0, idiv %bl
    mov $2, %dx
    mov $2, %bx
    raises 0, div %bx
    mov $0x8000, %ax
    mov $0xffff, %dx                 # -32768 / -1 ...
    mov $0xffff, %bx
    raises 0, idiv %bx
    mov $0xff80, %ax
    mov $1, %bl                      # -128 / 1 fits
    works idiv %bl
    cmp $0x0080, %ax
    jne failed
    mov $0, %al
    raises 0, aam $0
    traps 3, int3
    mov $0x7f, %al
    add $1, %al
    traps 4, into
    xor %al, %al
    works into
    movw $-5, table
    movw $5, table + 2
    mov $6, %ax
    raises 5, bound %ax, table
    mov $-6, %ax
    raises 5, bound %ax, table
    mov $5, %ax
    works bound %ax, table
    mov $-5, %ax
    works bound %ax, table

    begin 0x11                       # single step: behind the instruction after the one that set TF
    movb $0xff, vector
    movw $2f, resume
    pushf
    mov %sp, %bx
    orw $0x100, (%bx)
    popf
    nop
1:  jmp failed
2:  cmpb $1, vector
    jne failed
    cmpw $1b, came_from
    jne failed
    movb $0xff, vector               # none behind what loads SS
    movw $2f, resume
    pushf
    orw $0x100, (%bx)
    mov %ss, %ax
    popf
    mov %ax, %ss
    nop
1:  jmp failed
2:  cmpw $1b, came_from
    jne failed

    begin 0x12                        # flags in the frame, and IF, TF gone in the handler
    sti
    nop
    traps 0x30, int $0x30
    cli
    testw $0x200, flags_were
    jz failed

    begin 0x13                        # LDS and the like, and far calls
    movw $0x1234, table
    movw $0x2345, table + 2
    les table, %bx
    mov %es, %ax
    cmp $0x2345, %ax
    jne failed
    cmp $0x1234, %bx
    jne failed
    mov $0xfffd, %bx
    raises 13, les (%bx), %dx
    lcall $0xf000, $far_away
    cmp $0x77, %al
    jne failed
    movw $far_away, table
    movw $0xf000, table + 2
    mov $0, %al
    lcall *table
    cmp $0x77, %al
    jne failed

    begin 0x14                        # unreal mode: limits stay when PE goes
    mov $descriptors_end - descriptors, %cx
    mov $descriptors, %si
    mov $table + 0x10, %di
    xor %ax, %ax
    mov %ax, %es
    rep movsb %cs:(%si), %es:(%di)
    movw $descriptors_end - descriptors - 1, table
    movl $table + 0x10, table + 2
    lgdt table
    mov %cr0, %eax
    or $1, %al
    mov %eax, %cr0
    mov $8, %bx
    mov %bx, %fs
    mov $0x10, %bx
    mov %bx, %gs
    and $0xfe, %al
    mov %eax, %cr0
    movl $0x100000, %ebx
    movl $0xfeedface, %eax
    works mov %eax, %fs:(%ebx)
    mov $0xffff, %ax                 # the same place by ffff:0010
    mov %ax, %es
    cmpl $0xfeedface, %es:0x10
    jne failed
    xor %ax, %ax
    mov %ax, %fs                     # a real-mode load changes the base alone
    works mov %fs:(%ebx), %eax
    cmp $0xfeedface, %eax
    jne failed
    mov $0x1000, %bx                 # GS is small now: limit 0xfff
    raises 13, mov %gs:(%bx), %al
    mov $0xffe, %bx
    works mov %gs:(%bx), %ax
    raises 13, mov %gs:(%bx), %eax

    begin 0x15                        # SMSW, LMSW
    smsw %ax
    test $1, %al
    jnz failed

    passed
    failing

far_away:
    mov $0x77, %al
    lret

descriptors:
    .quad 0
    .quad 0x008f93000000ffff         # 4 GiB
    .quad 0x0000930000000fff         # 4 KiB
descriptors_end:
