#include "interp/vector_state.hpp"

#include "base/copy.hpp"

namespace nacre::interp {
namespace {

using cpu::Model;
using cpu::Xcr0;
using cpu::XsaveLayout;
using x86::Instruction;
using x86::Operation;
using Kind = VectorResult::Kind;

constexpr u64 kCompacted = u64{1} << 63;  // XCOMP_BV
constexpr u32 kMxcsrInitial = 0x1f80;
constexpr u16 kFcwInitial = 0x37f;
constexpr unsigned kHeaderBytes = 64;
constexpr VectorResult kFault = {Kind::MemoryFault};
constexpr VectorResult kProtection = {Kind::Exception, x86::Vector::GP};

template <typename T>
T load(const u8* from) {
  T value;
  __builtin_memcpy(&value, from, sizeof value);
  return value;
}
template <typename T>
void store(u8* to, T value) {
  __builtin_memcpy(to, &value, sizeof value);
}

// One such instruction on its way.
class Image {
 public:
  Image(cpu::State& state, const Instruction& instruction, u64 offset, VectorMemory& memory,
        const Model& model)
      : xsave_(state.xsave),
        layout_(model.xsave()),
        memory_(memory),
        offset_(offset),
        wide_(instruction.w),
        xmm_bytes_(state.in_64bit_code() ? 256 : 128),
        requested_(state.xcr0 & model.xcr0_mask() &
                   ((state.gpr[x86::RDX] & 0xffffffff) << 32 | (state.gpr[x86::RAX] & 0xffffffff))),
        enabled_(state.xcr0 & model.xcr0_mask()),
        has_compaction_(model.has(x86::Feature::Xsavec)),
        pkru_(state.pkru) {
    if ((enabled_ & Xcr0::PKRU) != 0) store(xsave_ + layout_.offset[XsaveLayout::kPkru], u64{pkru_});
  }

  VectorResult fxsave();
  VectorResult fxrstor();
  VectorResult save(Operation operation);
  VectorResult restore();

 private:
  static constexpr u64 kLegacy = Xcr0::x87 | Xcr0::SSE;

  enum class Pass : u8 { Probe, Write };
  static constexpr Pass kPasses[] = {Pass::Probe, Pass::Write};

  bool put(Pass pass, u64 at, const u8* from, unsigned bytes);
  bool take(u64 at, u8* to, unsigned bytes);
  void x87_header(u8 (&header)[24]) const;
  bool write_components(Pass pass, u64 components, bool compacted);
  bool write_header(Pass pass, Operation operation, u64 in_use);
  [[nodiscard]] u64 in_use() const;
  [[nodiscard]] bool is_initial(unsigned component) const;
  [[nodiscard]] u64 place(unsigned component, u64 compaction) const;
  bool header_valid(const u8 (&header)[kHeaderBytes]) const;
  void load_x87(u8 (&legacy)[XsaveLayout::kXmm]);
  void initialise(u64 components);
  void mark(u64 components, u64 used);

  u8* xsave_;
  const XsaveLayout& layout_;
  VectorMemory& memory_;
  u64 offset_;
  bool wide_;           // REX.W: 64-bit instruction and data pointers, no selectors
  unsigned xmm_bytes_;  // XMM8 to XMM15 are moved in 64-bit mode only
  u64 requested_;       // RFBM
  u64 enabled_;
  bool has_compaction_;
  // Has its place in State::xsave while one of these instructions runs, and is never marked in use there: the host may not have it.
  u32& pkru_;
};

bool Image::put(Pass pass, u64 at, const u8* from, unsigned bytes) {
  const u64 to = offset_ + at;
  return pass == Pass::Probe ? memory_.probe_write(to, bytes) : memory_.write(to, from, bytes);
}

bool Image::take(u64 at, u8* to, unsigned bytes) {
  return memory_.read(offset_ + at, to, bytes);
}

// Bytes 0 to 23: control words and pointers. SDM vol. 1, table 10-2.
void Image::x87_header(u8 (&header)[24]) const {
  for (unsigned i = 0; i < sizeof header; ++i) header[i] = xsave_[i];
  header[5] = 0;
  if (wide_) return;
  store(header + XsaveLayout::kFip + 4, u32{0});  // code and data selectors: not kept
  store(header + XsaveLayout::kFdp + 4, u32{0});
}

VectorResult Image::fxsave() {
  if ((offset_ & 15) != 0) return kProtection;
  u8 header[24];
  x87_header(header);
  u8 mxcsr[8];
  store(mxcsr, load<u32>(xsave_ + XsaveLayout::kMxcsr));
  store(mxcsr + 4, Model::kMxcsrMask);
  for (const Pass pass : kPasses) {
    if (!put(pass, 0, header, sizeof header) || !put(pass, XsaveLayout::kMxcsr, mxcsr, sizeof mxcsr) ||
        !put(pass, XsaveLayout::kSt, xsave_ + XsaveLayout::kSt, 128) ||
        !put(pass, XsaveLayout::kXmm, xsave_ + XsaveLayout::kXmm, xmm_bytes_)) {
      return kFault;
    }
  }
  return {};
}

VectorResult Image::fxrstor() {
  if ((offset_ & 15) != 0) return kProtection;
  u8 legacy[XsaveLayout::kXmm];
  u8 xmm[256];
  if (!take(0, legacy, sizeof legacy) || !take(XsaveLayout::kXmm, xmm, xmm_bytes_)) return kFault;
  if ((load<u32>(legacy + XsaveLayout::kMxcsr) & ~Model::kMxcsrMask) != 0) return kProtection;
  load_x87(legacy);
  store(xsave_ + XsaveLayout::kMxcsr, load<u32>(legacy + XsaveLayout::kMxcsr));
  copy_bytes(xsave_ + XsaveLayout::kXmm, xmm, xmm_bytes_);
  mark(kLegacy, kLegacy);
  return {};
}

// Takes over everything of the legacy region that is x87's.
void Image::load_x87(u8 (&legacy)[XsaveLayout::kXmm]) {
  if (!wide_) {
    store(legacy + XsaveLayout::kFip + 4, u32{0});
    store(legacy + XsaveLayout::kFdp + 4, u32{0});
  }
  copy_bytes(xsave_, legacy, XsaveLayout::kMxcsr);
  copy_bytes(xsave_ + XsaveLayout::kSt, legacy + XsaveLayout::kSt, 128);
}

bool all_zero(const u8* from, usize bytes) {
  for (usize i = 0; i < bytes; ++i) {
    if (from[i] != 0) return false;
  }
  return true;
}

bool Image::is_initial(unsigned component) const {
  if (component == 0) {
    u8 header[24];
    x87_header(header);
    return load<u16>(header) == kFcwInitial && all_zero(header + 2, sizeof header - 2) &&
           all_zero(xsave_ + XsaveLayout::kSt, 128);
  }
  if (component == 1) return all_zero(xsave_ + XsaveLayout::kXmm, 256);
  return all_zero(xsave_ + layout_.offset[component], layout_.bytes[component]);
}

// XINUSE: what differs from its initial configuration. A processor may say so of more than that; which of it
// depends on how its state came about, and a guest should not see on which engine. MXCSR alone makes SSE
// count as used: SDM vol. 1, 13.6.
u64 Image::in_use() const {
  u64 used = load<u64>(xsave_ + XsaveLayout::kXstateBv) | (enabled_ & Xcr0::PKRU);
  for (unsigned i = 0; i < XsaveLayout::kComponents; ++i) {
    if ((used >> i & 1) != 0 && is_initial(i)) used &= ~(u64{1} << i);
  }
  if (load<u32>(xsave_ + XsaveLayout::kMxcsr) != kMxcsrInitial) used |= Xcr0::SSE;
  return used;
}

// Where component `component` lies in the guest's area; `compaction` is 0 for the standard format.
u64 Image::place(unsigned component, u64 compaction) const {
  if (compaction == 0) return layout_.offset[component];
  u64 at = XsaveLayout::kHeaderEnd;
  for (unsigned i = 2; i <= component; ++i) {
    if ((compaction >> i & 1) == 0) continue;
    if (layout_.aligned[i]) at = (at + 63) & ~u64{63};
    if (i == component) break;
    at += layout_.bytes[i];
  }
  return at;
}

bool Image::write_components(Pass pass, u64 components, bool compacted) {
  if ((components & Xcr0::x87) != 0) {
    u8 header[24];
    x87_header(header);
    if (!put(pass, 0, header, sizeof header) ||
        !put(pass, XsaveLayout::kSt, xsave_ + XsaveLayout::kSt, 128)) {
      return false;
    }
  }
  // The standard format keeps MXCSR with AVX too. SDM vol. 1, 13.7 and 13.10.
  if ((components & (compacted ? u64{Xcr0::SSE} : u64{Xcr0::SSE | Xcr0::AVX})) != 0) {
    u8 mxcsr[8];
    store(mxcsr, load<u32>(xsave_ + XsaveLayout::kMxcsr));
    store(mxcsr + 4, Model::kMxcsrMask);
    if (!put(pass, XsaveLayout::kMxcsr, mxcsr, sizeof mxcsr)) return false;
  }
  if ((components & Xcr0::SSE) != 0 &&
      !put(pass, XsaveLayout::kXmm, xsave_ + XsaveLayout::kXmm, xmm_bytes_)) {
    return false;
  }
  for (unsigned i = 2; i < XsaveLayout::kComponents; ++i) {
    if ((components >> i & 1) == 0) continue;
    const u64 at = place(i, compacted ? requested_ : 0);
    if (!put(pass, at, xsave_ + layout_.offset[i], layout_.bytes[i])) return false;
  }
  return true;
}

bool Image::write_header(Pass pass, Operation operation, u64 used) {
  u8 header[16];
  if (operation == Operation::Xsavec) {
    store(header, used & requested_);
    store(header + 8, requested_ | kCompacted);
    return put(pass, XsaveLayout::kXstateBv, header, 16);
  }
  if (!take(XsaveLayout::kXstateBv, header, 8)) return false;
  store(header, (load<u64>(header) & ~requested_) | (used & requested_));
  return put(pass, XsaveLayout::kXstateBv, header, 8);
}

VectorResult Image::save(Operation operation) {
  if ((offset_ & 63) != 0) return kProtection;
  const u64 used = in_use();
  const bool skips_initial = operation != Operation::Xsave;
  const u64 components = skips_initial ? requested_ & used : requested_;
  for (const Pass pass : kPasses) {
    if (!write_components(pass, components, operation == Operation::Xsavec)) return kFault;
    if (!write_header(pass, operation, used)) return kFault;
  }
  return {};
}

// SDM vol. 1, 13.8.
bool Image::header_valid(const u8 (&header)[kHeaderBytes]) const {
  const u64 bv = load<u64>(header);
  const u64 compaction = load<u64>(header + 8);
  const bool compacted = (compaction & kCompacted) != 0;
  unsigned reserved_end = 24;
  if (compacted) {
    if (!has_compaction_ || (compaction & ~kCompacted & ~enabled_) != 0 || (bv & ~compaction) != 0)
      return false;
    reserved_end = kHeaderBytes;
  } else if (compaction != 0 || (bv & ~enabled_) != 0) {
    return false;
  }
  for (unsigned i = 16; i < reserved_end; ++i) {
    if (header[i] != 0) return false;
  }
  return true;
}

void Image::initialise(u64 components) {
  if ((components & Xcr0::x87) != 0) {
    fill_bytes(xsave_, 0, XsaveLayout::kMxcsr);
    store(xsave_ + XsaveLayout::kFcw, kFcwInitial);
    fill_bytes(xsave_ + XsaveLayout::kSt, 0, 128);
  }
  if ((components & Xcr0::SSE) != 0) fill_bytes(xsave_ + XsaveLayout::kXmm, 0, xmm_bytes_);
  for (unsigned i = 2; i < XsaveLayout::kComponents; ++i) {
    if ((components >> i & 1) != 0) fill_bytes(xsave_ + layout_.offset[i], 0, layout_.bytes[i]);
  }
}

void Image::mark(u64 components, u64 used) {
  components &= ~Xcr0::PKRU;
  u8* bv = xsave_ + XsaveLayout::kXstateBv;
  store(bv, (load<u64>(bv) & ~components) | (used & components));
}

VectorResult Image::restore() {
  if ((offset_ & 63) != 0) return kProtection;
  u8 header[kHeaderBytes];
  if (!take(XsaveLayout::kXstateBv, header, sizeof header)) return kFault;
  if (!header_valid(header)) return kProtection;
  const u64 bv = load<u64>(header);
  const u64 compaction = load<u64>(header + 8) & ~kCompacted;
  const bool compacted = (load<u64>(header + 8) & kCompacted) != 0;
  const u64 loaded = requested_ & bv;

  // Everything is read before anything is changed, so that a fault leaves the state as it was.
  u8 area[cpu::kXsaveBytes];
  if ((requested_ & (kLegacy | Xcr0::AVX)) != 0 && !take(0, area, XsaveLayout::kXmm)) return kFault;
  if ((loaded & Xcr0::SSE) != 0 && !take(XsaveLayout::kXmm, area + XsaveLayout::kXmm, xmm_bytes_))
    return kFault;
  for (unsigned i = 2; i < XsaveLayout::kComponents; ++i) {
    if ((loaded >> i & 1) == 0) continue;
    if (!take(place(i, compacted ? compaction : 0), area + layout_.offset[i], layout_.bytes[i]))
      return kFault;
  }
  const bool takes_mxcsr =
      compacted ? (loaded & Xcr0::SSE) != 0 : (requested_ & (Xcr0::SSE | Xcr0::AVX)) != 0;
  const u32 mxcsr = takes_mxcsr ? load<u32>(area + XsaveLayout::kMxcsr) : kMxcsrInitial;
  if ((mxcsr & ~Model::kMxcsrMask) != 0) return kProtection;

  initialise(requested_ & ~bv);
  if ((loaded & Xcr0::x87) != 0) {
    u8 legacy[XsaveLayout::kXmm];
    copy_bytes(legacy, area, sizeof legacy);
    load_x87(legacy);
  }
  if (takes_mxcsr || (requested_ & Xcr0::SSE) != 0) store(xsave_ + XsaveLayout::kMxcsr, mxcsr);
  if ((loaded & Xcr0::SSE) != 0) copy_bytes(xsave_ + XsaveLayout::kXmm, area + XsaveLayout::kXmm, xmm_bytes_);
  for (unsigned i = 2; i < XsaveLayout::kComponents; ++i) {
    if ((loaded >> i & 1) == 0) continue;
    copy_bytes(xsave_ + layout_.offset[i], area + layout_.offset[i], layout_.bytes[i]);
  }
  if ((requested_ & Xcr0::PKRU) != 0) pkru_ = load<u32>(xsave_ + layout_.offset[XsaveLayout::kPkru]);
  mark(requested_, bv);
  return {};
}

}  // namespace

VectorResult run_state_image(cpu::State& state, const Instruction& instruction, u64 offset,
                             VectorMemory& memory, const Model& model) {
  Image image(state, instruction, offset, memory, model);
  switch (instruction.info->operation) {
    case Operation::Fxsave:
      return image.fxsave();
    case Operation::Fxrstor:
      return image.fxrstor();
    case Operation::Xsave:
    case Operation::Xsaveopt:
    case Operation::Xsavec:
      return image.save(instruction.info->operation);
    case Operation::Xrstor:
      return image.restore();
    default:
      return {Kind::Unsupported};
  }
}

}  // namespace nacre::interp
