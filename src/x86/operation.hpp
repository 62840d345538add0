// Operation: one value a mnemonic, as far as somebody executes it by hand. Vector and x87 instructions
// that run on the host's own unit share a few values; their OpcodeInfo::kind and operands say the rest.
// Families whose members differ only by condition or operand size are one value (Jcc: the condition is
// the low four bits of the opcode; Cbw is also cwde and cdqe). Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::x86 {

enum class Operation : u16 {
  Invalid,

  // Arithmetic and logic.
  Add, Or, Adc, Sbb, And, Sub, Xor, Cmp, Test, Not, Neg, Inc, Dec,
  Mul, Imul, Div, Idiv,           // Imul: one, two and three operands
  Rol, Ror, Rcl, Rcr, Shl, Shr, Sar,
  Shld, Shrd,
  Bt, Bts, Btr, Btc, Bsf, Bsr, Tzcnt, Lzcnt, Popcnt,
  Adcx, Adox, Crc32,
  Andn, Bextr, Blsi, Blsmsk, Blsr, Bzhi, Mulx, Pdep, Pext, Rorx, Sarx, Shlx, Shrx,
  Aaa, Aas, Aam, Aad, Daa, Das,
  Cbw,                            // cbw, cwde, cdqe by operand size
  Cwd,                            // cwd, cdq, cqo by operand size

  // Moves.
  Mov,                            // also of segment registers and moffs forms
  Movzx, Movsx, Movsxd, Movbe, Movnti, Lea, Xchg, Bswap, Cmpxchg, Cmpxchg8b16b, Xadd,
  Setcc, Cmovcc,
  Lahf, Sahf, Xlat, Salc,
  Lds, Les, Lfs, Lgs, Lss,
  Movdiri, Movdir64b,

  // Stack.
  Push, Pop, Pusha, Popa, Pushf, Popf, Enter, Leave,   // Push, Pop: also of segment registers

  // Control flow.
  Call, CallFar, Jmp, JmpFar, Jcc, Jrcxz, Loop, Loope, Loopne,  // Jrcxz: also jcxz, jecxz by address size
  Ret, RetFar, Iret, Int, Int3, Int1, Into, Bound,
  Syscall, Sysret, Sysenter, Sysexit,

  // Strings and ports.
  Movs, Cmps, Stos, Lods, Scas, In, Out, Ins, Outs,

  // Flags.
  Clc, Stc, Cmc, Cld, Std, Cli, Sti, Stac, Clac,

  // Nothing, on purpose.
  Nop,                            // hint space, prefetchw, cldemote and endbr too
  Pause, Prefetch, Endbr, Ud0, Ud1, Ud2,

  // Caches and order.
  Lfence, Mfence, Sfence, Serialize, Clflush, Clflushopt, Clwb, Invd, Wbinvd, Wbnoinvd,

  // System.
  Arpl, Lar, Lsl, Verr, Verw,
  Lgdt, Sgdt, Lidt, Sidt, Lldt, Sldt, Ltr, Str, Lmsw, Smsw, Clts,
  MovCr, MovDr,
  Invlpg, Invpcid,
  Rdmsr, Wrmsr, Rdtsc, Rdtscp, Rdpmc, Cpuid, Xgetbv, Xsetbv,
  Rdfsbase, Rdgsbase, Wrfsbase, Wrgsbase, Swapgs,
  Rdpkru, Wrpkru, Rdpid, Rdrand, Rdseed,
  Hlt, Monitor, Mwait, Umonitor, Umwait, Tpause,
  Rsm,
  Vmcall, Vmmcall, Vmfunc,
  Vmx,                            // vmxon, vmlaunch, vmread …: #UD for every guest of ours
  Svm,                            // vmrun, stgi, skinit …: likewise
  Getsec,
  Encls, Enclu, Enclv,
  Rdsspd,                         // shadow stacks, user part: nop unless enabled
  Cet,                            // the rest of shadow-stack management: #UD unless enabled
  Xabort, Xbegin, Xend, Xtest,

  // Extended state.
  Fxsave, Fxrstor, Xsave, Xsaveopt, Xsavec, Xsaves, Xrstor, Xrstors,   // the 64 forms have w set
  Ldmxcsr, Stmxcsr,               // VEX forms too
  Fwait,
  Fldenv, Fnstenv, Fnsave, Frstor,  // size by operand size: 14 or 28, 94 or 108 bytes

  // Run on the host's own unit with their memory operand and GPR operands rewritten.
  X87,                            // fnstsw ax, fcomi, fcmov: by operands and flags
  Mmx,
  Vector,                         // SSE, AVX, AVX-512
  Emms,
  Maskmov,                        // maskmovq, maskmovdqu: bytes at DS:rDI under a mask; memory operand is implicit
  VectorMasked,                   // vmaskmovps, vpmaskmovd …: the mask decides which elements are accessed
  Gather, Scatter,                // Vsib
  GatherPrefetch,                 // Vsib, hint only
  VectorCompress, VectorExpand,   // memory accessed: the elements that the mask has set, contiguously
  Vzeroupper, Vzeroall,
};

}  // namespace nacre::x86
