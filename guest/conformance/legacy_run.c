// Prepares what legacy_entry.S needs: descriptors of 32 bits, page tables of both old formats, the low
// memory.
#include "legacy.h"

extern const char low_begin[], low_end[], real_stubs[];
extern const uint32_t legacy_stubs[legacy_vectors];
void run_legacy_code(void);
uint32_t directory_32[1024] __attribute__((aligned(4096)));
uint32_t table_32[1024] __attribute__((aligned(4096)));
static uint32_t identity_32[1024] __attribute__((aligned(4096)));
uint64_t pointers_pae[4] __attribute__((aligned(32)));
uint8_t legacy_state[0x68 + 32 + 8192 / 8 + 1] __attribute__((aligned(4096)));
uint64_t legacy_mark;

void set_legacy_gate(unsigned vector, uint32_t address, unsigned selector, uint8_t access) {
  legacy_idt[vector] = (address & 0xffff) | (uint64_t)selector << 16 | (uint64_t)access << 40 |
                       (uint64_t)(address & 0xffff0000) << 32;
}

void prepare_legacy(void) {
  for (unsigned v = 0; v < legacy_vectors; v++)
    set_legacy_gate(v, legacy_stubs[v], kernel_code_32,
                    v == 3 || v == 4 || v == 5 || v == 0x80 ? 0xee : 0x8e);
  for (unsigned v = 0; v < legacy_vectors; v++)
    LONG(4ull * v) = 0x20000000u | (uint32_t)(0xe000 + (real_stubs - low_begin) + 3 * v);
  WORD(0x2a000ull) = 0x80cd;  // int $0x80, where transfers aim that must not happen
  memcpy((void*)0x2e000ull, low_begin, (size_t)(low_end - low_begin));
  table[0xf0 / 8] = SEGMENT(0x20000ull, 0xffff, 0x9b, 0);
  table[0xf8 / 8] = SEGMENT(0, 0xffff, 0x93, 0);
  memset(legacy_state, 0, sizeof legacy_state);
  memset(legacy_state + 0x88, 0xff,
         sizeof legacy_state - 0x88);  // ports; before them the map of V86 interrupts
  LONG((uint64_t)legacy_state + 4) = (uint32_t)(uint64_t)interrupt_stack + sizeof interrupt_stack;
  LONG((uint64_t)legacy_state + 8) = kernel_data;
  WORD((uint64_t)legacy_state + 0x66) = 0x88;
  table[legacy_task / 8] = SEGMENT((uint64_t)legacy_state, sizeof legacy_state - 1, 0x89, 0);

  for (unsigned i = 0; i < 1024; i++) identity_32[i] = i << 12 | P | W | U, directory_32[i] = table_32[i] = 0;
  for (unsigned i = 0; i < pages; i++) table_32[i] = (uint32_t)FRAME(i) | P | W;
  directory_32[0] = (uint32_t)(uint64_t)identity_32 | P | W | U;
  directory_32[area >> 22] = (uint32_t)(uint64_t)table_32 | P | W | U;
  for (unsigned i = 0; i < 4; i++) pointers_pae[i] = ((uint64_t)directories + 4096 * i) | P;
}

void run_legacy(struct code code, struct legacy how) {
  const uint64_t at = how.real || how.eflags & VM || how.cs == low_code_16 ? 0 : legacy_code;
  memcpy((void*)(uint64_t)legacy_code, code.begin, (size_t)(code.end - code.begin));
  legacy_mark = at + (uint64_t)(code.mark - code.begin);
  how.eip = (uint32_t)at;
  how.eflags |= 2;
  const bool paragraphs = how.real || how.eflags & VM;
  const uint32_t data = paragraphs ? 0x2000 : how.cs & 3 ? user_data : kernel_data;
  if (!how.cs) how.cs = paragraphs ? 0x2000 : kernel_code_32;
  if (!how.cr0) how.cr0 = cr0_pe | 0x30;
  if (!how.ss) how.ss = data;
  if (!how.ds) how.ds = data;
  if (!how.es) how.es = data;
  if (!how.esp) how.esp = paragraphs ? 0xc000 : 0x2c000;
  memcpy((void*)0x2d000ull, &how, sizeof how);
  run_legacy_code();
  reset_segments();
}

void check_legacy(const char* file, unsigned line, uint64_t vector, uint64_t error, uint64_t eip) {
  seen.vector = legacy_seen.vector;
  seen.error = legacy_seen.error;
  seen.rip = legacy_seen.eip;
  seen_cr2 = legacy_seen.cr2;
  check_seen(file, line, vector, error, eip);
}
