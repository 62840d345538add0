// The x87 escape opcodes. SDM vol. 2, appendix A.5. The aliases that processors execute but the manual
// leaves out (DC D0: fcom and so on) are here too: compilers do not make them, disassemblers know them.
#include "x86/row.hpp"

namespace nacre::x86 {
namespace {

using namespace notation;

constexpr Property fpu = is(Class::X87);
constexpr Property st(unsigned value) { return fpu | regform | reg(value); }         // /digit on ST(i)
constexpr Property byte(unsigned value) { return fpu | modrm(value); }               // one ModRM byte
constexpr Property at(unsigned value) { return fpu | reg(value); }                   // /digit on memory
constexpr Property whole(unsigned value) { return sys | reg(value); }                // the unit's state
constexpr Property compares = sets(OSZAPC);                                          // ZF PF CF; the others are cleared

// clang-format off
constexpr Row kRows[] = {
    row(0xd8, "fadd",  Op::X87, {Md}, at(0)), row(0xd8, "fmul",  Op::X87, {Md}, at(1)),
    row(0xd8, "fcom",  Op::X87, {Md}, at(2)), row(0xd8, "fcomp", Op::X87, {Md}, at(3)),
    row(0xd8, "fsub",  Op::X87, {Md}, at(4)), row(0xd8, "fsubr", Op::X87, {Md}, at(5)),
    row(0xd8, "fdiv",  Op::X87, {Md}, at(6)), row(0xd8, "fdivr", Op::X87, {Md}, at(7)),
    row(0xd8, "fadd",  Op::X87, {St}, st(0)), row(0xd8, "fmul",  Op::X87, {St}, st(1)),
    row(0xd8, "fcom",  Op::X87, {St}, st(2)), row(0xd8, "fcomp", Op::X87, {St}, st(3)),
    row(0xd8, "fsub",  Op::X87, {St}, st(4)), row(0xd8, "fsubr", Op::X87, {St}, st(5)),
    row(0xd8, "fdiv",  Op::X87, {St}, st(6)), row(0xd8, "fdivr", Op::X87, {St}, st(7)),

    row(0xd9, "fld",    Op::X87,     {Md},      at(0)),
    row(0xd9, "fst",    Op::X87,     {w(Md)},   at(2)),
    row(0xd9, "fstp",   Op::X87,     {w(Md)},   at(3)),
    row(0xd9, "fldenv", Op::Fldenv,  {Menv},    whole(4)),
    row(0xd9, "fldcw",  Op::X87,     {Mw},      at(5)),
    row(0xd9, "fnstenv", Op::Fnstenv, {w(Menv)}, whole(6)),
    row(0xd9, "fnstcw", Op::X87,     {w(Mw)},   at(7)),
    row(0xd9, "fld",    Op::X87, {St}, st(0)),
    row(0xd9, "fxch",   Op::X87, {St}, st(1)),
    row(0xd9, "fnop",   Op::X87, {},   byte(0xd0)),
    row(0xd9, "fstpnce", Op::X87, {St}, st(3)),
    row(0xd9, "fchs",    Op::X87, {}, byte(0xe0)), row(0xd9, "fabs",    Op::X87, {}, byte(0xe1)),
    row(0xd9, "ftst",    Op::X87, {}, byte(0xe4)), row(0xd9, "fxam",    Op::X87, {}, byte(0xe5)),
    row(0xd9, "fld1",    Op::X87, {}, byte(0xe8)), row(0xd9, "fldl2t",  Op::X87, {}, byte(0xe9)),
    row(0xd9, "fldl2e",  Op::X87, {}, byte(0xea)), row(0xd9, "fldpi",   Op::X87, {}, byte(0xeb)),
    row(0xd9, "fldlg2",  Op::X87, {}, byte(0xec)), row(0xd9, "fldln2",  Op::X87, {}, byte(0xed)),
    row(0xd9, "fldz",    Op::X87, {}, byte(0xee)),
    row(0xd9, "f2xm1",   Op::X87, {}, byte(0xf0)), row(0xd9, "fyl2x",   Op::X87, {}, byte(0xf1)),
    row(0xd9, "fptan",   Op::X87, {}, byte(0xf2)), row(0xd9, "fpatan",  Op::X87, {}, byte(0xf3)),
    row(0xd9, "fxtract", Op::X87, {}, byte(0xf4)), row(0xd9, "fprem1",  Op::X87, {}, byte(0xf5)),
    row(0xd9, "fdecstp", Op::X87, {}, byte(0xf6)), row(0xd9, "fincstp", Op::X87, {}, byte(0xf7)),
    row(0xd9, "fprem",   Op::X87, {}, byte(0xf8)), row(0xd9, "fyl2xp1", Op::X87, {}, byte(0xf9)),
    row(0xd9, "fsqrt",   Op::X87, {}, byte(0xfa)), row(0xd9, "fsincos", Op::X87, {}, byte(0xfb)),
    row(0xd9, "frndint", Op::X87, {}, byte(0xfc)), row(0xd9, "fscale",  Op::X87, {}, byte(0xfd)),
    row(0xd9, "fsin",    Op::X87, {}, byte(0xfe)), row(0xd9, "fcos",    Op::X87, {}, byte(0xff)),

    row(0xda, "fiadd", Op::X87, {Md}, at(0)), row(0xda, "fimul",  Op::X87, {Md}, at(1)),
    row(0xda, "ficom", Op::X87, {Md}, at(2)), row(0xda, "ficomp", Op::X87, {Md}, at(3)),
    row(0xda, "fisub", Op::X87, {Md}, at(4)), row(0xda, "fisubr", Op::X87, {Md}, at(5)),
    row(0xda, "fidiv", Op::X87, {Md}, at(6)), row(0xda, "fidivr", Op::X87, {Md}, at(7)),
    row(0xda, "fcmovb",  Op::X87, {St}, st(0) | tests(CF)),
    row(0xda, "fcmove",  Op::X87, {St}, st(1) | tests(ZF)),
    row(0xda, "fcmovbe", Op::X87, {St}, st(2) | tests(CF | ZF)),
    row(0xda, "fcmovu",  Op::X87, {St}, st(3) | tests(PF)),
    row(0xda, "fucompp", Op::X87, {},   byte(0xe9)),

    row(0xdb, "fild",   Op::X87, {Md},    at(0)),
    row(0xdb, "fisttp", Op::X87, {w(Md)}, at(1) | needs(Feature::Sse3)),
    row(0xdb, "fist",   Op::X87, {w(Md)}, at(2)),
    row(0xdb, "fistp",  Op::X87, {w(Md)}, at(3)),
    row(0xdb, "fld",    Op::X87, {Mt},    at(5)),
    row(0xdb, "fstp",   Op::X87, {w(Mt)}, at(7)),
    row(0xdb, "fcmovnb",  Op::X87, {St}, st(0) | tests(CF)),
    row(0xdb, "fcmovne",  Op::X87, {St}, st(1) | tests(ZF)),
    row(0xdb, "fcmovnbe", Op::X87, {St}, st(2) | tests(CF | ZF)),
    row(0xdb, "fcmovnu",  Op::X87, {St}, st(3) | tests(PF)),
    row(0xdb, "feni8087_nop",     Op::X87, {},   byte(0xe0)),  // 8087: nothing since the 80287
    row(0xdb, "fdisi8087_nop",    Op::X87, {},   byte(0xe1)),
    row(0xdb, "fnclex",   Op::X87, {},   byte(0xe2)),
    row(0xdb, "fninit",   Op::X87, {},   byte(0xe3)),
    row(0xdb, "fsetpm287_nop",   Op::X87, {},   byte(0xe4)),
    row(0xdb, "fucomi",   Op::X87, {St}, st(5) | compares),
    row(0xdb, "fcomi",    Op::X87, {St}, st(6) | compares),

    row(0xdc, "fadd",  Op::X87, {Mq}, at(0)), row(0xdc, "fmul",  Op::X87, {Mq}, at(1)),
    row(0xdc, "fcom",  Op::X87, {Mq}, at(2)), row(0xdc, "fcomp", Op::X87, {Mq}, at(3)),
    row(0xdc, "fsub",  Op::X87, {Mq}, at(4)), row(0xdc, "fsubr", Op::X87, {Mq}, at(5)),
    row(0xdc, "fdiv",  Op::X87, {Mq}, at(6)), row(0xdc, "fdivr", Op::X87, {Mq}, at(7)),
    row(0xdc, "fadd",  Op::X87, {rw(St)}, st(0)), row(0xdc, "fmul",  Op::X87, {rw(St)}, st(1)),
    row(0xdc, "fcom", Op::X87, {St},     st(2)), row(0xdc, "fcomp", Op::X87, {St},    st(3)),
    row(0xdc, "fsubr", Op::X87, {rw(St)}, st(4)), row(0xdc, "fsub",  Op::X87, {rw(St)}, st(5)),
    row(0xdc, "fdivr", Op::X87, {rw(St)}, st(6)), row(0xdc, "fdiv",  Op::X87, {rw(St)}, st(7)),

    row(0xdd, "fld",    Op::X87,    {Mq},       at(0)),
    row(0xdd, "fisttp", Op::X87,    {w(Mq)},    at(1) | needs(Feature::Sse3)),
    row(0xdd, "fst",    Op::X87,    {w(Mq)},    at(2)),
    row(0xdd, "fstp",   Op::X87,    {w(Mq)},    at(3)),
    row(0xdd, "frstor", Op::Frstor, {Menv},     whole(4)),
    row(0xdd, "fnsave", Op::Fnsave, {w(Menv)},  whole(6)),
    row(0xdd, "fnstsw", Op::X87,    {w(Mw)},    at(7)),
    row(0xdd, "ffree",  Op::X87, {St},    st(0)),
    row(0xdd, "fxch",  Op::X87, {St},    st(1)),
    row(0xdd, "fst",    Op::X87, {w(St)}, st(2)),
    row(0xdd, "fstp",   Op::X87, {w(St)}, st(3)),
    row(0xdd, "fucom",  Op::X87, {St},    st(4)),
    row(0xdd, "fucomp", Op::X87, {St},    st(5)),

    row(0xde, "fiadd", Op::X87, {Mw}, at(0)), row(0xde, "fimul",  Op::X87, {Mw}, at(1)),
    row(0xde, "ficom", Op::X87, {Mw}, at(2)), row(0xde, "ficomp", Op::X87, {Mw}, at(3)),
    row(0xde, "fisub", Op::X87, {Mw}, at(4)), row(0xde, "fisubr", Op::X87, {Mw}, at(5)),
    row(0xde, "fidiv", Op::X87, {Mw}, at(6)), row(0xde, "fidivr", Op::X87, {Mw}, at(7)),
    row(0xde, "faddp",  Op::X87, {rw(St)}, st(0)), row(0xde, "fmulp", Op::X87, {rw(St)}, st(1)),
    row(0xde, "fcomp", Op::X87, {St},     st(2)), row(0xde, "fcompp", Op::X87, {},      byte(0xd9)),
    row(0xde, "fsubrp", Op::X87, {rw(St)}, st(4)), row(0xde, "fsubp", Op::X87, {rw(St)}, st(5)),
    row(0xde, "fdivrp", Op::X87, {rw(St)}, st(6)), row(0xde, "fdivp", Op::X87, {rw(St)}, st(7)),

    row(0xdf, "fild",   Op::X87, {Mw},    at(0)),
    row(0xdf, "fisttp", Op::X87, {w(Mw)}, at(1) | needs(Feature::Sse3)),
    row(0xdf, "fist",   Op::X87, {w(Mw)}, at(2)),
    row(0xdf, "fistp",  Op::X87, {w(Mw)}, at(3)),
    row(0xdf, "fbld",   Op::X87, {Mt},    at(4)),
    row(0xdf, "fild",   Op::X87, {Mq},    at(5)),
    row(0xdf, "fbstp",  Op::X87, {w(Mt)}, at(6)),
    row(0xdf, "fistp",  Op::X87, {w(Mq)}, at(7)),
    row(0xdf, "ffreep", Op::X87, {St},    st(0)),
    row(0xdf, "fxch",  Op::X87, {St},    st(1)),
    row(0xdf, "fstp",  Op::X87, {w(St)}, st(2)),
    row(0xdf, "fstp",  Op::X87, {w(St)}, st(3)),
    row(0xdf, "fnstsw", Op::X87, {w(AX)}, byte(0xe0)),
    row(0xdf, "fucomip", Op::X87, {St},   st(5) | compares),
    row(0xdf, "fcomip",  Op::X87, {St},   st(6) | compares),
};
// clang-format on

constexpr auto kLookup = build<match_count(kRows)>(kRows);

}  // namespace

constinit const OpcodeMap kX87Map = view(kLookup);

}  // namespace nacre::x86
