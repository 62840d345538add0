// Running pieces of code outside long mode: protected mode with either paging or none, V86 mode, real mode. A
// case begins with prepare_legacy(), may change tables then, and looks at legacy_seen after LEGACY().
#pragma once
#include "suite.h"

// The order is known to legacy_entry.S. What is left 0 becomes something that works.
struct legacy {
  uint32_t cr0, cr3, cr4;
  uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax;
  uint32_t eip, cs, eflags, esp, ss, es, ds, fs, gs;
  uint32_t real;
};
struct legacy_seen {
  uint32_t edi, esi, ebp, unused, ebx, edx, ecx, eax;
  uint32_t vector, error, eip, cs, eflags, esp, ss, es, ds, fs, gs;
  uint32_t cr2, dr6, cr0;
};
extern struct legacy_seen legacy_seen;
enum { legacy_vectors = 0x90, legacy_code = 0x20000, low_code_16 = 0xf0, low_data_16 = 0xf8 };
extern uint64_t legacy_idt[legacy_vectors], legacy_mark;
extern uint8_t
    legacy_state[0x68 + 32 + 8192 / 8 + 1];  // the 32-bit task state; the map of V86 interrupts at 68h
extern uint32_t directory_32[1024], table_32[1024];  // of 32-bit paging: `area` is here as it is in long mode
extern uint64_t pointers_pae[4];                     // PAE uses the directories of long mode
void prepare_legacy(void);
void set_legacy_gate(unsigned vector, uint32_t address, unsigned selector, uint8_t access);
void run_legacy(struct code code, struct legacy how);
void reset_segments(void);
void check_legacy(const char* file, unsigned line, uint64_t vector, uint64_t error, uint64_t eip);

#define LEGACY(bits, text, ...) run_legacy(CODE(bits, text, "int $0x80"), (struct legacy){__VA_ARGS__})
#define PAGED_32 .cr0 = cr0_pe | 0x30 | cr0_wp | (uint32_t)cr0_pg, .cr3 = (uint32_t)(uint64_t)directory_32
#define PAGED_PAE \
  .cr0 = cr0_pe | 0x30 | cr0_wp | (uint32_t)cr0_pg, .cr3 = (uint32_t)(uint64_t)pointers_pae, .cr4 = cr4_pae
#define SEEN(vector, error) check_legacy(__FILE_NAME__, __LINE__, vector, error, legacy_mark)
#define SEEN_DONE() check_legacy(__FILE_NAME__, __LINE__, done, 0, legacy_seen.eip)
