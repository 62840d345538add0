// Running a piece of code that may raise an exception, in kernel or user mode, and seeing what came of it.
#pragma once
#include "kernel.h"

enum { none = 256 };       // a vector that says: nothing came
extern struct frame seen;  // what interrupted the last guarded code; seen.vector is `none` if it returned

// Calls code(argument) in kernel mode.
void guarded(void (*code)(uint64_t), uint64_t argument);
// Runs the code between two labels at `user_page`, in user mode with the code segment `cs`, the argument in
// rdi and memory of the user's own behind rsp. It ends by int $0x80 (vector 0x80) or by what it raises.
void guarded_user(const char* begin, const char* end, uint16_t cs, uint64_t flags, uint64_t argument);
// To be called by on_interrupt: true if guarded code was interrupted, which then ends.
bool end_guarded(struct frame* frame);

enum { user_page = 0x800000, user_stack = 0x9ff000 };

// A piece of user code: USER_CODE(name, "instructions") makes name and name_end.
#define USER_CODE(name, text)             \
  extern const char name[], name##_end[]; \
  __asm__(".pushsection .rodata\n" #name ":\n" text "\n" #name "_end:\n.popsection")
