# Two-level paging: rights, accessed and dirty bits, page faults and what instructions leave behind. SDM vol. 3, chapter 4.
# The first 4 MiB are mapped to themselves, for everybody; linear 0x400000 and on, to 0x30000, are the tests'.
#include "protected.inc"
.set directory, 0x10000
.set table_low, 0x11000
.set table, 0x12000
.set page, 0x400000
.set frame, 0x30000
.set P, 1
.set RW, 2
.set US, 4
.set A, 0x20
.set D, 0x40
    reset_vector
    .text
    enter_protected
    handler_code

.macro flush
    mov %cr3, %eax
    mov %eax, %cr3
.endm
# The entry of the test's page n.
.macro entry n, bits
    movl $frame + \n * 0x1000 + (\bits), table + 4 * \n
    flush
.endm
.macro entry_is n, bits
    mov table + 4 * \n, %eax
    and $0xfff, %eax
    cmp $\bits, %eax
    jne failed
.endm
.macro page_fault code, address, instruction:vararg
    movl $none, vector
    movl $2f, resume
1:  \instruction
    jmp failed
2:  check_event 14, \code
    cmpl $1b, eip
    jne failed
    mov %cr2, %eax
    cmp $\address, %eax
    jne failed
.endm
.macro write_protect on
    mov %cr0, %eax
    .if \on
    or $0x10000, %eax
    .else
    and $~0x10000, %eax
    .endif
    mov %eax, %cr0
.endm

protected:
    mov $directory, %edi
    mov $0x400, %ecx
    xor %eax, %eax
    rep stosl
    mov $table, %edi
    mov $0x400, %ecx
    rep stosl
    mov $table_low, %edi
    mov $P | RW | US, %eax
1:  stosl
    add $0x1000, %eax
    cmp $0x400000, %eax
    jb 1b
    movl $table_low + P + RW + US, directory
    movl $table + P + RW + US, directory + 4
    mov $directory, %eax
    mov %eax, %cr3
    mov %cr0, %eax
    or $0x80000000, %eax
    mov %eax, %cr0
    jmp 1f
1:
    begin 0x01                       # accessed and dirty
    entry 0, P|RW|US
    movl $table + P + RW + US, directory + 4
    mov page, %ebx
    entry_is 0, (P|RW|US|A)
    testb $A, directory + 4
    jz failed
    testb $D, directory + 4
    jnz failed
    movl $1, page
    entry_is 0, (P|RW|US|A|D)
    cmpl $1, frame
    jne failed
    entry 0, P|RW|US
    cmpl $1, page
    entry_is 0, (P|RW|US|A)
    entry 0, P|RW|US
    incl page
    entry_is 0, (P|RW|US|A|D)
    entry 0, P|RW|US
    mov $7, %eax
    cmpxchg %ebx, page               # it writes even where it fails
    entry_is 0, (P|RW|US|A|D)
    entry 0, P|RW|US
    xor %ecx, %ecx                   # nothing to do, nothing touched
    mov $page, %edi
    rep stosb
    entry_is 0, (P|RW|US)

    begin 0x02                       # pages that are not there
    entry 0, 0
    page_fault 0, page, mov page, %ebx
    page_fault 0, page + 0x123, mov page + 0x123, %bl
    page_fault 2, page, mov %ebx, page
    page_fault 2, page, incl page
    page_fault 2, page, xchg %ebx, page
    page_fault 0, 0x800000, mov 0x800000, %ebx
    page_fault 2, 0xfffffffc, mov %ebx, 0xfffffffc
    entry_is 0, 0

    begin 0x03                       # user and supervisor
    entry 0, P|RW
    movl $5, page
    ring_3
    page_fault 5, page, mov page, %ebx
    ring_3
    page_fault 7, page, mov %ebx, page
    entry 0, 0
    ring_3
    page_fault 4, page, mov page, %ebx
    ring_3
    page_fault 6, page, mov %ebx, page
    entry 0, P|US                    # read-only
    ring_3
    mov page, %ebx
    page_fault 7, page, mov %ebx, page
    entry 0, P|RW|US                 # the directory's rights count as well
    movl $table + P + RW, directory + 4
    flush
    ring_3
    page_fault 5, page, mov page, %ebx
    movl $table + P + US, directory + 4
    flush
    ring_3
    page_fault 7, page, mov %ebx, page
    movl $table + RW + US, directory + 4
    flush
    ring_3
    page_fault 4, page, mov page, %ebx
    movl $table + P + RW + US, directory + 4

    begin 0x04                       # write protection of ring 0
    entry 0, P|US
    movl $0x99, page
    cmpl $0x99, frame
    jne failed
    entry_is 0, (P|US|A|D)
    write_protect 1
    entry 0, P|US
    page_fault 3, page, movl $1, page
    page_fault 3, page, incl page
    page_fault 3, page, cmpxchg %ebx, page
    entry_is 0, (P|US)
    movl $table + P + US, directory + 4
    entry 0, P|RW|US
    page_fault 3, page, movl $1, page
    movl $table + P + RW + US, directory + 4
    write_protect 0

    begin 0x05                       # over the border of two pages
    entry 0, P|RW|US
    entry 1, 0
    movl $0, frame + 0xffc
    page_fault 2, page + 0x1000, movl $-1, page + 0xffe
    cmpl $0, frame + 0xffc
    jne failed
    page_fault 0, page + 0x1000, mov page + 0xffd, %ebx
    page_fault 2, page + 0x1000, incl page + 0xfff
    cmpl $0, frame + 0xffc
    jne failed
    entry 0, 0
    entry 1, P|RW|US
    page_fault 0, page + 0xffe, mov page + 0xffe, %ebx
    entry 0, P|RW|US                 # pages that do not lie side by side
    movl $frame + 0x5000 + P + RW + US, table + 4
    flush
    movl $0x44332211, page + 0xffe
    cmpw $0x2211, frame + 0xffe
    jne failed
    cmpw $0x4433, frame + 0x5000
    jne failed

    begin 0x06                       # instructions over the border
    place 0x50, 0, 0xfffff, 0xc09a
    entry 0, P|RW|US
    entry 1, 0
    movl $0x05c70000, page + 0xffc   # movl $imm, ... cut off at c7 05
    movl $2f, resume
    movl $none, vector
    ljmp $0x50, $page + 0xffe
2:  check_event 14, 0
    cmpl $page + 0xffe, eip
    jne failed
    mov %cr2, %eax
    cmp $page + 0x1000, %eax
    jne failed
    movl $2f, resume
    ljmp $0x50, $0x500000            # code that is not there
2:  check_event 14, 0
    cmpl $0x500000, eip
    jne failed

    begin 0x07                       # strings
    entry 0, P|RW|US
    entry 1, 0
    mov $0x700, %esi
    mov $page + 0xff8, %edi
    mov $20, %ecx
    page_fault 2, page + 0x1000, rep movsb
    cmp $0x708, %esi
    jne failed
    cmp $page + 0x1000, %edi
    jne failed
    cmp $12, %ecx
    jne failed
    mov $page + 0xff6, %esi
    mov $0x700, %edi
    mov $9, %ecx
    page_fault 0, page + 0x1000, rep movsl
    cmp $page + 0xffe, %esi
    jne failed
    cmp $7, %ecx
    jne failed
    mov $page + 0xffe, %edi
    mov $3, %ecx
    page_fault 2, page + 0x1000, rep stosw
    cmp $2, %ecx
    jne failed
    mov $page + 0xfff, %esi
    mov $0x700, %edi
    movb $5, page + 0xfff
    movb $5, 0x700
    mov $9, %ecx
    page_fault 0, page + 0x1000, repe cmpsb
    cmp $8, %ecx
    jne failed
    mov $page + 0x1003, %edi         # downwards, from where it is not there
    mov $2, %ecx
    std
    page_fault 2, page + 0x1003, rep stosb
    cld
    cmp $2, %ecx
    jne failed

    begin 0x08                       # the stack
    entry 0, 0
    entry 1, P|RW|US
    ring_3
    mov $page + 0x1000, %esp
    page_fault 6, page + 0xffc, push %eax
    mov esp_was, %eax
    cmpl $page + 0x1000, 12(%eax)    # ESP is what it was
    jne failed
    ring_3
    mov $page + 0x1004, %esp
    mov $0x99, %ebp
    page_fault 6, page + 0xffc, enter $0, $1
    mov esp_was, %eax
    cmpl $page + 0x1004, 12(%eax)
    jne failed
    cmp $0x99, %ebp
    jne failed
    ring_3
    mov $page + 0x1010, %esp
    page_fault 6, page + 0xffc, pusha
    mov esp_was, %eax
    cmpl $page + 0x1010, 12(%eax)
    jne failed
    ring_3
    mov $page + 0x1004, %esp
    pushl $0x1234
    page_fault 6, page + 0x10, popl page + 0x10
    mov esp_was, %eax
    cmpl $page + 0x1000, 12(%eax)
    jne failed
    ring_3
    mov $page + 0x1000, %esp
    page_fault 6, page + 0xffc, call failed
    ring_3
    mov $page + 0xffc, %esp
    page_fault 4, page + 0xffc, ret

    begin 0x09                       # a descriptor in a page that is not there: the supervisor's access, whoever asks
    mov $gdt, %esi                   # a copy of the GDT, and more, in the test's pages
    mov $frame, %edi
    mov $0x400, %ecx
    rep movsl
    entry 0, P|RW
    entry 1, 0
    movw $0x1fff, 0x700
    movl $page, 0x702
    lgdt 0x700
    ring_3
    mov $0x1003, %ebx
    page_fault 0, page + 0x1000, mov %ebx, %fs
    entry 1, P                       # and its accessed bit wants to be written
    write_protect 1
    movl $0x0000ffff, frame + 0x1000
    movl $0x00cff200, frame + 0x1004
    page_fault 3, page + 0x1005, mov %ebx, %fs
    write_protect 0
    mov %ebx, %fs
    testb $1, frame + 0x1005
    jz failed
    lgdt %cs:gdt_pointer

    begin 0x0a                       # a fault on the way to a fault
    entry 0, 0
    movw $0x60, idt + 8 * 8 + 2      # the double fault has a task
    movl $0x8500, idt + 8 * 8 + 4
    place 0x60, 0x3400, 0x67, 0x0089
    movl $directory, 0x341c
    movl $1f, 0x3420
    movl $2, 0x3424
    movl $0x5000, 0x3438
    movl $data_0, 0x3448
    movl $code_0, 0x344c
    movl $data_0, 0x3450
    movl $data_0, 0x3454
    movl $page + 0x800, tss + 4      # no stack for ring 0
    ring_3
    mov page, %eax                   # a page fault, then another
    jmp failed
1:  cmp $0x4ffc, %esp
    jne failed
    cmpl $0, (%esp)
    jne failed
    str %ax
    cmp $0x60, %ax
    jne failed
    clts
    movl $stack_inner, tss + 4
    pushf
    andl $~0x4000, (%esp)
    popf

    begin 0x0b                       # a task has page tables of its own
    mov $directory, %esi
    mov $0x13000, %edi
    mov $0x400, %ecx
    rep movsl
    movl $0x14000 + P + RW + US, 0x13004
    movl $0x31000 + P + RW, 0x14000
    entry 0, P|RW|US
    movl $0xaaaa, frame
    movl $0xbbbb, 0x31000
    place 0x68, 0x3500, 0x67, 0x0089
    movl $0x13000, 0x351c
    movl $1f, 0x3520
    movl $2, 0x3524
    movl $0x5000, 0x3538
    movl $data_0, 0x3548
    movl $code_0, 0x354c
    movl $data_0, 0x3550
    movl $data_0, 0x3554
    cmpl $0xaaaa, page
    jne failed
    lcall $0x68, $0
    jmp 2f
1:  cmpl $0xbbbb, page
    jne failed
    mov %cr3, %eax
    cmp $0x13000, %eax
    jne failed
    iret
2:  cmpl $0xaaaa, page
    jne failed

    begin 0x0c                       # INVLPG; large pages
    movl $0x31000 + P + RW + US, table
    invlpg page
    cmpl $0xbbbb, page
    jne failed
    mov %cr4, %eax
    or $0x10, %eax
    mov %eax, %cr4
    movl $0x000087, directory + 8    # 8 MiB on: the first 4 MiB again
    flush
    cmpl $0xbbbb, 0x831000
    jne failed
    testb $D, directory + 8
    jnz failed
    movl $0xcccc, 0x831000
    testb $D, directory + 8
    jz failed
    cmpl $0xcccc, page
    jne failed
    movl $0x201087, directory + 8    # a reserved bit
    flush
    page_fault 9, 0x831000, mov 0x831000, %ebx

    begin 0x0d                       # bits of memory, far away
    entry 0, 0
    entry 1, P|RW|US
    mov $-1, %ebx
    page_fault 2, page + 0xffc, bts %ebx, page + 0x1000
    movl $0, frame + 0x1004
    mov $0x20, %ebx
    btsl %ebx, page + 0x1000
    jc failed
    cmpl $1, frame + 0x1004
    jne failed

    passed

    failing
