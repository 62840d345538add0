// The 0F and 0F 38 opcode maps without the vector instructions. SDM vol. 2, appendix A, tables,
// groups 6 to 9, 15 and 16; AMD APM vol. 3 for what is AMD's. Not here, so #UD: 3DNow!, MPX (its opcodes are hint
// nops without the feature), AMX, Key Locker, user interrupts.
#include "x86/row.hpp"

namespace nacre::x86 {
namespace {

using namespace notation;
using F = Feature;

constexpr Property kernel = sys | privileged;
constexpr Property vmx = sys | ends | needs(F::Vmx);
constexpr Property svm = sys | ends | privileged | needs(F::Svm);
constexpr Property cet = sys | needs(F::Cet);
constexpr Property bits = sets(CF) | undef(OF | SF | AF | PF);                  // bt and its family
constexpr Property scan = sets(ZF) | undef(CF | OF | SF | AF | PF);            // bsf, bsr
constexpr Property count_zeros = sets(CF | ZF) | undef(OF | SF | AF | PF);
constexpr Property double_shift = arith | undef(AF | OF) | counted;
constexpr Property random_flags = sets(OSZAPC);                               // CF says success, the others are cleared
constexpr Property save = sys | reads(RAX, RDX);                              // component mask in EDX:EAX

// clang-format off
constexpr Row kRows0F[] = {
    row(0x00, "sldt", Op::Sldt, {w(Rv)}, reg(0) | sys | protected_only),
    row(0x00, "sldt", Op::Sldt, {w(Mw)}, reg(0) | sys | protected_only),
    row(0x00, "str",  Op::Str,  {w(Rv)}, reg(1) | sys | protected_only),
    row(0x00, "str",  Op::Str,  {w(Mw)}, reg(1) | sys | protected_only),
    row(0x00, "lldt", Op::Lldt, {Ew},    reg(2) | kernel | protected_only),
    row(0x00, "ltr",  Op::Ltr,  {Ew},    reg(3) | kernel | protected_only),
    row(0x00, "verr", Op::Verr, {Ew},    reg(4) | sys | protected_only | sets(ZF)),
    row(0x00, "verw", Op::Verw, {Ew},    reg(5) | sys | protected_only | sets(ZF)),

    row(0x01, "sgdt",   Op::Sgdt,   {w(Ms)}, reg(0) | sys),
    row(0x01, "sidt",   Op::Sidt,   {w(Ms)}, reg(1) | sys),
    row(0x01, "lgdt",   Op::Lgdt,   {Ms},    reg(2) | kernel | ends),
    row(0x01, "lidt",   Op::Lidt,   {Ms},    reg(3) | kernel | ends),
    row(0x01, "smsw",   Op::Smsw,   {w(Rv)}, reg(4) | sys),
    row(0x01, "smsw",   Op::Smsw,   {w(Mw)}, reg(4) | sys),
    row(0x01, "rstorssp", Op::Cet,  {rw(Mq)}, reg(5) | PF3 | cet | sets(OSZAPC)),
    row(0x01, "lmsw",   Op::Lmsw,   {Ew},    reg(6) | kernel | ends),
    row(0x01, "invlpg", Op::Invlpg, {ea(Mb)}, reg(7) | kernel | ends),
    row(0x01, "enclv",    Op::Enclv,   {}, modrm(0xc0) | NP | sys | needs(F::Sgx) | updates(RAX, RBX, RCX, RDX)),
    row(0x01, "vmcall",   Op::Vmcall,  {}, modrm(0xc1) | NP | sys | ends | updates(RAX) | reads(RBX, RCX, RDX, RSI)),
    row(0x01, "vmlaunch", Op::Vmx,     {}, modrm(0xc2) | NP | vmx | sets(OSZAPC)),
    row(0x01, "vmresume", Op::Vmx,     {}, modrm(0xc3) | NP | vmx | sets(OSZAPC)),
    row(0x01, "vmxoff",   Op::Vmx,     {}, modrm(0xc4) | NP | vmx | sets(OSZAPC)),
    row(0x01, "monitor",  Op::Monitor, {}, modrm(0xc8) | NP | kernel | needs(F::Monitor) | reads(RAX, RCX, RDX)),
    row(0x01, "mwait",    Op::Mwait,   {}, modrm(0xc9) | NP | kernel | ends | needs(F::Monitor) | reads(RAX, RCX)),
    row(0x01, "clac",     Op::Clac,    {}, modrm(0xca) | NP | kernel | ends | needs(F::Smap) | sets(AC)),
    row(0x01, "stac",     Op::Stac,    {}, modrm(0xcb) | NP | kernel | ends | needs(F::Smap) | sets(AC)),
    row(0x01, "encls",    Op::Encls,   {}, modrm(0xcf) | NP | kernel | needs(F::Sgx) | updates(RAX, RBX, RCX, RDX) | sets(OSZAPC)),
    row(0x01, "xgetbv",   Op::Xgetbv,  {}, modrm(0xd0) | NP | sys | needs(F::Xsave) | reads(RCX) | writes(RAX, RDX)),
    row(0x01, "xsetbv",   Op::Xsetbv,  {}, modrm(0xd1) | NP | kernel | ends | needs(F::Xsave) | reads(RAX, RCX, RDX)),
    row(0x01, "vmfunc",   Op::Vmfunc,  {}, modrm(0xd4) | NP | vmx | reads(RAX, RCX)),
    row(0x01, "xend",     Op::Xend,    {}, modrm(0xd5) | NP | sys | ends | needs(F::Rtm)),
    row(0x01, "xtest",    Op::Xtest,   {}, modrm(0xd6) | NP | sys | needs(F::Rtm) | sets(OSZAPC)),
    row(0x01, "enclu",    Op::Enclu,   {}, modrm(0xd7) | NP | sys | ends | needs(F::Sgx) | updates(RAX, RBX, RCX, RDX) | sets(OSZAPC)),
    row(0x01, "vmrun",    Op::Svm,     {}, modrm(0xd8) | svm | reads(RAX)),
    row(0x01, "vmmcall",  Op::Vmmcall, {}, modrm(0xd9) | sys | ends | updates(RAX) | reads(RBX, RCX, RDX, RSI)),
    row(0x01, "vmload",   Op::Svm,     {}, modrm(0xda) | svm | reads(RAX)),
    row(0x01, "vmsave",   Op::Svm,     {}, modrm(0xdb) | svm | reads(RAX)),
    row(0x01, "stgi",     Op::Svm,     {}, modrm(0xdc) | svm),
    row(0x01, "clgi",     Op::Svm,     {}, modrm(0xdd) | svm),
    row(0x01, "skinit",   Op::Svm,     {}, modrm(0xde) | svm | reads(RAX)),
    row(0x01, "invlpga",  Op::Svm,     {}, modrm(0xdf) | svm | reads(RAX, RCX)),
    row(0x01, "serialize", Op::Serialize, {}, modrm(0xe8) | NP | sys | needs(F::Serialize)),
    row(0x01, "setssbsy", Op::Cet,     {}, modrm(0xe8) | PF3 | cet | privileged),
    row(0x01, "saveprevssp", Op::Cet,  {}, modrm(0xea) | PF3 | cet),
    row(0x01, "rdpkru",   Op::Rdpkru,  {}, modrm(0xee) | NP | sys | needs(F::Pku) | reads(RCX) | writes(RAX, RDX)),
    row(0x01, "wrpkru",   Op::Wrpkru,  {}, modrm(0xef) | NP | sys | ends | needs(F::Pku) | reads(RAX, RCX, RDX)),
    row(0x01, "swapgs",   Op::Swapgs,  {}, modrm(0xf8) | kernel | in64),
    row(0x01, "rdtscp",   Op::Rdtscp,  {}, modrm(0xf9) | sys | needs(F::Rdtscp) | writes(RAX, RCX, RDX)),

    row(0x02, "lar", Op::Lar, {rw(Gv), Ew}, sys | protected_only | sets(ZF)),
    row(0x03, "lsl", Op::Lsl, {rw(Gv), Ew}, sys | protected_only | sets(ZF)),
    row(0x05, "syscall", Op::Syscall, {}, is(Class::SystemCall) | ends | writes(RCX, R11) | tests(kAllFlags) | sets(kAllFlags)),
    row(0x06, "clts",    Op::Clts,    {}, kernel | ends),
    row(0x07, "sysret",  Op::Sysret,  {}, is(Class::SystemCall) | privileged | ends | protected_only | reads(RCX, R11) | sets(kAllFlags)),
    row(0x08, "invd",    Op::Invd,    {}, kernel),
    row(0x09, "wbnoinvd", Op::Wbnoinvd, {}, PF3 | kernel | needs(F::Wbnoinvd)),
    row(0x09, "wbinvd",  Op::Wbinvd,  {}, kernel),
    row(0x0b, "ud2",     Op::Ud2,     {}, sys | ends),
    row(0x0d, "prefetchw", Op::Prefetch, {ea(Mb)}, {}),  // and /0 prefetch, /2 prefetchwt1; SDM: all are hints
    row(0x0d, "nop",     Op::Nop,     {ea(Ev)}, {}),

    row(0x18, "prefetch", Op::Prefetch, {ea(Mb)}, reg(0)),  // nta, t0, t1, t2
    row(0x18, "prefetch", Op::Prefetch, {ea(Mb)}, reg(1)),
    row(0x18, "prefetch", Op::Prefetch, {ea(Mb)}, reg(2)),
    row(0x18, "prefetch", Op::Prefetch, {ea(Mb)}, reg(3)),
    row(0x1e, "endbr32", Op::Endbr,  {},        PF3 | modrm(0xfb)),
    row(0x1e, "endbr64", Op::Endbr,  {},        PF3 | modrm(0xfa)),
    row(0x1e, "rdssp",   Op::Rdsspd, {rw(Ry)},  PF3 | reg(1) | sys),  // a nop on processors without CET
    row(range(0x18, 0x1f), "nop", Op::Nop, {ea(Ev)}, {}),

    row(0x20, "mov", Op::MovCr, {w(Rany), Cr}, kernel | mod_ignored),
    row(0x21, "mov", Op::MovDr, {w(Rany), Dr}, kernel | mod_ignored),
    row(0x22, "mov", Op::MovCr, {w(Cr), Rany}, kernel | ends | mod_ignored),
    row(0x23, "mov", Op::MovDr, {w(Dr), Rany}, kernel | ends | mod_ignored),

    row(0x30, "wrmsr", Op::Wrmsr, {}, kernel | ends | reads(RAX, RCX, RDX)),
    row(0x31, "rdtsc", Op::Rdtsc, {}, sys | writes(RAX, RDX)),
    row(0x32, "rdmsr", Op::Rdmsr, {}, kernel | reads(RCX) | writes(RAX, RDX)),
    row(0x33, "rdpmc", Op::Rdpmc, {}, sys | reads(RCX) | writes(RAX, RDX)),
    row(0x34, "sysenter", Op::Sysenter, {}, is(Class::SystemCall) | ends | writes(RSP) | sets(IF | VM)),
    row(0x35, "sysexit",  Op::Sysexit,  {}, is(Class::SystemCall) | privileged | ends | reads(RCX, RDX) | writes(RSP)),
    row(0x37, "getsec",   Op::Getsec,   {}, NP | sys | ends | needs(F::Smx) | updates(RAX, RBX) | reads(RCX)),

    row(range(0x40, 0x4f), "cmovcc", Op::Cmovcc, {rw(Gv), Ev}, {}),
    row(0x78, "vmread",  Op::Vmx, {w(Ev), Gv}, NP | force64 | vmx | sets(OSZAPC)),
    row(0x79, "vmwrite", Op::Vmx, {Gv, Ev},    NP | force64 | vmx | sets(OSZAPC)),
    row(range(0x80, 0x8f), "jcc",   Op::Jcc,   {Jz}, jumpif | force64),
    row(range(0x90, 0x9f), "setcc", Op::Setcc, {w(Eb)}, {}),

    row(0xa0, "push",  Op::Push,  {Sfix},    stack | default64 | fixed(FS)),
    row(0xa1, "pop",   Op::Pop,   {w(Sfix)}, stack | default64 | ends | fixed(FS)),
    row(0xa2, "cpuid", Op::Cpuid, {}, sys | reads(RAX, RCX) | writes(RAX, RCX, RDX, RBX)),
    row(0xa3, "bt",    Op::Bt,    {Ev, Gv}, bits),
    row(0xa4, "shld",  Op::Shld,  {rw(Ev), Gv, Ib}, double_shift),
    row(0xa5, "shld",  Op::Shld,  {rw(Ev), Gv, CL}, double_shift),
    row(0xa8, "push",  Op::Push,  {Sfix},    stack | default64 | fixed(GS)),
    row(0xa9, "pop",   Op::Pop,   {w(Sfix)}, stack | default64 | ends | fixed(GS)),
    row(0xaa, "rsm",   Op::Rsm,   {}, sys | ends | sets(kAllFlags)),
    row(0xab, "bts",   Op::Bts,   {rw(Ev), Gv}, lock | bits),
    row(0xac, "shrd",  Op::Shrd,  {rw(Ev), Gv, Ib}, double_shift),
    row(0xad, "shrd",  Op::Shrd,  {rw(Ev), Gv, CL}, double_shift),

    row(0xae, "fxsave",   Op::Fxsave,   {w(Menv)}, reg(0) | NP | sys | needs(F::Fxsr)),
    row(0xae, "fxrstor",  Op::Fxrstor,  {Menv},    reg(1) | NP | sys | needs(F::Fxsr)),
    row(0xae, "ldmxcsr",  Op::Ldmxcsr,  {Md},      reg(2) | NP | is(Class::Sse) | needs(F::Sse)),
    row(0xae, "stmxcsr",  Op::Stmxcsr,  {w(Md)},   reg(3) | NP | is(Class::Sse) | needs(F::Sse)),
    row(0xae, "xsave",    Op::Xsave,    {rw(Menv)}, reg(4) | NP | save | needs(F::Xsave)),
    row(0xae, "xrstor",   Op::Xrstor,   {Menv},    reg(5) | NP | save | needs(F::Xsave)),
    row(0xae, "xsaveopt", Op::Xsaveopt, {rw(Menv)}, reg(6) | NP | save | needs(F::Xsaveopt)),
    row(0xae, "clflush",  Op::Clflush,  {ea(Mb)},  reg(7) | NP | sys),
    row(0xae, "clwb",     Op::Clwb,     {ea(Mb)},  reg(6) | P66 | sys | needs(F::Clwb)),
    row(0xae, "clflushopt", Op::Clflushopt, {ea(Mb)}, reg(7) | P66 | sys | needs(F::Clflushopt)),
    row(0xae, "clrssbsy", Op::Cet,      {rw(Mq)},  reg(6) | PF3 | cet | privileged | sets(OSZAPC)),
    row(0xae, "rdfsbase", Op::Rdfsbase, {w(Ry)},   reg(0) | PF3 | sys | in64 | needs(F::Fsgsbase)),
    row(0xae, "rdgsbase", Op::Rdgsbase, {w(Ry)},   reg(1) | PF3 | sys | in64 | needs(F::Fsgsbase)),
    row(0xae, "wrfsbase", Op::Wrfsbase, {Ry},      reg(2) | PF3 | sys | in64 | needs(F::Fsgsbase)),
    row(0xae, "wrgsbase", Op::Wrgsbase, {Ry},      reg(3) | PF3 | sys | in64 | needs(F::Fsgsbase)),
    row(0xae, "incssp",   Op::Cet,      {Ry},      reg(5) | PF3 | cet),
    row(0xae, "umonitor", Op::Umonitor, {Raddr},   reg(6) | PF3 | sys | needs(F::Waitpkg)),
    row(0xae, "umwait",   Op::Umwait,   {Rd},      reg(6) | PF2 | sys | ends | needs(F::Waitpkg) | reads(RAX, RDX) | sets(OSZAPC)),
    row(0xae, "tpause",   Op::Tpause,   {Rd},      reg(6) | P66 | sys | ends | needs(F::Waitpkg) | reads(RAX, RDX) | sets(OSZAPC)),
    row(0xae, "lfence",   Op::Lfence,   {},        reg(5) | NP | regform),
    row(0xae, "mfence",   Op::Mfence,   {},        reg(6) | NP | regform),
    row(0xae, "sfence",   Op::Sfence,   {},        reg(7) | NP | regform),

    row(0xaf, "imul",    Op::Imul,    {rw(Gv), Ev}, sets(OF | CF) | undef(SF | ZF | AF | PF)),
    row(0xb0, "cmpxchg", Op::Cmpxchg, {rw(Eb), Gb}, lock | arith | updates(RAX)),
    row(0xb1, "cmpxchg", Op::Cmpxchg, {rw(Ev), Gv}, lock | arith | updates(RAX)),
    row(0xb2, "lss",     Op::Lss,     {w(Gv), Mp}, sys | ends | fixed(SS)),
    row(0xb3, "btr",     Op::Btr,     {rw(Ev), Gv}, lock | bits),
    row(0xb4, "lfs",     Op::Lfs,     {w(Gv), Mp}, sys | ends | fixed(FS)),
    row(0xb5, "lgs",     Op::Lgs,     {w(Gv), Mp}, sys | ends | fixed(GS)),
    row(0xb6, "movzx",   Op::Movzx,   {w(Gv), Eb}, {}),
    row(0xb7, "movzx",   Op::Movzx,   {w(Gv), Ew}, {}),
    row(0xb8, "popcnt",  Op::Popcnt,  {w(Gv), Ev}, PF3 | arith | needs(F::Popcnt)),
    row(0xb9, "ud1",     Op::Ud1,     {Gv, ea(Ev)}, sys | ends),
    row(0xba, "bt",      Op::Bt,      {Ev, Ib}, reg(4) | bits),
    row(0xba, "bts",     Op::Bts,     {rw(Ev), Ib}, reg(5) | lock | bits),
    row(0xba, "btr",     Op::Btr,     {rw(Ev), Ib}, reg(6) | lock | bits),
    row(0xba, "btc",     Op::Btc,     {rw(Ev), Ib}, reg(7) | lock | bits),
    row(0xbb, "btc",     Op::Btc,     {rw(Ev), Gv}, lock | bits),
    row(0xbc, "tzcnt",   Op::Tzcnt,   {w(Gv), Ev}, PF3 | count_zeros),  // no feature: without BMI1 it is bsf
    row(0xbc, "bsf",     Op::Bsf,     {rw(Gv), Ev}, scan),  // destination unchanged when the source is 0
    row(0xbd, "lzcnt",   Op::Lzcnt,   {w(Gv), Ev}, PF3 | count_zeros),  // … without LZCNT it is bsr, and must not be #UD
    row(0xbd, "bsr",     Op::Bsr,     {rw(Gv), Ev}, scan),
    row(0xbe, "movsx",   Op::Movsx,   {w(Gv), Eb}, {}),
    row(0xbf, "movsx",   Op::Movsx,   {w(Gv), Ew}, {}),
    row(0xc0, "xadd",    Op::Xadd,    {rw(Eb), rw(Gb)}, lock | arith),
    row(0xc1, "xadd",    Op::Xadd,    {rw(Ev), rw(Gv)}, lock | arith),
    row(0xc3, "movnti",  Op::Movnti,  {w(My), Gy}, NP | needs(F::Sse2)),

    row(0xc7, "cmpxchg16b", Op::Cmpxchg8b16b, {rw(Mdq)}, reg(1) | W1 | in64 | lock | aligned | sets(ZF) | needs(F::Cx16) |
                                                          updates(RAX, RDX) | reads(RBX, RCX)),
    row(0xc7, "cmpxchg8b",  Op::Cmpxchg8b16b, {rw(Mq)},  reg(1) | lock | sets(ZF) | updates(RAX, RDX) | reads(RBX, RCX)),
    row(0xc7, "xrstors", Op::Xrstors, {Menv},     reg(3) | NP | save | privileged | needs(F::Xsaves)),
    row(0xc7, "xsavec",  Op::Xsavec,  {w(Menv)},  reg(4) | NP | save | needs(F::Xsavec)),
    row(0xc7, "xsaves",  Op::Xsaves,  {w(Menv)}, reg(5) | NP | save | privileged | needs(F::Xsaves)),
    row(0xc7, "vmptrld", Op::Vmx,     {Mq},       reg(6) | NP | vmx | sets(OSZAPC)),
    row(0xc7, "vmclear", Op::Vmx,     {w(Mq)},    reg(6) | P66 | vmx | sets(OSZAPC)),
    row(0xc7, "vmxon",   Op::Vmx,     {Mq},       reg(6) | PF3 | vmx | sets(OSZAPC)),
    row(0xc7, "vmptrst", Op::Vmx,     {w(Mq)},    reg(7) | NP | vmx | sets(OSZAPC)),
    row(0xc7, "rdrand",  Op::Rdrand,  {w(Rv)},    reg(6) | NFx | sys | random_flags | needs(F::Rdrand)),
    row(0xc7, "rdseed",  Op::Rdseed,  {w(Rv)},    reg(7) | NFx | sys | random_flags | needs(F::Rdseed)),
    row(0xc7, "rdpid",   Op::Rdpid,   {w(Rn)}, reg(7) | PF3 | sys | needs(F::Rdpid)),

    row(range(0xc8, 0xcf), "bswap", Op::Bswap, {rw(Zv)}, {}),
    row(0xff, "ud0", Op::Ud0, {Gv, ea(Ev)}, sys | ends),
};

constexpr Row kRows0F38[] = {
    row(0x80, "invept",  Op::Vmx, {Gn, Mdq}, P66 | vmx | sets(OSZAPC)),
    row(0x81, "invvpid", Op::Vmx, {Gn, Mdq}, P66 | vmx | sets(OSZAPC)),
    row(0x82, "invpcid", Op::Invpcid, {Gn, Mdq}, P66 | kernel | ends | needs(F::Invpcid)),
    row(0xf0, "crc32", Op::Crc32, {rw(Gy), Eb}, PF2 | needs(F::Sse4_2)),
    row(0xf1, "crc32", Op::Crc32, {rw(Gy), Ev}, PF2 | needs(F::Sse4_2)),
    row(0xf0, "movbe", Op::Movbe, {w(Gv), Mv}, NFx | needs(F::Movbe)),
    row(0xf1, "movbe", Op::Movbe, {w(Mv), Gv}, NFx | needs(F::Movbe)),
    row(0xf5, "wruss", Op::Cet, {w(My), Gy}, P66 | cet | privileged),
    row(0xf6, "wrss",  Op::Cet, {w(My), Gy}, NP | cet),
    row(0xf6, "adcx", Op::Adcx, {rw(Gy), Ey}, P66 | tests(CF) | sets(CF) | needs(F::Adx)),
    row(0xf6, "adox", Op::Adox, {rw(Gy), Ey}, PF3 | tests(OF) | sets(OF) | needs(F::Adx)),
    row(0xf8, "movdir64b", Op::Movdir64b, {ea(Gaddr), Mzz}, P66 | strings | needs(F::Movdir64b)),  // writes [reg]
    row(0xf9, "movdiri",   Op::Movdiri,   {w(My), Gy}, NP | needs(F::Movdiri)),
};
// clang-format on

constexpr auto kLookup0F = build<match_count(kRows0F)>(kRows0F);
constexpr auto kLookup0F38 = build<match_count(kRows0F38)>(kRows0F38);

}  // namespace

constinit const OpcodeMap kGeneral0F = view(kLookup0F);
constinit const OpcodeMap kGeneral0F38 = view(kLookup0F38);

}  // namespace nacre::x86
