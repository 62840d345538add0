// Starting the other processors by INIT and start-up messages. SDM vol. 3, 8.4.
#pragma once
#include "kernel.h"

enum { trampoline = 0x8000, most_stacks = 32 };  // where a start-up message sends them: its vector is trampoline >> 12
// Of each start, in order, one; after 32 the first again.
extern uint8_t other_stacks[most_stacks][16384];

// Puts the start-up code there; with the descriptor tables that this processor has now.
void place_trampoline(void);
// The kernel's. A processor that was started calls it in 64-bit mode, with interrupts off, the kernel's page tables, CR4.PAE
// alone, and IDT; no task register. It does not return.
void other_main(void);
