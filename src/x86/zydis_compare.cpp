#include "x86/zydis_compare.hpp"

#include <Zydis/Zydis.h>

#include <cstdio>
#include <cstring>

namespace nacre::x86 {
namespace {

struct Peer {
  ZydisDecoder decoder;
  explicit Peer(CodeSize size) {
    const auto mode = size == CodeSize::Bits64   ? ZYDIS_MACHINE_MODE_LONG_64
                      : size == CodeSize::Bits32 ? ZYDIS_MACHINE_MODE_LEGACY_32
                                                 : ZYDIS_MACHINE_MODE_LEGACY_16;
    const auto width = size == CodeSize::Bits64   ? ZYDIS_STACK_WIDTH_64
                       : size == CodeSize::Bits32 ? ZYDIS_STACK_WIDTH_32
                                                  : ZYDIS_STACK_WIDTH_16;
    ZydisDecoderInit(&decoder, mode, width);
    // MPX and CLDEMOTE opcodes are hint nops on processors without them.
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_MPX, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_CLDEMOTE, ZYAN_FALSE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_WBNOINVD, ZYAN_TRUE);
    ZydisDecoderEnableMode(&decoder, ZYDIS_DECODER_MODE_KNC, ZYAN_FALSE);
  }
};
const ZydisDecoder& peer(CodeSize size) {
  static const Peer peers[] = {Peer(CodeSize::Bits16), Peer(CodeSize::Bits32), Peer(CodeSize::Bits64)};
  return peers[static_cast<unsigned>(size)].decoder;
}

struct PeerInstruction {
  ZydisDecodedInstruction i;
  ZydisDecodedOperand operands[ZYDIS_MAX_OPERAND_COUNT];
};

std::string hex(const u8* bytes, usize count) {
  std::string text;
  for (usize n = 0; n < count; ++n) {
    char digits[4];
    std::snprintf(digits, sizeof digits, "%02x ", bytes[n]);
    text += digits;
  }
  return text;
}

// The index of a general register, or -1.
int gpr_index(ZydisRegister reg, CodeSize) {
  const ZydisRegisterClass c = ZydisRegisterGetClass(reg);
  const int id = ZydisRegisterGetId(reg);
  switch (c) {
    case ZYDIS_REGCLASS_GPR8:
      // AL CL DL BL AH CH DH BH SPL BPL SIL DIL R8B …
      if (reg >= ZYDIS_REGISTER_AH && reg <= ZYDIS_REGISTER_BH) return reg - ZYDIS_REGISTER_AH;
      if (reg >= ZYDIS_REGISTER_SPL) return reg - ZYDIS_REGISTER_SPL + 4;
      return id;
    case ZYDIS_REGCLASS_GPR16:
    case ZYDIS_REGCLASS_GPR32:
    case ZYDIS_REGCLASS_GPR64:
      return id;
    default:
      return -1;
  }
}

struct Usage {
  u32 read = 0, written = 0;
};
Usage peer_gprs(const PeerInstruction& p, CodeSize size) {
  Usage usage;
  for (unsigned n = 0; n < p.i.operand_count; ++n) {
    const ZydisDecodedOperand& o = p.operands[n];
    if (o.type == ZYDIS_OPERAND_TYPE_REGISTER) {
      const int index = gpr_index(o.reg.value, size);
      if (index < 0) continue;
      const u32 bit = 1u << index;
      if ((o.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0) usage.read |= bit;
      if ((o.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0) {
        usage.written |= bit;
        if (o.size < 32 || (o.actions & ZYDIS_OPERAND_ACTION_CONDWRITE) != 0) usage.read |= bit;
      }
    } else if (o.type == ZYDIS_OPERAND_TYPE_MEMORY) {
      const int base = gpr_index(o.mem.base, size), index = gpr_index(o.mem.index, size);
      if (base >= 0) usage.read |= 1u << base;
      if (index >= 0) usage.read |= 1u << index;
    }
  }
  return usage;
}

const ZydisDecodedOperand* peer_memory(const PeerInstruction& p) {
  for (unsigned n = 0; n < p.i.operand_count; ++n) {
    const ZydisDecodedOperand& o = p.operands[n];
    if (o.type == ZYDIS_OPERAND_TYPE_MEMORY && o.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT) return &o;
  }
  return nullptr;
}

std::string access_name(bool read, bool write) {
  return read ? (write ? "rw" : "r") : write ? "w" : "-";
}

bool starts_with(const std::string& text, const char* start) {
  return text.rfind(start, 0) == 0;
}

// Our names leave out what the operand size or the condition says: movs for movsb … movsq, jcc for jz.
bool same_name(const std::string& mine, const std::string& theirs) {
  static const std::map<std::string, const char*> kFamilies = {
      {"jcc", "j"},   {"setcc", "set"},         {"cmovcc", "cmov"},        {"cbw", "c"},
      {"cwd", "c"},   {"prefetch", "prefetch"}, {"prefetchw", "prefetch"}, {"wbnoinvd", "wb"},
      {"jrcxz", "j"}, {"retf", "ret"},
  };
  if (mine == theirs) return true;
  const auto family = kFamilies.find(mine);
  if (family != kFamilies.end() && starts_with(theirs, family->second)) return true;
  if (theirs.size() == mine.size() + 1 && starts_with(theirs, mine.c_str())) {
    return std::strchr("bwdq", theirs.back()) != nullptr;  // stos, iret, pushf …
  }
  if (mine == theirs + "d" || mine + "64" == theirs) return true;
  return mine.size() == theirs.size() && mine.back() == 'd' && theirs.back() == 'q' &&
         mine.compare(0, mine.size() - 1, theirs, 0, mine.size() - 1) == 0;  // movd, movq by W
}

// Instruction sets that Zydis knows and Nacre raises #UD for: dead (KNC, 3DNow!, FMA4, XOP …), or not
// offered by any CPU model of ours.
bool not_ours(const std::string& isa_set) {
  for (const char* set : {"KNC",
                          "AMD3DNOW",
                          "FMA4",
                          "XOP",
                          "TBM",
                          "LWP",
                          "PADLOCK",
                          "KEYLOCKER",
                          "UINTR",
                          "AMX",
                          "TDX",
                          "SNP",
                          "AVX512_FP16",
                          "AVX512_4",
                          "AVX512ER",
                          "AVX512PF",
                          "AVX512_VP2INTERSECT",
                          "MONITORX",
                          "CLZERO",
                          "RDPRU",
                          "PCONFIG",
                          "PT",
                          "ENQCMD",
                          "AMD_INVLPGB",
                          "HRESET",
                          "MCOMMIT",
                          "TSX_LDTRK"}) {
    if (starts_with(isa_set, set)) return true;
  }
  return false;
}

// Everything that differs between the two, one word each; the numbers go into `details`.
class Comparison {
 public:
  Comparison(const Instruction& ours, const PeerInstruction& peer, CodeSize size)
      : ours_(ours), peer_(peer), size_(size) {}

  std::string run() {
    name();
    if (not_modelled()) return result_;
    check("length", ours_.length, peer_.i.length);
    check("address_size", ours_.address_size * 8u, peer_.i.address_width);
    memory();
    operands();
    registers();
    flags();
    immediates();
    return result_;
  }
  [[nodiscard]] const std::string& details() const { return details_; }

 private:
  void differ(const std::string& what, const std::string& detail = "") {
    result_ += (result_.empty() ? "" : ", ") + what;
    details_ += detail.empty() ? "" : " " + what + " " + detail;
  }
  template <typename T, typename U>
  void check(const char* what, T ours, U theirs) {
    if (static_cast<u64>(ours) != static_cast<u64>(theirs)) {
      differ(what, std::to_string(ours) + "/" + std::to_string(theirs));
    }
  }

  // Operand by operand: the register, or that it is memory or an immediate. Zydis counts the mask as one
  // more.
  void operands() {
    // Written differently: x87's ST(0), the implicit operands of strings and SVM, hints, undefined opcodes.
    switch (ours_.info->operation) {
      case Operation::X87:
      case Operation::Nop:
      case Operation::Ud0:
      case Operation::Ud1:
      case Operation::Svm:
        return;
      default:
        break;
    }
    if (ours_.info->kind == Class::String || ours_.info->kind == Class::PortIo) return;
    unsigned n = 0;
    for (unsigned k = 0; k < peer_.i.operand_count; ++k) {
      const ZydisDecodedOperand& theirs = peer_.operands[k];
      if (theirs.visibility == ZYDIS_OPERAND_VISIBILITY_HIDDEN) continue;
      if (theirs.encoding == ZYDIS_OPERAND_ENCODING_MASK) continue;
      if (n == 4 || ours_.info->operands[n].kind == OperandKind::None) return differ("operand missing");
      operand(ours_.info->operands[n++], theirs);
    }
    if (n < 4 && ours_.info->operands[n].kind != OperandKind::None) differ("operand too many");
  }
  void operand(const Operand& mine, const ZydisDecodedOperand& theirs) {
    if (theirs.type != ZYDIS_OPERAND_TYPE_REGISTER) {
      if (register_number(mine) >= 0) differ("operand is no register");
      return;
    }
    const ZydisRegisterClass c = ZydisRegisterGetClass(theirs.reg.value);
    const bool gpr = c >= ZYDIS_REGCLASS_GPR8 && c <= ZYDIS_REGCLASS_GPR64;
    const int number = gpr ? gpr_index(theirs.reg.value, size_) : ZydisRegisterGetId(theirs.reg.value);
    check("register", register_number(mine), number);
    // Only 16 bits of lar's and lsl's source count; with 66 movsxd is four bytes (see its row); REX.W does
    // nothing to movmskps's result.
    const Operation operation = ours_.info->operation;
    const bool loose = operation == Operation::Lar || operation == Operation::Lsl ||
                       operation == Operation::Movsxd || starts_with(ours_.info->name, "movmsk");
    if (gpr && !loose) check("register size", operand_bytes(ours_, mine.width) * 8, theirs.size);
  }
  // -1 when it is no register.
  [[nodiscard]] int register_number(const Operand& mine) const {
    int number = -1;
    switch (mine.kind) {
      case OperandKind::GprReg:
      case OperandKind::SegmentReg:
      case OperandKind::ControlReg:
      case OperandKind::DebugReg:
      case OperandKind::MmxReg:
      case OperandKind::VectorReg:
      case OperandKind::MaskReg:
        number = ours_.reg;
        break;
      case OperandKind::GprRm:
      case OperandKind::MmxRm:
      case OperandKind::VectorRm:
      case OperandKind::MaskRm:
        if (ours_.is_memory) return -1;
        number = ours_.rm;
        break;
      case OperandKind::GprRmOnly:
      case OperandKind::GprOpcode:
        number = ours_.rm;
        break;
      case OperandKind::GprVvvv:
      case OperandKind::VectorVvvv:
      case OperandKind::MaskVvvv:
        number = ours_.vvvv;
        break;
      case OperandKind::Accumulator:
        return RAX;
      case OperandKind::FixedCl:
        return RCX;
      case OperandKind::FixedDx:
        return RDX;
      case OperandKind::SegmentFixed:
        return ours_.info->fixed;
      case OperandKind::VectorImm:
        return static_cast<int>(ours_.immediate >> 4 & (size_ == CodeSize::Bits64 ? 15 : 7));
      default:
        return -1;
    }
    const bool mmx = mine.kind == OperandKind::MmxReg || mine.kind == OperandKind::MmxRm;
    if (mmx) return number & 7;
    const bool gpr8 = mine.width == Width::B &&
                      (mine.kind == OperandKind::GprReg || mine.kind == OperandKind::GprRm ||
                       mine.kind == OperandKind::GprRmOnly || mine.kind == OperandKind::GprOpcode);
    return gpr8 ? byte_register(ours_, static_cast<u8>(number)).index : number;
  }

  // Instructions that Nacre only recognises.
  [[nodiscard]] bool not_modelled() const {
    switch (ours_.info->operation) {
      case Operation::Encls:
      case Operation::Enclu:
      case Operation::Enclv:
      case Operation::Getsec:
      case Operation::Vmx:
      case Operation::Vmcall:
      case Operation::Vmmcall:
      case Operation::Vmfunc:
      case Operation::Cet:
        return true;
      default:
        return false;
    }
  }

  void name() {
    const std::string theirs = ZydisMnemonicGetString(peer_.i.mnemonic);
    const std::string mine = ours_.info->name;
    if (!same_name(mine, theirs)) differ("name " + mine);
  }

  void memory() {
    const ZydisDecodedOperand* theirs = peer_memory(peer_);
    const Operand* mine = memory_operand(ours_);
    if ((theirs != nullptr) != (mine != nullptr)) return differ("memory present");
    if (theirs == nullptr) return;
    const bool moffs = mine->kind == OperandKind::MemoryOffset;
    // Zydis 4.0 takes "no base" for R13 when it comes with REX.B and an address size prefix.
    if (ours_.base == kNoRegister && ours_.displacement_size == 4 && (ours_.rex & 1) != 0) {
      skip_base_ = true;
      return;
    }
    if (!moffs && mine->kind != OperandKind::StringSource) {
      const int base = ours_.base == kNoRegister ? -1 : ours_.base == kRipBase ? 16 : ours_.base;
      const bool rip = theirs->mem.base == ZYDIS_REGISTER_RIP || theirs->mem.base == ZYDIS_REGISTER_EIP;
      check("base", base, rip ? 16 : gpr_index(theirs->mem.base, size_));
      const bool vsib = mine->kind == OperandKind::Vsib;
      const int their_index =
          vsib ? ZydisRegisterGetId(theirs->mem.index) : gpr_index(theirs->mem.index, size_);
      check("index", ours_.index == kNoRegister ? -1 : ours_.index, their_index);
      if (ours_.index != kNoRegister)
        check("scale", 1 << ours_.scale, theirs->mem.scale == 0 ? 1 : theirs->mem.scale);
    }
    if (theirs->mem.disp.has_displacement != 0) {
      const u64 width = low_bytes_mask(ours_.address_size);
      check("displacement", static_cast<u64>(ours_.displacement) & width,
            static_cast<u64>(theirs->mem.disp.value) & width);
    } else {
      check("displacement", ours_.displacement, 0);
    }
    const int segment =
        theirs->mem.segment == ZYDIS_REGISTER_NONE ? -1 : ZydisRegisterGetId(theirs->mem.segment);
    const bool notrack = ours_.segment == DS;  // 3E before an indirect branch: to Zydis no override
    if (segment >= 0 && !notrack && theirs->mem.type != ZYDIS_MEMOP_TYPE_AGEN) {
      check("segment", static_cast<int>(ours_.effective_segment()), segment);
    }
    memory_size(*mine, *theirs);
  }

  void memory_size(const Operand& mine, const ZydisDecodedOperand& theirs) {
    if (mine.access == Access::Address) return;
    if (mine.width != Width::Environment) check("memory_bytes", memory_bytes(ours_), theirs.size / 8);
    const bool read = (theirs.actions & ZYDIS_OPERAND_ACTION_MASK_READ) != 0;
    const bool write = (theirs.actions & ZYDIS_OPERAND_ACTION_MASK_WRITE) != 0;
    const std::string my_access =
        access_name(mine.access == Access::Read || mine.access == Access::ReadWrite,
                    mine.access == Access::Write || mine.access == Access::ReadWrite);
    if (my_access != access_name(read, write)) differ("access " + my_access + "/" + access_name(read, write));
  }

  void registers() {
    // Zydis leaves out, or we have no use for: the stack pointer of far transfers, rSI and rDI of strings,
    // the register of a nop, and of rdssp, which keeps it without shadow stacks.
    switch (ours_.info->operation) {
      case Operation::Nop:
      case Operation::Rdsspd:
      case Operation::Ud0:
      case Operation::Ud1:
        return;
      default:
        break;
    }
    const Class kind = ours_.info->kind;
    if (kind == Class::FarBranch || kind == Class::SystemCall || skip_base_) return;
    const Usage usage = peer_gprs(peer_, size_);
    u32 ignored = 0;
    // The destination of bsf and bsr stays as it was when the source is 0.
    if (ours_.info->operation == Operation::Bsf || ours_.info->operation == Operation::Bsr)
      ignored = gprs_written(ours_);
    if (ours_.info->kind == Class::String || ours_.info->kind == Class::PortIo) ignored = 1 << RSI | 1 << RDI;
    mask("reads", gprs_read(ours_) & ~ignored, usage.read & ~ignored);
    mask("writes", gprs_written(ours_) & ~ignored, usage.written & ~ignored);
  }
  void mask(const char* what, u32 mine, u32 theirs) {
    if (mine == theirs) return;
    char text[64];
    std::snprintf(text, sizeof text, "%x/%x", mine, theirs);
    const bool more = (mine & ~theirs) != 0, less = (theirs & ~mine) != 0;
    differ(std::string(what) + (more ? "+" : "") + (less ? "-" : ""), text);
  }

  void flags() {
    if (ours_.info->kind == Class::FarBranch || ours_.info->kind == Class::SystemCall) return;
    const Operation operation = ours_.info->operation;
    constexpr u32 compared = Rflags::arithmetic | Rflags::DF;
    const ZydisAccessedFlags none{};
    const ZydisAccessedFlags& f = peer_.i.cpu_flags != nullptr ? *peer_.i.cpu_flags : none;
    const u32 written = f.modified | f.set_0 | f.set_1 | f.undefined;
    // vptest and vtestps clear OF SF AF PF, in the manual and on processors.
    if (starts_with(ours_.info->name, "vptest") || starts_with(ours_.info->name, "vtest")) return;
    // repe's ZF is the instruction's own result, not an input.
    const u32 input = ours_.info->kind == Class::String ? Rflags::DF : compared;
    mask("tests", flags_tested(ours_) & input, f.tested & input);
    mask("sets", ours_.info->flags_written & compared, written & compared);
    // Zydis has OF undefined after shifts by one, AF after sbb, and all of bextr's: the manual does not.
    const bool by_one = ours_.info->operands[1].kind == OperandKind::FixedOne;
    if (by_one || operation == Operation::Sbb || operation == Operation::Bextr) return;
    mask("undef", ours_.info->flags_undefined & compared, f.undefined & compared);
  }
  void immediates() {
    if (ours_.immediate_size == 0) return;
    for (unsigned n = 0; n < peer_.i.operand_count; ++n) {
      const ZydisDecodedOperand& o = peer_.operands[n];
      if (o.type == ZYDIS_OPERAND_TYPE_POINTER) {
        check("pointer offset", ours_.immediate, o.ptr.offset);
        check("pointer segment", ours_.immediate2, o.ptr.segment);
        return;
      }
      if (o.type != ZYDIS_OPERAND_TYPE_IMMEDIATE || o.encoding == ZYDIS_OPERAND_ENCODING_NONE) continue;
      const u64 mask = low_bytes_mask(o.size >= 64 ? 8u : o.size / 8u);
      if ((ours_.immediate & mask) != (o.imm.value.u & mask)) differ("immediate");
      return;
    }
  }

  const Instruction& ours_;
  const PeerInstruction& peer_;
  CodeSize size_;
  std::string result_, details_;
  bool skip_base_ = false;
};

}  // namespace

usize Differences::compare(const u8* bytes, usize available, CodeSize code_size) {
  ++compared_;
  PeerInstruction p;
  const bool theirs =
      ZYAN_SUCCESS(ZydisDecoderDecodeFull(&peer(code_size), bytes, available, &p.i, p.operands));
  Instruction mine;
  const DecodeStatus status = decode(bytes, available, code_size, mine);
  const bool ok = status == DecodeStatus::Ok;
  std::string what, details;
  const bool xchg_r8 = ok && mine.opcode == 0x90 && mine.rep && (mine.rex & 1) != 0;  // to Zydis: pause
  if (xchg_r8) return mine.length;
  // Outside 64-bit mode Zydis does not know vcvtsi2sd with W1 and {er}; processors do (W means nothing
  // there).
  const bool w1_er = ok && !theirs && code_size != CodeSize::Bits64 && mine.w && mine.broadcast &&
                     std::strcmp(mine.info->name, "vcvtsi2sd") == 0;
  if (w1_er) return mine.length;
  if (ok != theirs) {
    what = ok ? std::string("only ours: ") + mine.info->name
              : std::string("only Zydis: ") + ZydisMnemonicGetString(p.i.mnemonic) + " " +
                    ZydisISASetGetString(p.i.meta.isa_set);
    if (!ok && not_ours(ZydisISASetGetString(p.i.meta.isa_set))) what.clear();
  } else if (ok) {
    Comparison comparison(mine, p, code_size);
    what = comparison.run();
    details = comparison.details();
    if (!what.empty()) what = std::string(ZydisMnemonicGetString(p.i.mnemonic)) + ": " + what;
  }
  const usize length = theirs ? p.i.length : ok ? mine.length : 1;
  if (!what.empty()) {
    Entry& entry = found_[what];
    const char* mode = code_size == CodeSize::Bits64   ? "64: "
                       : code_size == CodeSize::Bits32 ? "32: "
                                                       : "16: ";
    if (entry.count++ == 0) entry.example = mode + hex(bytes, length < 2 ? 6 : length) + details;
  }
  return length;
}

std::string Differences::report() const {
  std::string text;
  unsigned lines = 0;
  for (const auto& [what, entry] : found_) {
    if (++lines > 400) return text + "…\n";
    text += std::to_string(entry.count) + "  " + what + "   [" + entry.example + "]\n";
  }
  return text;
}

}  // namespace nacre::x86
