// The decoded form of one instruction, and the row of the opcode table it came from. The interpreter
// executes it, the translator rewrites it, the differential fuzzer generates from the rows.
// SDM vol. 2, chapter 2 and appendix A. Freestanding; any thread.
#pragma once

#include "base/types.hpp"
#include "x86/feature.hpp"
#include "x86/operation.hpp"
#include "x86/registers.hpp"

namespace nacre::x86 {

inline constexpr unsigned kMaxInstructionLength = 15;

enum class CodeSize : u8 { Bits16, Bits32, Bits64 };  // from CS.L and CS.D
enum class Encoding : u8 { Legacy, Vex, Evex };
enum class Map : u8 { Primary, Map0F, Map0F38, Map0F3A };
// The prefix that selects the meaning of an opcode in the 0F maps (VEX.pp, EVEX.pp).
enum class MandatoryPrefix : u8 { None, P66, PF3, PF2 };

// What an operand is. Where the manual's appendix A has a letter for it, the letter is in the comment.
enum class OperandKind : u8 {
  None,
  GprReg,        // G: ModRM.reg
  GprRm,         // E with mod == 3 or memory
  GprRmOnly,     // R: ModRM.rm, register form only
  MemoryOnly,    // M: memory form only
  GprOpcode,     // low three bits of the opcode, with REX.B: Instruction::rm
  GprVvvv,       // B: VEX.vvvv
  Accumulator,   // AL/AX/EAX/RAX
  FixedCl,       // CL as a shift count
  FixedDx,       // DX as a port number
  FixedOne,      // the constant 1
  Immediate,     // I: zero- or sign-extended as the row says, in Instruction::immediate
  Relative,      // J: signed distance from the next instruction, in Instruction::immediate
  FarPointer,    // A: offset in immediate, selector in immediate2
  MemoryOffset,  // O: moffs, absolute address in Instruction::displacement
  StringSource,  // X: DS:rSI (overridable)
  StringDestination,  // Y: ES:rDI
  SegmentReg,    // S: ModRM.reg
  SegmentFixed,  // push/pop of one segment register; index in OpcodeInfo::fixed
  ControlReg,    // C: ModRM.reg
  DebugReg,      // D: ModRM.reg
  MmxReg,        // P: ModRM.reg
  MmxRm,         // Q
  VectorReg,     // V: ModRM.reg (xmm, ymm, zmm by vector length)
  VectorRm,      // W
  VectorVvvv,    // H
  VectorImm,     // L: bits 7..4 of the immediate
  MaskReg,       // k register, ModRM.reg
  MaskRm,
  MaskVvvv,
  X87,           // ST(i) forms; the translator and the interpreter run x87 on the host's unit
  Vsib,          // vector-indexed memory (gathers)
};

// How wide an operand is.
enum class Width : u8 {
  None,
  B, W, D, Q,    // 1, 2, 4, 8 bytes
  T,             // 10 bytes (x87 extended)
  X, Y, Z,       // 16, 32, 64 bytes
  OpSize,        // v: 2, 4 or 8 by operand size
  OpSizeZ,       // z: 2 or 4 (4 also with 64-bit operand size)
  OpSizeY,       // y: 4, or 8 with 64-bit operand size
  AddressSize,
  Native,        // 8 in 64-bit mode, else 4: control registers, invpcid's type
  Vector,        // by vector length: 16, 32, 64
  HalfVector,    // half of it
  QuarterVector,
  EighthVector,
  FarMemory,     // p: 2 + operand size
  TableRegister, // s: 6 bytes, 10 in 64-bit mode
  StackWord,     // 2, 4 or 8: what push moves
  OpSizePair,    // a: bound's two words or doublewords; cmpxchg8b and 16b
  Environment,   // fnstenv 14/28, fnsave 94/108, fxsave 512, xsave by XCR0: the executor computes it
};

enum class Access : u8 { None, Read, Write, ReadWrite, Address };  // Address: lea, prefetch, nop: not accessed

struct Operand {
  OperandKind kind = OperandKind::None;
  Width width = Width::None;
  Access access = Access::None;
};

// What kind of thing an instruction does to the machine; says how the translator must treat it.
// X87, Sse and Avx are copied like Plain when the operation is X87, Mmx, Emms, Vector, Ldmxcsr, Stmxcsr
// or Vzero*; the others (VectorMasked, Gather, VectorCompress …) touch less memory than their width says.
enum class Class : u8 {
  Invalid,    // raises #UD
  Plain,      // unprivileged; all it does is to its explicit operands, `implicit` GPRs and flags:
              // a copy of it with renamed registers and a rewritten memory operand is the same
  X87,        // Plain, on x87/MMX state; wants CR0.EM/TS clear
  Sse,        // Plain, on vector state, legacy encoding; wants CR0.EM/TS clear and CR4.OSFXSR
  Avx,        // Plain, VEX/EVEX; wants CR4.OSXSAVE and XCR0 bits, CR0.TS clear
  Stack,      // push, pop, pushf, popf, enter, leave, pusha …
  Jump,       // jmp rel / r/m
  JumpIf,     // jcc, loop, jrcxz
  Call,       // near call rel / r/m
  Return,     // near ret
  FarBranch,  // far jmp, call, ret, int, iret
  String,     // memory that no ModRM names: movs, stos, lods, scas, cmps; xlat, maskmov
  PortIo,     // in, out, ins, outs
  SystemCall, // syscall, sysret, sysenter, sysexit
  System,     // everything else that reads or writes state beyond GPRs and flags, or is privileged;
              // what shows the host (rdtsc, rdrand); memory of irregular size (fxsave, xsave, fldenv)
};

struct OpcodeInfo {
  const char* name = nullptr;  // mnemonic in lower case
  Operation operation{};
  Class kind = Class::Invalid;
  Operand operands[4];         // in Intel order: destination first
  u16 implicit_read = 0;       // mask of GPRs read beyond the explicit operands (bit RAX, RCX, …)
  u16 implicit_written = 0;
  u32 flags_tested = 0;        // Rflags bits read; Jcc, Setcc, Cmovcc: see flags_tested() below
  u32 flags_written = 0;       // Rflags bits changed, set, cleared or left undefined
  u32 flags_undefined = 0;     // those of flags_written that the manual leaves undefined
  u32 attributes = 0;          // OpcodeAttribute bits
  Feature feature = Feature::Base;  // cpuid condition
  u8 fixed = 0;                // SegmentFixed, lds …: the SegmentIndex; int3: 3, int1: 1, into: 4
  u8 element = 0;              // bytes of a vector element, where masks or broadcasts count in elements; else 0
};

struct OpcodeAttribute {
  static constexpr u32 privileged = 1 << 0;       // #GP when CPL is not 0
  static constexpr u32 lockable = 1 << 1;         // LOCK allowed when the destination is memory
  static constexpr u32 invalid_in_64 = 1 << 2;
  static constexpr u32 only_in_64 = 1 << 3;
  static constexpr u32 default_64 = 1 << 4;       // operand size is 64 in 64-bit mode (push, pop)
  static constexpr u32 force_64 = 1 << 5;         // … and cannot be overridden (near branches)
  static constexpr u32 sign_extended_immediate = 1 << 6;
  static constexpr u32 ends_block = 1 << 7;       // what follows may mean something else
  static constexpr u32 aligned_memory = 1 << 8;   // memory operand of 16 bytes or more must be aligned (#GP)
  static constexpr u32 flags_depend_on_count = 1 << 9;  // shifts: flags unchanged when the count is 0
  static constexpr u32 protected_only = 1 << 10;  // #UD in real and V86 mode (VEX and EVEX always)
  static constexpr u32 rep_allowed = 1 << 11;
  static constexpr u32 no_vex_l1 = 1 << 12;       // #UD with VEX.L = 1
  static constexpr u32 vvvv_unused = 1 << 13;     // #UD unless vvvv is 1111b
  static constexpr u32 mod_ignored = 1 << 14;     // mov cr/dr: the register form whatever ModRM.mod says
  static constexpr u32 avx2_when_256 = 1 << 15;   // Feature::Avx with 128-bit vectors, Avx2 with 256-bit ones
  static constexpr u32 repne_allowed = 1 << 16;   // cmps, scas
  static constexpr u32 mask_allowed = 1 << 17;    // EVEX.aaa may be other than 0
  static constexpr u32 mask_required = 1 << 18;   // … must be (gathers, scatters)
  static constexpr u32 element_displacement = 1 << 19;  // EVEX disp8 counts elements though memory holds more
  static constexpr u32 rounding_allowed = 1 << 20;    // EVEX.b on a register form: static rounding
  static constexpr u32 suppress_allowed = 1 << 21;    // … only {sae}
  static constexpr u32 broadcast_allowed = 1 << 22;   // EVEX.b on a memory form: one element of 4 (W0) or 8 bytes
  // For the decoder, set by the table builder.
  static constexpr u32 has_immediate = 1 << 24;
  static constexpr u32 has_vsib = 1 << 25;
  static constexpr u32 restricted_registers = 1 << 26;  // segment, control, debug, mask registers: not all numbers exist
};

inline constexpr u8 kNoRegister = 0xff;
inline constexpr u8 kRipBase = 0x10;
inline constexpr u8 kNoSegment = 0xff;

struct Instruction {
  const OpcodeInfo* info = nullptr;  // never null after decode(); Class::Invalid when undefined

  CodeSize code_size = CodeSize::Bits64;
  u8 length = 0;                // bytes, prefixes included
  Encoding encoding = Encoding::Legacy;
  Map map = Map::Primary;
  MandatoryPrefix mandatory = MandatoryPrefix::None;
  u8 opcode = 0;

  // Prefixes.
  bool lock = false;
  bool rep = false;             // F3, also when it is mandatory; of F2 and F3 the last one counts
  bool repne = false;           // F2
  bool operand_size_prefix = false;
  bool address_size_prefix = false;
  u8 segment = kNoSegment;      // override: a SegmentIndex; in 64-bit mode only FS and GS, the others mean nothing
  u8 rex = 0;                   // the REX byte, 0 when absent
  bool w = false;               // REX.W / VEX.W / EVEX.W

  u8 operand_size = 4;          // 2, 4, 8: effective, for OpSize operands
  u8 address_size = 8;          // 2, 4, 8
  u8 vector_length = 0;         // VEX/EVEX: 16, 32, 64; legacy SSE: 16
  u8 vvvv = 0;                  // register number, extended by EVEX.V'

  // ModRM.
  bool has_modrm = false;
  u8 modrm = 0;                 // the byte
  u8 reg = 0;                   // with REX.R (and EVEX.R') applied
  u8 rm = 0;                    // register form: with REX.B (and EVEX.X) applied; GprOpcode: that register
  bool is_memory = false;       // ModRM with mod != 3
  u8 base = kNoRegister;        // GPR, kRipBase, or none
  u8 index = kNoRegister;       // GPR (Vsib: vector register), or none
  u8 scale = 0;                 // shift: 0 to 3
  i64 displacement = 0;         // sign-extended; EVEX disp8*N already scaled; moffs: zero-extended

  u64 immediate = 0;            // extended to 64 bits as the row says
  u16 immediate2 = 0;           // enter's level, a far pointer's selector, extrq/insertq's second byte
  u8 immediate_size = 0;        // bytes of the first one (immediate)

  // EVEX only.
  u8 mask = 0;                  // aaa
  bool zeroing = false;         // z
  bool broadcast = false;       // b
  u8 rounding = 0;              // L'L when it is a rounding mode

  // Byte offsets in the encoding, for the translator. 0 where absent.
  u8 opcode_offset = 0, modrm_offset = 0, displacement_offset = 0, immediate_offset = 0;
  u8 displacement_size = 0;

  u8 bytes[kMaxInstructionLength] = {};

  // The segment a memory operand uses: the override, or SS for rSP/rBP bases, or DS.
  [[nodiscard]] constexpr SegmentIndex effective_segment() const {
    if (segment != kNoSegment) return static_cast<SegmentIndex>(segment);
    return base == RSP || base == RBP ? SS : DS;
  }
};

enum class DecodeStatus : u8 {
  Ok,
  NeedMoreBytes,  // ran off the end of what was given (page end): fetch more or raise the page fault
  TooLong,        // over 15 bytes: #GP(0)
  Invalid,        // #UD; instruction.length tells where it was found, info->kind is Class::Invalid
};

// Decodes the instruction at bytes[0 .. available). `available` may be more than 15.
DecodeStatus decode(const u8* bytes, usize available, CodeSize code_size, Instruction& instruction);

// Bytes that an operand of `width` has in this instruction; 0 for Width::None and Width::Environment.
unsigned operand_bytes(const Instruction& instruction, Width width);

// The memory operand of the instruction (explicit ModRM or moffs one), or null.
const Operand* memory_operand(const Instruction& instruction);
// Bytes it has: like operand_bytes of it, but one element when it is an EVEX broadcast.
unsigned memory_bytes(const Instruction& instruction);

// Masks of the general registers whose value before the instruction matters (operands, address
// registers, implicit ones, rCX under a rep prefix; a partial write of 1 or 2 bytes reads too) and of
// those that it may change. AH … BH count as RAX … RBX.
u16 gprs_read(const Instruction& instruction);
u16 gprs_written(const Instruction& instruction);

// Rflags bits read: those of the row, or of the condition in the opcode.
u32 flags_tested(const Instruction& instruction);
// The ones that condition 0..15 (low bits of the opcode of jcc, setcc, cmovcc) reads. SDM vol. 1, B.
u32 condition_flags(unsigned condition);

// The general register that an 8-bit operand numbered `number` means: without REX, 4..7 are AH, CH, DH, BH.
struct ByteRegister {
  u8 index;
  bool high;
};
constexpr ByteRegister byte_register(const Instruction& instruction, u8 number) {
  const bool high = instruction.encoding == Encoding::Legacy && instruction.rex == 0 && number >= 4 && number < 8;
  return {static_cast<u8>(high ? number - 4 : number), high};
}

}  // namespace nacre::x86
