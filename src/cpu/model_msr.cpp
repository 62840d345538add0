// Model-specific registers whose value the model fixes: identification, capabilities, and switches of errata
// that system software looks at before its first page fault handler exists. SDM vol. 4; AMD APM vol. 2,
// appendix A, and the family's Processor Programming Reference.
#include "cpu/model.hpp"
#include "cpu/model_features.hpp"
#include "x86/registers.hpp"

namespace nacre::cpu {
namespace {

using x86::Msr;

// IA32_ARCH_CAPABILITIES. SDM vol. 4, table 2-2; which bits are claimed and why: docs/adr/0002.
struct ArchCapabilities {
  static constexpr u64 RDCL_NO = 1 << 0, IBRS_ALL = 1 << 1, SKIP_L1DFL_VMENTRY = 1 << 3, MDS_NO = 1 << 5,
                       IF_PSCHANGE_MC_NO = 1 << 6, TAA_NO = 1 << 8, SBDR_SSDP_NO = 1 << 13,
                       FBSDP_NO = 1 << 14, PSDP_NO = 1 << 15, BHI_NO = 1 << 20, PBRSB_NO = 1 << 24,
                       GDS_NO = 1 << 26, RFDS_NO = 1 << 27, ITS_NO = u64{1} << 62;
};
constexpr u64 kArchCapabilities =
    ArchCapabilities::RDCL_NO | ArchCapabilities::IBRS_ALL | ArchCapabilities::SKIP_L1DFL_VMENTRY |
    ArchCapabilities::MDS_NO | ArchCapabilities::IF_PSCHANGE_MC_NO | ArchCapabilities::TAA_NO |
    ArchCapabilities::SBDR_SSDP_NO | ArchCapabilities::FBSDP_NO | ArchCapabilities::PSDP_NO |
    ArchCapabilities::BHI_NO | ArchCapabilities::PBRSB_NO | ArchCapabilities::GDS_NO |
    ArchCapabilities::RFDS_NO | ArchCapabilities::ITS_NO;

constexpr u64 kMtrrCapabilities = 8 | 1 << 8 | 1 << 10;  // 8 variable ranges, fixed ranges, write-combining

// AMD, all in the range that only AMD has.
constexpr u32 kSyscfg = 0xc0010010, kHwcr = 0xc0010015, kTopMem = 0xc001001a, kTopMem2 = 0xc001001d,
              kNbCfg = 0xc001001f, kMmioConfBase = 0xc0010058, kVmCr = 0xc0010114, kLsCfg = 0xc0011020,
              kDeCfg = 0xc0011029, kLastCfg = 0xc001102e;
constexpr u64 kHwcrTscFreqSel = 1 << 24;  // the TSC counts at the P0 frequency
constexpr u64 kVmCrSvmDisabled = 1 << 4 | 1 << 3;
constexpr u64 kDeCfgLfenceSerialize = 1 << 1;  // LFENCE waits for earlier instructions

bool amd_msr_read(u32 msr, u64& value) {
  switch (msr) {
    case kHwcr:
      value = kHwcrTscFreqSel;
      return true;
    case kVmCr:
      value = kVmCrSvmDisabled;
      return true;
    case kDeCfg:
      value = kDeCfgLfenceSerialize;
      return true;
    case kSyscfg:
    case kTopMem:
    case kTopMem2:
    case kNbCfg:
    case kMmioConfBase:
      value = 0;
      return true;
    default:
      break;
  }
  value = 0;
  return msr >= kLsCfg && msr <= kLastCfg;
}

}  // namespace

bool Model::msr_read(u32 msr, u64& value) const {
  constexpr u64 kIntelMicrocode = u64{1} << 32, kAmdMicrocode = 0x01000065;
  switch (static_cast<Msr>(msr)) {
    case Msr::IA32_PLATFORM_ID:
    case Msr::MSR_PLATFORM_INFO:
    case Msr::IA32_MCG_CAP:
    case Msr::IA32_MCG_STATUS:
      value = 0;
      return true;
    case Msr::IA32_FEATURE_CONTROL:
      value = 1;
      return vendor_ == Vendor::Intel;  // locked, nothing enabled
    case Msr::IA32_BIOS_SIGN_ID:
      value = vendor_ == Vendor::Amd ? kAmdMicrocode : kIntelMicrocode;
      return true;
    case Msr::IA32_MTRRCAP:
      value = kMtrrCapabilities;
      return true;
    case Msr::IA32_ARCH_CAPABILITIES:
      value = kArchCapabilities;
      return claims(CpuidWord::L7Edx, 29);
    default:
      break;
  }
  return vendor_ == Vendor::Amd && amd_msr_read(msr, value);
}

bool Model::msr_write_ignored(u32 msr, u64 value) const {
  constexpr u64 kIbpb = 1;
  switch (static_cast<Msr>(msr)) {
    case Msr::IA32_BIOS_UPDT_TRIG:
    case Msr::IA32_BIOS_SIGN_ID:
    case Msr::IA32_MCG_STATUS:
      return true;
    case Msr::IA32_PRED_CMD:
      return spec_ctrl_mask() != 0 && (value & ~kIbpb) == 0;
    default:
      break;
  }
  u64 ignored = 0;
  return vendor_ == Vendor::Amd && amd_msr_read(msr, ignored);
}

}  // namespace nacre::cpu
