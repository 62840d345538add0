// Instructions that move whole images of the x87, SSE and extended state: FXSAVE, XSAVE and their kin,
// LDMXCSR, STMXCSR, FWAIT. They work on State::xsave, which has the standard format; a component whose
// XSTATE_BV bit is clear there has its initial value, whatever its bytes say. SDM vol. 1, 10.5, 13.4 to 13.12.
#include "cpu/model.hpp"
#include "interp/handlers.hpp"
#include "interp/operands.hpp"

namespace nacre::interp::handlers {
namespace {

using cpu::Xcr0;
using cpu::XsaveLayout;
using x86::Cr0;
using x86::Cr4;

constexpr u64 kCompacted = u64{1} << 63;
constexpr u32 kInitialMxcsr = 0x1f80;
constexpr u16 kInitialFcw = 0x37f;
// Legacy region: x87 is bytes 0..23 and the registers; SSE is MXCSR apart, and the XMM registers.
constexpr usize kX87Control = 24, kStBytes = 128, kXmmBytes = 256, kXmmEnd = XsaveLayout::kXmm + kXmmBytes;
constexpr usize kImageBytes = cpu::kXsaveBytes + 64 * XsaveLayout::kComponents;  // compacted may pad

u64 xstate_bv(const State& s) { return load_host(s.xsave + XsaveLayout::kXstateBv, 8); }
void set_xstate_bv(State& s, u64 value) { store_host(s.xsave + XsaveLayout::kXstateBv, 8, value); }
u32 mxcsr(const State& s) { return static_cast<u32>(load_host(s.xsave + XsaveLayout::kMxcsr, 4)); }
void set_mxcsr(State& s, u64 value) { store_host(s.xsave + XsaveLayout::kMxcsr, 4, value); }

// An image on its way to or from the guest.
struct Image {
  u8 bytes[kImageBytes];
};

// --- Checks.

bool fx_available(Core& core) {
  if ((core.state->cr0 & (Cr0::EM | Cr0::TS)) != 0) return core.raise(Vector::NM);
  return true;
}

bool xsave_available(Core& core) {
  if ((core.state->cr4 & Cr4::OSXSAVE) == 0) return core.undefined();
  if ((core.state->cr0 & Cr0::TS) != 0) return core.raise(Vector::NM);
  return true;
}

// The linear address of the image, aligned and accessible as far as segmentation goes.
bool image_address(Core& core, const Instruction& i, usize alignment, usize bytes, AccessType type, u64& linear) {
  if (!core.linear_address(i.effective_segment(), core.effective_address(i), bytes, type, linear)) return false;
  return (linear & (alignment - 1)) == 0 || core.general_protection();
}

u64 requested_features(const Core& core) { return core.gpr(x86::RDX, 4) << 32 | core.gpr(x86::RAX, 4); }

// --- The legacy region.

void put_x87(const State& s, u8* to, bool wide_pointers) {
  if ((xstate_bv(s) & Xcr0::x87) == 0) {
    fill_bytes(to, 0, kX87Control);
    fill_bytes(to + XsaveLayout::kSt, 0, kStBytes);
    store_host(to + XsaveLayout::kFcw, 2, kInitialFcw);
    return;
  }
  copy_bytes(to, s.xsave, kX87Control);
  copy_bytes(to + XsaveLayout::kSt, s.xsave + XsaveLayout::kSt, kStBytes);
  if (!wide_pointers) {
    // 32-bit pointers and selectors; processors of today store selectors of zero.
    store_host(to + XsaveLayout::kFip + 4, 4, 0);
    store_host(to + XsaveLayout::kFdp + 4, 4, 0);
  }
}

void put_xmm(const State& s, u8* to) {
  if ((xstate_bv(s) & Xcr0::SSE) == 0) {
    fill_bytes(to + XsaveLayout::kXmm, 0, kXmmBytes);
  } else {
    copy_bytes(to + XsaveLayout::kXmm, s.xsave + XsaveLayout::kXmm, kXmmBytes);
  }
}

void take_x87(State& s, const u8* from, bool wide_pointers) {
  copy_bytes(s.xsave, from, kX87Control);
  copy_bytes(s.xsave + XsaveLayout::kSt, from + XsaveLayout::kSt, kStBytes);
  if (!wide_pointers) {
    store_host(s.xsave + XsaveLayout::kFip + 4, 4, 0);
    store_host(s.xsave + XsaveLayout::kFdp + 4, 4, 0);
  }
  // The upper 6 bytes of each register slot are reserved; keep them clean for the host.
  for (unsigned n = 0; n < 8; ++n) fill_bytes(s.xsave + XsaveLayout::kSt + 16 * n + 10, 0, 6);
}

void take_xmm(State& s, const u8* from) {
  copy_bytes(s.xsave + XsaveLayout::kXmm, from + XsaveLayout::kXmm, kXmmBytes);
}

// --- Where components lie.

bool exists(const XsaveLayout& layout, unsigned component) { return layout.bytes[component] != 0; }

u32 compacted_offset(const XsaveLayout& layout, u64 format, unsigned wanted) {
  u32 offset = XsaveLayout::kHeaderEnd;
  for (unsigned n = 2; n < XsaveLayout::kComponents; ++n) {
    if ((format >> n & 1) == 0) continue;
    if (layout.aligned[n]) offset = (offset + 63) & ~u32{63};
    if (n == wanted) break;
    offset += layout.bytes[n];
  }
  return offset;
}

u32 component_offset(const XsaveLayout& layout, u64 format, unsigned component) {
  return (format & kCompacted) != 0 ? compacted_offset(layout, format & ~kCompacted, component)
                                    : layout.offset[component];
}

// State in use, for XSTATE_BV. MXCSR belongs to SSE in the compacted form.
u64 in_use(const State& s, u64 components, bool compacted) {
  u64 used = xstate_bv(s) & components;
  if (compacted && (components & Xcr0::SSE) != 0 && mxcsr(s) != kInitialMxcsr) used |= Xcr0::SSE;
  return used;
}

// --- Saving. SDM vol. 1, 13.7 (XSAVE), 13.9 (XSAVEOPT), 13.10 (XSAVEC), 13.11 (XSAVES).

struct Save {
  u64 components;   // RFBM
  bool compacted;
  bool skip_initial;  // XSAVEOPT, XSAVEC and XSAVES leave components in initial state unwritten
};

bool save_piece(Core& core, u64 linear, usize offset, const u8* from, usize bytes) {
  return core.write_linear_bytes(linear + offset, from, bytes, core.privilege);
}

bool save_legacy(Core& core, const Instruction& i, const Save& save, u64 linear, u64 used) {
  const State& s = *core.state;
  u8 image[XsaveLayout::kLegacyBytes];
  fill_bytes(image, 0, sizeof image);
  if ((save.components & Xcr0::x87) != 0 && (!save.skip_initial || (used & Xcr0::x87) != 0)) {
    put_x87(s, image, i.w);
    if (!save_piece(core, linear, 0, image, kX87Control) ||
        !save_piece(core, linear, XsaveLayout::kSt, image + XsaveLayout::kSt, kStBytes)) {
      return false;
    }
  }
  const u64 with_mxcsr = save.compacted ? Xcr0::SSE & used : Xcr0::SSE | Xcr0::AVX;
  if ((save.components & with_mxcsr) != 0) {
    store_host(image + XsaveLayout::kMxcsr, 4, mxcsr(s));
    store_host(image + XsaveLayout::kMxcsrMask, 4, cpu::Model::kMxcsrMask);
    if (!save_piece(core, linear, XsaveLayout::kMxcsr, image + XsaveLayout::kMxcsr, 8)) return false;
  }
  if ((save.components & Xcr0::SSE) != 0 && (!save.skip_initial || (used & Xcr0::SSE) != 0)) {
    put_xmm(s, image);
    if (!save_piece(core, linear, XsaveLayout::kXmm, image + XsaveLayout::kXmm, kXmmBytes)) return false;
  }
  return true;
}

bool save_extended(Core& core, const Save& save, u64 linear, u64 used) {
  const State& s = *core.state;
  const XsaveLayout& layout = core.model.xsave();
  const u64 format = save.compacted ? save.components | kCompacted : 0;
  for (unsigned n = 2; n < XsaveLayout::kComponents; ++n) {
    if ((save.components >> n & 1) == 0 || !exists(layout, n)) continue;
    const bool initial = (used >> n & 1) == 0;
    if (initial && save.skip_initial) continue;
    u8 zeros[1024];
    const u8* from = s.xsave + layout.offset[n];
    if (initial) {
      fill_bytes(zeros, 0, layout.bytes[n]);
      from = zeros;
    }
    if (!save_piece(core, linear, component_offset(layout, format, n), from, layout.bytes[n])) return false;
  }
  return true;
}

bool save_header(Core& core, const Save& save, u64 linear, u64 used) {
  u64 bv = used;
  if (!save.compacted) {
    u64 old = 0;
    if (!core.read_linear(linear + XsaveLayout::kXstateBv, 8, core.privilege, old)) return false;
    bv |= old & ~save.components;
  }
  if (!core.write_linear(linear + XsaveLayout::kXstateBv, 8, core.privilege, bv)) return false;
  if (!save.compacted) return true;
  return core.write_linear(linear + XsaveLayout::kXcompBv, 8, core.privilege, save.components | kCompacted);
}

bool save_state(Core& core, const Instruction& i, bool compacted, bool skip_initial) {
  if (!xsave_available(core)) return false;
  const Save save{requested_features(core) & core.state->xcr0, compacted, skip_initial};
  const XsaveLayout& layout = core.model.xsave();
  const usize bytes = compacted ? layout.compacted_bytes(save.components) : layout.standard_bytes(save.components);
  u64 linear = 0;
  if (!image_address(core, i, 64, bytes, AccessType::Write, linear)) return false;
  if (!core.probe_write(linear, bytes, core.privilege)) return false;
  const u64 used = in_use(*core.state, save.components, compacted);
  return save_legacy(core, i, save, linear, used) && save_extended(core, save, linear, used) &&
         save_header(core, save, linear, used);
}

// --- Restoring. SDM vol. 1, 13.8 and 13.12.

struct Restore {
  u64 components;    // RFBM
  u64 present;       // of those, in the image; the others become initial
  u64 format;        // XCOMP_BV
};

// The header's fields must make sense before anything is loaded.
bool check_header(Core& core, const u8* image, Restore& restore) {
  const State& s = *core.state;
  const u64 bv = load_host(image + XsaveLayout::kXstateBv, 8);
  restore.format = load_host(image + XsaveLayout::kXcompBv, 8);
  const bool compacted = (restore.format & kCompacted) != 0;
  const u64 allowed = s.xcr0 | s.xss;
  if (compacted) {
    const u64 format = restore.format & ~kCompacted;
    if (!core.model.has(x86::Feature::Xsavec) || (format & ~allowed) != 0 || (bv & ~format) != 0) {
      return core.general_protection();
    }
  } else if (restore.format != 0 || (bv & ~s.xcr0) != 0 || load_host(image + XsaveLayout::kXcompBv + 8, 8) != 0) {
    return core.general_protection();
  }
  if (compacted) {
    for (usize at = XsaveLayout::kXcompBv + 8; at < XsaveLayout::kHeaderEnd; at += 8) {
      if (load_host(image + at, 8) != 0) return core.general_protection();
    }
  }
  restore.present = bv & restore.components;
  return true;
}

bool reads_mxcsr(const Restore& restore) {
  if ((restore.format & kCompacted) != 0) return (restore.present & Xcr0::SSE) != 0;
  return (restore.components & (Xcr0::SSE | Xcr0::AVX)) != 0;
}

bool read_components(Core& core, u64 linear, const Restore& restore, Image& image) {
  const XsaveLayout& layout = core.model.xsave();
  for (unsigned n = 2; n < XsaveLayout::kComponents; ++n) {
    if ((restore.present >> n & 1) == 0 || !exists(layout, n)) continue;
    const u32 offset = component_offset(layout, restore.format, n);
    if (!core.read_linear_bytes(linear + offset, image.bytes + offset, layout.bytes[n], core.privilege)) return false;
  }
  return true;
}

void apply(Core& core, const Instruction& i, const Restore& restore, const Image& image) {
  State& s = *core.state;
  const XsaveLayout& layout = core.model.xsave();
  if ((restore.present & Xcr0::x87) != 0) take_x87(s, image.bytes, i.w);
  if ((restore.present & Xcr0::SSE) != 0) take_xmm(s, image.bytes);
  if (reads_mxcsr(restore)) {
    set_mxcsr(s, load_host(image.bytes + XsaveLayout::kMxcsr, 4));
  } else if ((restore.components & Xcr0::SSE) != 0) {
    set_mxcsr(s, kInitialMxcsr);
  }
  for (unsigned n = 2; n < XsaveLayout::kComponents; ++n) {
    if ((restore.present >> n & 1) == 0 || !exists(layout, n)) continue;
    copy_bytes(s.xsave + layout.offset[n], image.bytes + component_offset(layout, restore.format, n), layout.bytes[n]);
  }
  set_xstate_bv(s, (xstate_bv(s) & ~restore.components) | restore.present);
}

bool restore_state(Core& core, const Instruction& i) {
  if (!xsave_available(core)) return false;
  Restore restore{requested_features(core) & core.state->xcr0, 0, 0};
  u64 linear = 0;
  Image image;
  if (!image_address(core, i, 64, XsaveLayout::kHeaderEnd, AccessType::Read, linear)) return false;
  if (!core.read_linear_bytes(linear, image.bytes, XsaveLayout::kHeaderEnd, core.privilege)) return false;
  if (!check_header(core, image.bytes, restore)) return false;
  if (reads_mxcsr(restore) && (load_host(image.bytes + XsaveLayout::kMxcsr, 4) & ~u64{cpu::Model::kMxcsrMask}) != 0) {
    return core.general_protection();
  }
  if (!read_components(core, linear, restore, image)) return false;
  apply(core, i, restore, image);
  return true;
}

// LDMXCSR and STMXCSR are SSE instructions, in their VEX form AVX ones.
bool mxcsr_available(Core& core, const Instruction& i) {
  const State& s = *core.state;
  if (i.encoding == x86::Encoding::Vex) {
    constexpr u64 needed = Xcr0::SSE | Xcr0::AVX;
    if (!core.protected_mode || (s.cr4 & Cr4::OSXSAVE) == 0 || (s.xcr0 & needed) != needed) return core.undefined();
  } else if ((s.cr0 & Cr0::EM) != 0 || (s.cr4 & Cr4::OSFXSR) == 0) {
    return core.undefined();
  }
  return (s.cr0 & Cr0::TS) == 0 || core.raise(Vector::NM);
}

}  // namespace

bool fxsave(Core& core, const Instruction& i) {
  u64 linear = 0;
  if (!fx_available(core) || !image_address(core, i, 16, XsaveLayout::kLegacyBytes, AccessType::Write, linear)) return false;
  const State& s = *core.state;
  u8 image[XsaveLayout::kLegacyBytes];
  fill_bytes(image, 0, sizeof image);
  put_x87(s, image, i.w);
  put_xmm(s, image);
  store_host(image + XsaveLayout::kMxcsr, 4, mxcsr(s));
  store_host(image + XsaveLayout::kMxcsrMask, 4, cpu::Model::kMxcsrMask);
  // Bytes above the XMM registers are software's own. SDM vol. 1, table 10-2.
  return core.write_linear_bytes(linear, image, kXmmEnd, core.privilege);
}

bool fxrstor(Core& core, const Instruction& i) {
  u64 linear = 0;
  if (!fx_available(core) || !image_address(core, i, 16, XsaveLayout::kLegacyBytes, AccessType::Read, linear)) return false;
  State& s = *core.state;
  u8 image[XsaveLayout::kLegacyBytes];
  if (!core.read_linear_bytes(linear, image, kXmmEnd, core.privilege)) return false;
  const u64 control = load_host(image + XsaveLayout::kMxcsr, 4);
  if ((control & ~u64{cpu::Model::kMxcsrMask}) != 0) return core.general_protection();
  take_x87(s, image, i.w);
  take_xmm(s, image);
  set_mxcsr(s, control);
  set_xstate_bv(s, xstate_bv(s) | Xcr0::x87 | Xcr0::SSE);
  return true;
}

bool xsave(Core& core, const Instruction& i) { return save_state(core, i, false, false); }
bool xsaveopt(Core& core, const Instruction& i) { return save_state(core, i, false, true); }
bool xsavec(Core& core, const Instruction& i) { return save_state(core, i, true, true); }
bool xsaves(Core& core, const Instruction& i) { return save_state(core, i, true, true); }
bool xrstor(Core& core, const Instruction& i) { return restore_state(core, i); }
bool xrstors(Core& core, const Instruction& i) { return restore_state(core, i); }

bool ldmxcsr(Core& core, const Instruction& i) {
  u64 value = 0;
  if (!mxcsr_available(core, i) || !read_operand(core, i, 0, value)) return false;
  if ((value & ~u64{cpu::Model::kMxcsrMask}) != 0) return core.general_protection();
  set_mxcsr(*core.state, value);
  return true;
}

bool stmxcsr(Core& core, const Instruction& i) {
  return mxcsr_available(core, i) && write_operand(core, i, 0, mxcsr(*core.state));
}

// SDM vol. 2, WAIT; vol. 1, 8.7.
bool fwait(Core& core, const Instruction&) {
  const State& s = *core.state;
  constexpr u64 trapped = Cr0::MP | Cr0::TS;
  if ((s.cr0 & trapped) == trapped) return core.raise(Vector::NM);
  constexpr u64 error_summary = 1 << 7;
  const bool pending = (xstate_bv(s) & Xcr0::x87) != 0 && (load_host(s.xsave + XsaveLayout::kFsw, 2) & error_summary) != 0;
  return !pending || core.raise(Vector::MF);
}

}  // namespace nacre::interp::handlers
