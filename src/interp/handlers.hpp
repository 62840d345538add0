// Every instruction handler, by the file it lives in. dispatch.cpp maps operations to them.
#pragma once

#include "interp/core.hpp"

namespace nacre::interp {

namespace handlers {

// alu.cpp
HandlerFunction add, or_, adc, sbb, and_, sub, xor_, cmp, test, not_, neg, inc, dec, adcx, adox, cbw, cwd;
// multiply.cpp
HandlerFunction mul, imul, div, idiv, mulx;
// shift.cpp
HandlerFunction rol, ror, rcl, rcr, shl, shr, sar, shld, shrd, rorx, sarx, shlx, shrx;
// bits.cpp
HandlerFunction bt, bts, btr, btc, bsf, bsr, tzcnt, lzcnt, popcnt, crc32, andn, bextr, blsi, blsmsk, blsr,
    bzhi, pdep, pext;
// decimal.cpp
HandlerFunction aaa, aas, aam, aad, daa, das;
// move.cpp
HandlerFunction mov, movzx, movsx, movbe, lea, xchg, bswap, cmpxchg, cmpxchg8b16b, xadd, setcc, cmovcc, lahf,
    sahf, xlat, salc, load_far_pointer, movdir64b;
// stack.cpp
HandlerFunction push, pop, pusha, popa, pushf, popf, enter, leave;
// branch.cpp
HandlerFunction call, jmp, jcc, jrcxz, loop, loope, loopne, ret, bound, int_, int3, int1, into, nop,
    undefined;
// far.cpp
HandlerFunction call_far, jmp_far, ret_far;
// iret.cpp
HandlerFunction iret;
// fast_call.cpp
HandlerFunction syscall, sysret, sysenter, sysexit;
// string.cpp
HandlerFunction movs, cmps, stos, lods, scas;
// port_io.cpp
HandlerFunction in, out, ins, outs;
// flag_control.cpp
HandlerFunction clc, stc, cmc, cld, std_, cli, sti, stac, clac;
// descriptor_tables.cpp
HandlerFunction arpl, lar, lsl, verr, verw, lgdt, sgdt, lidt, sidt, lldt, sldt, ltr, str;
// control.cpp
HandlerFunction lmsw, smsw, clts, mov_cr, mov_dr, invlpg, invpcid, xgetbv, xsetbv;
// system.cpp
HandlerFunction rdtsc, rdtscp, rdpmc, cpuid, hypercall, rdfsbase, rdgsbase, wrfsbase, wrgsbase, swapgs, rdpid,
    rdrand, rdseed, hlt, monitor, mwait, clflush, flush_caches, rdpkru, wrpkru;
// msr.cpp
HandlerFunction rdmsr, wrmsr;
// fpu_state.cpp
HandlerFunction fxsave, fxrstor, xsave, xrstor, ldmxcsr, stmxcsr, fwait;
// simd.cpp
HandlerFunction simd;

}  // namespace handlers

// Null for operations that nobody executes: #UD, and the host is told.
Handler handler_for(x86::Operation operation);

}  // namespace nacre::interp
