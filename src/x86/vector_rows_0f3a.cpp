// The vector instructions of the 0F 3A opcode map, and RORX in VEX encoding.
// SDM vol. 2, appendix A, table A-5; chapters 3 to 5 for what the table has no room for.
#include "x86/vector_row.hpp"

namespace nacre::x86 {
namespace {

using namespace notation;

constexpr Property compares = sets(OSZAPC);  // CF ZF SF OF say the result, the others are cleared

// clang-format off
constexpr VectorRow kRows[] = {
    // ---- permutations, blends, inserts and extracts
    vrow(0x00, "vpermq", {w(Vx), Wx, Ib}, P66 | wide | W1, vex(F::Avx2) | E(F::Avx512f, b8)),
    vrow(0x01, "vpermpd", {w(Vx), Wx, Ib}, P66 | wide | W1, vex(F::Avx2) | E(F::Avx512f, b8)),
    vrow(0x02, "vpblendd", {w(Vx), Hx, Wx, Ib}, P66, AVX2),
    vrow(0x03, "valignd", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512f, b4)),
    vrow(0x03, "valignq", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512f, b8)),
    vrow(0x04, "vpermilps", {w(Vx), Wx, Ib}, P66, AVX_W0 | E(F::Avx512f, b4)),
    vrow(0x05, "vpermilpd", {w(Vx), Wx, Ib}, P66, AVX_W0 | E(F::Avx512f, b8)),
    vrow(0x06, "vperm2f128", {w(Vx), Hx, Wx, Ib}, P66, AVX_256),
    vrow(0x46, "vperm2i128", {w(Vx), Hx, Wx, Ib}, P66, AVX2_256),
    vrow(0x0c, "vblendps", {w(Vx), Hx, Wx, Ib}, P66, SSE41 | AVX),
    vrow(0x0d, "vblendpd", {w(Vx), Hx, Wx, Ib}, P66, SSE41 | AVX),
    vrow(0x0e, "vpblendw", {w(Vx), Hx, Wx, Ib}, P66, SSE41 | AVX_INT),
    vrow(0x0f, "vpalignr", {w(Vx), Hx, Wx, Ib}, P66, MMX_SSSE3 | SSSE3 | AVX_INT | E(F::Avx512bw, e1)),
    vrow(0x14, "vpextrb", {w(Rd), Vdq, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512bw, L0)),
    vrow(0x14, "vpextrb", {w(Mb), Vdq, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512bw, L0)),
    vrow(0x15, "vpextrw", {w(Rd), Vdq, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512bw, L0)),
    vrow(0x15, "vpextrw", {w(Mw), Vdq, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512bw, L0)),
    vrow(0x16, "vpextrd", {w(Ey), Vdq, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512dq, L0)),
    vrow(0x17, "vextractps", {w(Ed), Vdq, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512f, L0)),
    vrow(0x20, "vpinsrb", {w(Vdq), Hdq, Rd, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512bw, L0)),
    vrow(0x20, "vpinsrb", {w(Vdq), Hdq, Mb, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512bw, L0)),
    vrow(0x21, "vinsertps", {w(Vdq), Hdq, Wd, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512f, L0 | W0)),
    vrow(0x22, "vpinsrd", {w(Vdq), Hdq, Ey, Ib}, P66, SSE41 | AVX_128 | E(F::Avx512dq, L0)),
    vrow(0x18, "vinsertf128", {w(Vx), Hx, Wdq, Ib}, P66, AVX_256),
    vrow(0x18, "vinsertf32x4", {w(Vx), Hx, Wdq, Ib}, P66 | wide, E(F::Avx512f, e4)),
    vrow(0x18, "vinsertf64x2", {w(Vx), Hx, Wdq, Ib}, P66 | wide, E(F::Avx512dq, e8)),
    vrow(0x19, "vextractf128", {w(Wdq), Vx, Ib}, P66, AVX_256),
    vrow(0x19, "vextractf32x4", {w(Wdq), Vx, Ib}, P66 | wide, E(F::Avx512f, e4)),
    vrow(0x19, "vextractf64x2", {w(Wdq), Vx, Ib}, P66 | wide, E(F::Avx512dq, e8)),
    vrow(0x1a, "vinsertf32x8", {w(Vx), Hx, Wqq, Ib}, P66 | L2, E(F::Avx512dq, e4)),
    vrow(0x1a, "vinsertf64x4", {w(Vx), Hx, Wqq, Ib}, P66 | L2, E(F::Avx512f, e8)),
    vrow(0x1b, "vextractf32x8", {w(Wqq), Vx, Ib}, P66 | L2, E(F::Avx512dq, e4)),
    vrow(0x1b, "vextractf64x4", {w(Wqq), Vx, Ib}, P66 | L2, E(F::Avx512f, e8)),
    vrow(0x38, "vinserti128", {w(Vx), Hx, Wdq, Ib}, P66, AVX2_256),
    vrow(0x38, "vinserti32x4", {w(Vx), Hx, Wdq, Ib}, P66 | wide, E(F::Avx512f, e4)),
    vrow(0x38, "vinserti64x2", {w(Vx), Hx, Wdq, Ib}, P66 | wide, E(F::Avx512dq, e8)),
    vrow(0x39, "vextracti128", {w(Wdq), Vx, Ib}, P66, AVX2_256),
    vrow(0x39, "vextracti32x4", {w(Wdq), Vx, Ib}, P66 | wide, E(F::Avx512f, e4)),
    vrow(0x39, "vextracti64x2", {w(Wdq), Vx, Ib}, P66 | wide, E(F::Avx512dq, e8)),
    vrow(0x3a, "vinserti32x8", {w(Vx), Hx, Wqq, Ib}, P66 | L2, E(F::Avx512dq, e4)),
    vrow(0x3a, "vinserti64x4", {w(Vx), Hx, Wqq, Ib}, P66 | L2, E(F::Avx512f, e8)),
    vrow(0x3b, "vextracti32x8", {w(Wqq), Vx, Ib}, P66 | L2, E(F::Avx512dq, e4)),
    vrow(0x3b, "vextracti64x4", {w(Wqq), Vx, Ib}, P66 | L2, E(F::Avx512f, e8)),
    vrow(0x23, "vshuff32x4", {w(Vx), Hx, Wx, Ib}, P66 | wide, E(F::Avx512f, b4)),
    vrow(0x23, "vshuff64x2", {w(Vx), Hx, Wx, Ib}, P66 | wide, E(F::Avx512f, b8)),
    vrow(0x43, "vshufi32x4", {w(Vx), Hx, Wx, Ib}, P66 | wide, E(F::Avx512f, b4)),
    vrow(0x43, "vshufi64x2", {w(Vx), Hx, Wx, Ib}, P66 | wide, E(F::Avx512f, b8)),
    vrow(0x4a, "vblendvps", {w(Vx), Hx, Wx, Lx}, P66, AVX_W0),
    vrow(0x4b, "vblendvpd", {w(Vx), Hx, Wx, Lx}, P66, AVX_W0),
    vrow(0x4c, "vpblendvb", {w(Vx), Hx, Wx, Lx}, P66, vex(F::Avx, W0 | int256)),

    // ---- floating point
    vrow(0x08, "vroundps", {w(Vx), Wx, Ib}, P66, SSE41 | AVX),
    vrow(0x09, "vroundpd", {w(Vx), Wx, Ib}, P66, SSE41 | AVX),
    vrow(0x0a, "vroundss", {w(Vdq), Hdq, Wd, Ib}, P66, SSE41 | AVX),
    vrow(0x0b, "vroundsd", {w(Vdq), Hdq, Wq, Ib}, P66, SSE41 | AVX),
    vrow(0x08, "vrndscaleps", {w(Vx), Wx, Ib}, P66, E(F::Avx512f, b4 | sae)),
    vrow(0x09, "vrndscalepd", {w(Vx), Wx, Ib}, P66, E(F::Avx512f, b8 | sae)),
    vrow(0x0a, "vrndscaless", {w(Vdq), Hdq, Wd, Ib}, P66, E(F::Avx512f, e4 | sae)),
    vrow(0x0b, "vrndscalesd", {w(Vdq), Hdq, Wq, Ib}, P66, E(F::Avx512f, e8 | sae)),
    vrow(0x1d, "vcvtps2ph", {w(Whalf), Vx, Ib}, P66, vex(F::F16c, W0) | E(F::Avx512f, e2 | W0 | sae)),
    vrow(0x26, "vgetmantps", {w(Vx), Wx, Ib}, P66, E(F::Avx512f, b4 | sae)),
    vrow(0x26, "vgetmantpd", {w(Vx), Wx, Ib}, P66, E(F::Avx512f, b8 | sae)),
    vrow(0x27, "vgetmantss", {w(Vdq), Hdq, Wd, Ib}, P66, E(F::Avx512f, e4 | sae)),
    vrow(0x27, "vgetmantsd", {w(Vdq), Hdq, Wq, Ib}, P66, E(F::Avx512f, e8 | sae)),
    vrow(0x50, "vrangeps", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512dq, b4 | sae)),
    vrow(0x50, "vrangepd", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512dq, b8 | sae)),
    vrow(0x51, "vrangess", {w(Vdq), Hdq, Wd, Ib}, P66, E(F::Avx512dq, e4 | sae)),
    vrow(0x51, "vrangesd", {w(Vdq), Hdq, Wq, Ib}, P66, E(F::Avx512dq, e8 | sae)),
    vrow(0x54, "vfixupimmps", {rw(Vx), Hx, Wx, Ib}, P66, E(F::Avx512f, b4 | sae)),
    vrow(0x54, "vfixupimmpd", {rw(Vx), Hx, Wx, Ib}, P66, E(F::Avx512f, b8 | sae)),
    vrow(0x55, "vfixupimmss", {rw(Vdq), Hdq, Wd, Ib}, P66, E(F::Avx512f, e4 | sae)),
    vrow(0x55, "vfixupimmsd", {rw(Vdq), Hdq, Wq, Ib}, P66, E(F::Avx512f, e8 | sae)),
    vrow(0x56, "vreduceps", {w(Vx), Wx, Ib}, P66, E(F::Avx512dq, b4 | sae)),
    vrow(0x56, "vreducepd", {w(Vx), Wx, Ib}, P66, E(F::Avx512dq, b8 | sae)),
    vrow(0x57, "vreducess", {w(Vdq), Hdq, Wd, Ib}, P66, E(F::Avx512dq, e4 | sae)),
    vrow(0x57, "vreducesd", {w(Vdq), Hdq, Wq, Ib}, P66, E(F::Avx512dq, e8 | sae)),
    vrow(0x66, "vfpclassps", {w(Kreg), Wx, Ib}, P66, E(F::Avx512dq, b4)),
    vrow(0x66, "vfpclasspd", {w(Kreg), Wx, Ib}, P66, E(F::Avx512dq, b8)),
    vrow(0x67, "vfpclassss", {w(Kreg), Wd, Ib}, P66, E(F::Avx512dq, e4)),
    vrow(0x67, "vfpclasssd", {w(Kreg), Wq, Ib}, P66, E(F::Avx512dq, e8)),
    vrow(0x40, "vdpps", {w(Vx), Hx, Wx, Ib}, P66, SSE41 | AVX),
    vrow(0x41, "vdppd", {w(Vdq), Hdq, Wdq, Ib}, P66, SSE41 | AVX_128),

    // ---- integers
    vrow(0x42, "vmpsadbw", {w(Vx), Hx, Wx, Ib}, P66, SSE41 | AVX_INT),
    vrow(0x42, "vdbpsadbw", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512bw, e2 | W0)),
    vrow(0x25, "vpternlogd", {rw(Vx), Hx, Wx, Ib}, P66, E(F::Avx512f, b4)),
    vrow(0x25, "vpternlogq", {rw(Vx), Hx, Wx, Ib}, P66, E(F::Avx512f, b8)),
    vrow(0x1e, "vpcmpud", {w(Kreg), Hx, Wx, Ib}, P66, E(F::Avx512f, b4)),
    vrow(0x1e, "vpcmpuq", {w(Kreg), Hx, Wx, Ib}, P66, E(F::Avx512f, b8)),
    vrow(0x1f, "vpcmpd", {w(Kreg), Hx, Wx, Ib}, P66, E(F::Avx512f, b4)),
    vrow(0x1f, "vpcmpq", {w(Kreg), Hx, Wx, Ib}, P66, E(F::Avx512f, b8)),
    vrow(0x3e, "vpcmpub", {w(Kreg), Hx, Wx, Ib}, P66, E(F::Avx512bw, e1 | W0)),
    vrow(0x3e, "vpcmpuw", {w(Kreg), Hx, Wx, Ib}, P66, E(F::Avx512bw, e2 | W1)),
    vrow(0x3f, "vpcmpb", {w(Kreg), Hx, Wx, Ib}, P66, E(F::Avx512bw, e1 | W0)),
    vrow(0x3f, "vpcmpw", {w(Kreg), Hx, Wx, Ib}, P66, E(F::Avx512bw, e2 | W1)),
    vrow(0x70, "vpshldw", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512Vbmi2, e2 | W1)),
    vrow(0x71, "vpshldd", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512Vbmi2, b4)),
    vrow(0x71, "vpshldq", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512Vbmi2, b8)),
    vrow(0x72, "vpshrdw", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512Vbmi2, e2 | W1)),
    vrow(0x73, "vpshrdd", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512Vbmi2, b4)),
    vrow(0x73, "vpshrdq", {w(Vx), Hx, Wx, Ib}, P66, E(F::Avx512Vbmi2, b8)),

    // ---- strings: explicit length in eAX and eDX, index result in ECX
    vrow(0x60, "vpcmpestrm", {Vdq, Wdq, Ib}, P66 | unaligned | compares | reads(RAX, RDX), SSE42 | AVX_128),
    vrow(0x61, "vpcmpestri", {Vdq, Wdq, Ib}, P66 | unaligned | compares | reads(RAX, RDX) | writes(RCX), SSE42 | AVX_128),
    vrow(0x62, "vpcmpistrm", {Vdq, Wdq, Ib}, P66 | unaligned | compares, SSE42 | AVX_128),
    vrow(0x63, "vpcmpistri", {Vdq, Wdq, Ib}, P66 | unaligned | compares | writes(RCX), SSE42 | AVX_128),

    // ---- carry-less multiplication, AES, SHA, GFNI
    vrow(0x44, "vpclmulqdq", {w(Vx), Hx, Wx, Ib}, P66, sse(F::Pclmulqdq) | vex(F::Pclmulqdq, L0) | E(F::Vpclmulqdq)),
    vrow(0x44, "vpclmulqdq", {w(Vx), Hx, Wx, Ib}, P66, vex(F::Vpclmulqdq, L1)),
    vrow(0xdf, "vaeskeygenassist", {w(Vdq), Wdq, Ib}, P66, sse(F::Aes) | vex(F::Aes, L0)),
    vrow(0xcc, "sha1rnds4", {rw(Vdq), Wdq, Ib}, NP, sse(F::Sha)),
    vrow(0xce, "vgf2p8affineqb", {w(Vx), Hx, Wx, Ib}, P66, sse(F::Gfni) | vex(F::Gfni, W1) | E(F::Gfni, element(1) | masked | W1 | broadcast)),
    vrow(0xcf, "vgf2p8affineinvqb", {w(Vx), Hx, Wx, Ib}, P66, sse(F::Gfni) | vex(F::Gfni, W1) | E(F::Gfni, element(1) | masked | W1 | broadcast)),

    // ---- mask registers
    vrow(0x30, "kshiftrb", {w(Kreg), Kr, Ib}, P66, vex(F::Avx512dq, L0 | W0)),
    vrow(0x30, "kshiftrw", {w(Kreg), Kr, Ib}, P66, vex(F::Avx512f, L0 | W1)),
    vrow(0x31, "kshiftrd", {w(Kreg), Kr, Ib}, P66, vex(F::Avx512bw, L0 | W0)),
    vrow(0x31, "kshiftrq", {w(Kreg), Kr, Ib}, P66, vex(F::Avx512bw, L0 | W1)),
    vrow(0x32, "kshiftlb", {w(Kreg), Kr, Ib}, P66, vex(F::Avx512dq, L0 | W0)),
    vrow(0x32, "kshiftlw", {w(Kreg), Kr, Ib}, P66, vex(F::Avx512f, L0 | W1)),
    vrow(0x33, "kshiftld", {w(Kreg), Kr, Ib}, P66, vex(F::Avx512bw, L0 | W0)),
    vrow(0x33, "kshiftlq", {w(Kreg), Kr, Ib}, P66, vex(F::Avx512bw, L0 | W1)),

    // ---- BMI2 in VEX encoding
    vrow(0xf0, "rorx", {w(Gy), Ey, Ib}, PF2 | is(Class::Plain) | op(Op::Rorx), vex(F::Bmi2, L0)),
};
// clang-format on

constexpr usize kLegacy = form_count(kRows, FormKind::Mmx) + form_count(kRows, FormKind::Sse);
constexpr auto kSseRows = expand_all<kLegacy>(kRows, FormKind::Mmx, FormKind::Sse);
constexpr auto kVexRows = expand_all<form_count(kRows, FormKind::Vex)>(kRows, FormKind::Vex, FormKind::Vex);
constexpr auto kEvexRows = expand_all<form_count(kRows, FormKind::Evex)>(kRows, FormKind::Evex, FormKind::Evex);
constexpr auto kSse = build<match_count(kSseRows.list)>(kSseRows.list);
constexpr auto kVex = build<match_count(kVexRows.list)>(kVexRows.list);
constexpr auto kEvex = build<match_count(kEvexRows.list)>(kEvexRows.list);

}  // namespace

constinit const OpcodeMap kSse0F3A = view(kSse);
constinit const OpcodeMap kVex0F3A = view(kVex);
constinit const OpcodeMap kEvex0F3A = view(kEvex);

}  // namespace nacre::x86
