// The table of CPUID feature bits: which there are, on which models, and which decoder feature each stands
// for. SDM vol. 2, CPUID; AMD APM vol. 3, appendix E. Freestanding.
#pragma once

#include "base/types.hpp"
#include "cpu/model.hpp"
#include "x86/feature.hpp"

namespace nacre::cpu {

// The registers of CPUID that hold feature bits.
enum class CpuidWord : u8 {
  L1Edx,
  L1Ecx,
  L7Ebx,
  L7Ecx,
  L7Edx,
  L7s1Eax,
  Lds1Eax,
  X1Edx,
  X1Ecx,
  X8Ebx,
  X21Eax,
  X21Ecx,
};
inline constexpr unsigned kCpuidWords = 12;

struct CpuidSource {
  u32 leaf, subleaf;
  u8 part;  // 0 EAX … 3 EDX
};
inline constexpr CpuidSource kCpuidSources[kCpuidWords] = {
    {1, 0, 3},          {1, 0, 2},          {7, 0, 1},          {7, 0, 2},
    {7, 0, 3},          {7, 1, 0},          {0xd, 1, 0},        {0x80000001, 0, 3},
    {0x80000001, 0, 2}, {0x80000008, 0, 1}, {0x80000021, 0, 0}, {0x80000021, 0, 2},
};

struct FeatureRow {
  enum class Source : u8 {
    Host,       // an instruction set: there when the host has it; a named model insists
    Describes,  // how the host behaves: the guest is told the same, on every model
    Ours,       // carried out by us: there always, but where the processor itself runs the guest (Execution::Direct)
    Board,      // … by the board: there always
  };
  const char* name;
  CpuidWord word;
  u8 bit;
  Level level;  // the lowest model that has it
  Source source = Source::Host;
  u64 components = 0;  // XCR0 bits it works on
  x86::Feature feature = x86::Feature::Base;
};

extern const FeatureRow feature_rows[];
extern const unsigned feature_row_count;

}  // namespace nacre::cpu
