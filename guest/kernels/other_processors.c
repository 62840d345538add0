#include "other_processors.h"

struct table {
  uint16_t limit;
  uint64_t base;
} __attribute__((packed));

uint8_t other_stacks[most_stacks][16384] __attribute__((aligned(16)));
uint32_t others_started;
struct table others_idt;

// From real mode, where nothing but CS (0x800) is known, to other_main().
extern const char other_begin[], other_gdt[], other_end[];
__asm__(
    ".pushsection .rodata\n"
    ".code16\n"
    "other_begin:\n"
    " cli\n"
    " xor %ax, %ax\n"
    " mov %ax, %ds\n"
    " lgdtl 0x8000 + other_gdt - other_begin\n"
    " mov %cr4, %eax\n"
    " or $0x20, %eax\n"  // PAE
    " mov %eax, %cr4\n"
    " mov $root, %eax\n"
    " mov %eax, %cr3\n"
    " mov $0xc0000080, %ecx\n"  // EFER: LME, NXE
    " rdmsr\n"
    " or $0x900, %eax\n"
    " wrmsr\n"
    " mov $0x80010033, %eax\n"  // PG, WP, NE, ET, MP, PE
    " mov %eax, %cr0\n"
    " ljmpl $8, $other_long\n"
    "other_gdt:\n"
    " .word 0\n .long 0\n"  // place_trampoline()
    "other_end:\n"
    ".popsection\n"
    ".pushsection .text\n"
    ".code64\n"
    "other_long:\n"
    " mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %ss\n"
    " xor %eax, %eax\n mov %eax, %fs\n mov %eax, %gs\n"
    " lidt others_idt\n"
    " mov $1, %eax\n lock xadd %eax, others_started\n"
    " and $31, %eax\n inc %eax\n shl $14, %eax\n lea other_stacks(%rax), %rsp\n"
    " xor %ebp, %ebp\n call other_main\n"
    "1: cli\n hlt\n jmp 1b\n"
    ".popsection\n");

void place_trampoline(void) {
  struct table gdt;
  __asm__ volatile("sgdt %0\n sidt %1" : "=m"(gdt), "=m"(others_idt));
  memcpy((void*)trampoline, other_begin, (size_t)(other_end - other_begin));
  memcpy((void*)(trampoline + (size_t)(other_gdt - other_begin)), &gdt, 6);  // its base is below 4 GiB
}
