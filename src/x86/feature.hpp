// Feature: the CPUID condition of an opcode's existence. SDM vol. 2, CPUID, and the rows' "CPUID feature
// flag" column; AMD APM vol. 3, appendix E. Freestanding.
#pragma once

#include "base/types.hpp"

namespace nacre::x86 {

enum class Feature : u8 {
  Base,  // every processor with long mode that we model
  Mmx, Sse, Sse2, Sse3, Ssse3, Sse4_1, Sse4_2, Sse4a, Aes, Pclmulqdq, Sha, Gfni,
  Avx, Avx2, Fma, F16c, Vaes, Vpclmulqdq, AvxVnni,
  Avx512f, Avx512bw, Avx512dq, Avx512cd, Avx512Ifma, Avx512Vbmi, Avx512Vbmi2, Avx512Vnni,
  Avx512Bitalg, Avx512Vpopcntdq, Avx512Bf16,
  Bmi1, Bmi2, Lzcnt, Popcnt, Adx, Movbe, Prefetchw,
  Cx16, LahfLm, Fxsr, Xsave, Xsaveopt, Xsavec, Xsaves, Fsgsbase, Rdtscp, Rdpid, Rdrand, Rdseed, Invpcid,
  Smap, Pku, Clflushopt, Clwb, Cldemote, Wbnoinvd, Movdiri, Movdir64b, Serialize, Waitpkg, Monitor,
  Vmx, Svm, Smx, Sgx, Cet, Rtm,
};

}  // namespace nacre::x86
