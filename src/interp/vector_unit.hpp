// VectorUnit: executes one x87, MMX, SSE, AVX or AVX-512 instruction on a State by running it on the host's
// own unit. The instruction is encoded anew with its memory operand at a bounce buffer; the guest's XSAVE
// image and GPRs are loaded, it runs, and the result is stored back. So results, flags, MXCSR and NaNs are
// the processor's own, which is also what translated code gets.
//
// What the caller has checked before: that the instruction exists for this guest (CPUID, CR0.EM/TS,
// CR4.OSFXSR/OSXSAVE, XCR0) and that the memory operand is aligned where it must be. What the unit does not
// do: advance RIP, and run fxsave, xsave and their kin, which move whole images (interp/vector_state.hpp).
//
// A host CPU fault inside a stub reaches recover() from the owner's fault handler: a signal handler in
// the hosted build, the exception entry in the type-1 build.
//
// run() leaves vector and x87 registers as any C function may (undefined), and keeps MXCSR and the x87
// control word. Freestanding; owned by the vCPU's thread.
#pragma once

#include "cpu/state.hpp"
#include "cpu/xsave_layout.hpp"
#include "x86/instruction.hpp"

namespace nacre::interp {

// The instruction's memory operand, seen from the guest. Offsets are within the operand's segment; they wrap
// at the address size, which is the implementer's matter (as are canonical and limit checks, and paging).
class VectorMemory {
 public:
  // False: the access faults; the implementer remembers how. Nothing was transferred.
  virtual bool read(u64 offset, void* to, unsigned bytes) = 0;
  virtual bool write(u64 offset, const void* from, unsigned bytes) = 0;
  // Whether a write would succeed; finds the fault without writing.
  virtual bool probe_write(u64 offset, unsigned bytes) = 0;

 protected:
  ~VectorMemory() = default;
};

struct VectorResult {
  enum class Kind : u8 {
    Done,
    MemoryFault,  // VectorMemory said no; the state is as the manual says for a fault (gathers: partly done)
    Exception,    // `vector`: MF, XM, DE, GP(0), or UD when this host does not have the instruction
    Unsupported,  // not an instruction for this unit
  };
  Kind kind = Kind::Done;
  x86::Vector vector = x86::Vector::UD;
};

// Memory the unit needs; the owner makes it. The two views of the stubs are the same memory.
struct VectorPages {
  u8* stubs_writable = nullptr;          // may be written, not executed
  const u8* stubs_executable = nullptr;  // may be executed, not written
  usize stub_bytes = 0;                  // one page or more
  // One page, between two pages whose access faults.
  u8* bounce = nullptr;
};

struct EncodedInstruction;

// True when the instruction's first act is to report an x87 exception that is pending (#MF); that comes
// before any fault of its memory operand. SDM vol. 1, 8.6 and 8.7.
bool x87_exception_due(const cpu::State& state, const x86::Instruction& instruction);

class VectorUnit {
 public:
  VectorUnit(const VectorPages& pages, const cpu::XsaveLayout& layout);

  // `offset`: effective address of the ModRM memory operand (for maskmovdqu and maskmovq, of DS:rDI; with a
  // vector index, of its base and displacement alone). Without a memory operand it is not looked at, nor is
  // `memory`.
  VectorResult run(cpu::State& state, const x86::Instruction& instruction, u64 offset, VectorMemory& memory);

  // Called by the owner's fault handler, on the faulting thread. True: `rip` lay in a stub; it is now where
  // execution shall go on, and run() will report `vector`. `address`: of a page fault, CR2.
  bool recover(u64& rip, u8 vector, u64 address);

 private:
  const u8* stub_for(const EncodedInstruction& encoded);
  VectorResult execute(cpu::State& state, const EncodedInstruction& encoded, u8* operand);
  VectorResult run_unmasked(cpu::State& state, const x86::Instruction& instruction,
                            const EncodedInstruction& encoded, u64 offset, VectorMemory& memory);
  VectorResult run_masked_load(cpu::State& state, const EncodedInstruction& encoded, unsigned bytes,
                               u64 offset, VectorMemory& memory);
  VectorResult run_masked_store(cpu::State& state, const EncodedInstruction& encoded, unsigned bytes,
                                u64 offset, VectorMemory& memory);
  VectorResult load_mxcsr(cpu::State& state, u64 offset, VectorMemory& memory) const;
  struct Layout {
    u8* operand;           // where the operand lies in or across the edge of the bounce page
    unsigned first_bytes;  // of it, in the guest's first page
  };
  [[nodiscard]] Layout lay_out(unsigned bytes, u64 offset, bool first_allowed, bool second_allowed) const;
  VectorResult guest_fault(const u8* operand, unsigned bytes, u64 offset, bool is_write,
                           VectorMemory& memory) const;
  void hide_host_pointers(cpu::State& state, u64 guest_offset) const;
  [[nodiscard]] bool is_stub(u64 address) const;

  VectorPages pages_;
  cpu::XsaveLayout layout_;
  u32 mxcsr_mask_ = 0;
  int fault_ = -1;  // vector raised by the stub that ran last
  u64 fault_address_ = 0;
};

}  // namespace nacre::interp
