#include "cpu/model_features.hpp"

namespace nacre::cpu {
namespace {

using F = x86::Feature;
using W = CpuidWord;
constexpr auto kHost = FeatureRow::Source::Host;
constexpr auto kTold = FeatureRow::Source::Describes;
constexpr auto kOurs = FeatureRow::Source::Ours;
constexpr auto kBoard = FeatureRow::Source::Board;
constexpr Level V2 = Level::V2, V3 = Level::V3, V4 = Level::V4, kAll = Level::Host;
constexpr u64 kX = Xcr0::x87 | Xcr0::SSE;
constexpr u64 kY = kX | Xcr0::AVX;
constexpr u64 kZ = kY | Xcr0::opmask | Xcr0::ZMM_Hi256 | Xcr0::Hi16_ZMM;

}  // namespace

// Order: by word and bit.
const FeatureRow feature_rows[] = {
    {"fpu", W::L1Edx, 0, V2},
    {"de", W::L1Edx, 2, V2, kOurs},
    {"pse", W::L1Edx, 3, V2, kOurs},
    {"tsc", W::L1Edx, 4, V2, kOurs},
    {"msr", W::L1Edx, 5, V2, kOurs},
    {"pae", W::L1Edx, 6, V2, kOurs},
    {"cx8", W::L1Edx, 8, V2},
    {"apic", W::L1Edx, 9, V2, kBoard},
    {"sep", W::L1Edx, 11, V2, kOurs},
    {"mtrr", W::L1Edx, 12, V2, kOurs},
    {"pge", W::L1Edx, 13, V2, kOurs},
    {"cmov", W::L1Edx, 15, V2},
    {"pat", W::L1Edx, 16, V2, kOurs},
    {"pse36", W::L1Edx, 17, V2, kOurs},
    {"clfsh", W::L1Edx, 19, V2, kOurs},
    {"mmx", W::L1Edx, 23, V2, kHost, 0, F::Mmx},
    {"fxsr", W::L1Edx, 24, V2, kHost, 0, F::Fxsr},
    {"sse", W::L1Edx, 25, V2, kHost, 0, F::Sse},
    {"sse2", W::L1Edx, 26, V2, kHost, 0, F::Sse2},

    {"sse3", W::L1Ecx, 0, V2, kHost, 0, F::Sse3},
    {"pclmulqdq", W::L1Ecx, 1, kAll, kHost, 0, F::Pclmulqdq},
    {"ssse3", W::L1Ecx, 9, V2, kHost, 0, F::Ssse3},
    {"fma", W::L1Ecx, 12, V3, kHost, kY, F::Fma},
    {"cx16", W::L1Ecx, 13, V2, kHost, 0, F::Cx16},
    {"pcid", W::L1Ecx, 17, V2, kOurs},
    {"sse4_1", W::L1Ecx, 19, V2, kHost, 0, F::Sse4_1},
    {"sse4_2", W::L1Ecx, 20, V2, kHost, 0, F::Sse4_2},
    {"x2apic", W::L1Ecx, 21, V2, kBoard},
    {"movbe", W::L1Ecx, 22, V3, kHost, 0, F::Movbe},
    {"popcnt", W::L1Ecx, 23, V2, kHost, 0, F::Popcnt},
    {"tsc_deadline", W::L1Ecx, 24, V2, kBoard},
    {"aes", W::L1Ecx, 25, kAll, kHost, 0, F::Aes},
    {"xsave", W::L1Ecx, 26, V3, kHost, kX, F::Xsave},
    {"avx", W::L1Ecx, 28, V3, kHost, kY, F::Avx},
    {"f16c", W::L1Ecx, 29, V3, kHost, kY, F::F16c},
    {"rdrand", W::L1Ecx, 30, V2, kOurs, 0, F::Rdrand},
    {"hypervisor", W::L1Ecx, 31, V2, kBoard},

    {"fsgsbase", W::L7Ebx, 0, V2, kOurs, 0, F::Fsgsbase},
    {"tsc_adjust", W::L7Ebx, 1, V2, kBoard},
    {"bmi1", W::L7Ebx, 3, V3, kHost, 0, F::Bmi1},
    {"avx2", W::L7Ebx, 5, V3, kHost, kY, F::Avx2},
    {"fdp_excptn_only", W::L7Ebx, 6, V2, kTold},  // how the host's x87 behaves, which is the guest's
    {"smep", W::L7Ebx, 7, V2, kOurs},
    {"bmi2", W::L7Ebx, 8, V3, kHost, 0, F::Bmi2},
    {"erms", W::L7Ebx, 9, V2, kTold},
    {"invpcid", W::L7Ebx, 10, V2, kOurs, 0, F::Invpcid},
    {"zero_fcs_fds", W::L7Ebx, 13, V2, kTold},  // likewise the host's x87
    {"avx512f", W::L7Ebx, 16, V4, kHost, kZ, F::Avx512f},
    {"avx512dq", W::L7Ebx, 17, V4, kHost, kZ, F::Avx512dq},
    {"rdseed", W::L7Ebx, 18, V2, kOurs, 0, F::Rdseed},
    {"adx", W::L7Ebx, 19, kAll, kHost, 0, F::Adx},
    {"smap", W::L7Ebx, 20, V2, kOurs, 0, F::Smap},
    {"avx512ifma", W::L7Ebx, 21, kAll, kHost, kZ, F::Avx512Ifma},
    {"clflushopt", W::L7Ebx, 23, V2, kOurs, 0, F::Clflushopt},
    {"clwb", W::L7Ebx, 24, V2, kOurs, 0, F::Clwb},
    {"avx512cd", W::L7Ebx, 28, V4, kHost, kZ, F::Avx512cd},
    {"sha", W::L7Ebx, 29, kAll, kHost, 0, F::Sha},
    {"avx512bw", W::L7Ebx, 30, V4, kHost, kZ, F::Avx512bw},
    {"avx512vl", W::L7Ebx, 31, V4, kHost, kZ},

    {"avx512vbmi", W::L7Ecx, 1, kAll, kHost, kZ, F::Avx512Vbmi},
    {"umip", W::L7Ecx, 2, V2, kOurs},
    {"pku", W::L7Ecx, 3, V3, kOurs, Xcr0::PKRU, F::Pku},  // where it is asked for
    {"avx512vbmi2", W::L7Ecx, 6, kAll, kHost, kZ, F::Avx512Vbmi2},
    {"gfni", W::L7Ecx, 8, kAll, kHost, 0, F::Gfni},
    {"vaes", W::L7Ecx, 9, kAll, kHost, kY, F::Vaes},
    {"vpclmulqdq", W::L7Ecx, 10, kAll, kHost, kY, F::Vpclmulqdq},
    {"avx512vnni", W::L7Ecx, 11, kAll, kHost, kZ, F::Avx512Vnni},
    {"avx512bitalg", W::L7Ecx, 12, kAll, kHost, kZ, F::Avx512Bitalg},
    {"avx512vpopcntdq", W::L7Ecx, 14, kAll, kHost, kZ, F::Avx512Vpopcntdq},
    {"rdpid", W::L7Ecx, 22, V2, kOurs, 0, F::Rdpid},
    {"cldemote", W::L7Ecx, 25, kAll, kHost, 0, F::Cldemote},
    {"movdiri", W::L7Ecx, 27, kAll, kHost, 0, F::Movdiri},
    {"movdir64b", W::L7Ecx, 28, kAll, kHost, 0, F::Movdir64b},

    {"fsrm", W::L7Edx, 4, V2, kTold},
    {"serialize", W::L7Edx, 14, kAll, kHost, 0, F::Serialize},

    {"avx_vnni", W::L7s1Eax, 4, kAll, kHost, kY, F::AvxVnni},
    {"avx512_bf16", W::L7s1Eax, 5, kAll, kHost, kZ, F::Avx512Bf16},
    {"fzrm", W::L7s1Eax, 10, V2, kTold},
    {"fsrs", W::L7s1Eax, 11, V2, kTold},
    {"fsrc", W::L7s1Eax, 12, V2, kTold},

    {"xsaveopt", W::Lds1Eax, 0, V3, kOurs, kX, F::Xsaveopt},
    {"xsavec", W::Lds1Eax, 1, V3, kOurs, kX, F::Xsavec},
    {"xgetbv1", W::Lds1Eax, 2, V3, kOurs, kX},

    {"syscall", W::X1Edx, 11, V2, kOurs},
    {"nx", W::X1Edx, 20, V2, kOurs},
    {"pdpe1gb", W::X1Edx, 26, V2, kOurs},
    {"rdtscp", W::X1Edx, 27, V2, kOurs, 0, F::Rdtscp},
    {"lm", W::X1Edx, 29, V2, kOurs},

    {"lahf_lm", W::X1Ecx, 0, V2, kHost, 0, F::LahfLm},
    {"abm", W::X1Ecx, 5, V3, kHost, 0, F::Lzcnt},
    {"sse4a", W::X1Ecx, 6, kAll, kHost, 0, F::Sse4a},
    {"3dnowprefetch", W::X1Ecx, 8, V2, kOurs, 0, F::Prefetchw},

    {"xsaveerptr", W::X8Ebx, 2, V2, kTold},
    {"wbnoinvd", W::X8Ebx, 9, kAll, kOurs, 0, F::Wbnoinvd},
    {"amd_ssb_no", W::X8Ebx, 26, V2,
     kTold},  // what the host says of itself: true of code that runs as itself

    {"no_nested_data_bp", W::X21Eax, 0, V2, kTold},
    {"lfence_rdtsc", W::X21Eax, 2, V2, kTold},
    {"tsa_sq_no", W::X21Ecx, 1, V2, kTold},
    {"tsa_l1_no", W::X21Ecx, 2, V2, kTold},
};
const unsigned feature_row_count = sizeof feature_rows / sizeof feature_rows[0];

}  // namespace nacre::cpu
