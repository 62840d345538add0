// The machine-code way into and out of a stub. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::interp {

// What the entry code loads and the exit code stores; addressed by offset from assembly.
struct StubContext {
  u64 gpr[16];     // 0: RSP's is neither loaded nor stored; RDI's is the memory operand's address
  u64 flags;       // 128: arithmetic flags
  const u8* stub;  // 136
  u8* xsave;       // 144
  u64 components;  // 152: RFBM
  u32 host_mxcsr;  // 160: kept for the host
  u16 host_fcw;    // 164
  u16 reserved;
};
static_assert(sizeof(StubContext) == 168);

extern "C" {
// Loads the guest's registers, jumps to the stub, and stores them when it ends.
void nacre_vector_enter(StubContext* context);
// Where a stub ends, and where a fault in one resumes.
extern const u8 nacre_vector_exit[];
// Makes code that was written through another view safe to run: SDM vol. 3, 9.1.3 (IRET serializes).
void nacre_vector_serialize();
}

}  // namespace nacre::interp
