#include "engine/soft/soft.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <optional>

#include "cpu/model.hpp"
#include "engine/direct/direct.hpp"
#include "engine/hosted_vector_unit.hpp"
#include "engine/soft/block_store.hpp"
#include "engine/soft/stubs.hpp"
#include "engine/soft/tlb.hpp"
#include "host/signals.hpp"
#include "interp/interpreter.hpp"

namespace nacre::soft {

namespace {

using cpu::Activity;
using cpu::State;
using x86::Cr0;
using x86::Cr4;
using x86::Rflags;

// The XSAVE components that hold guest values while translated code runs.
constexpr u64 kVectorComponents = cpu::Xcr0::x87 | cpu::Xcr0::SSE | cpu::Xcr0::AVX | cpu::Xcr0::opmask |
                                  cpu::Xcr0::ZMM_Hi256 | cpu::Xcr0::Hi16_ZMM;
constexpr u64 kTrapFlag = Rflags::TF;

struct ContextDeleter {
  void operator()(Context* context) const {
    context->~Context();
    munmap(context, sizeof(Context));
  }
};
using ContextPointer = std::unique_ptr<Context, ContextDeleter>;

Result<ContextPointer> make_context() {
  // Zero pages: most of the jump caches are never touched.
  void* memory = mmap(nullptr, sizeof(Context), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Error("not enough memory for a virtual processor");
  return ContextPointer(new (memory) Context);
}

class SoftVcpu final : public engine::Vcpu,
                       private cpu::TranslationObserver,
                       private cpu::Platform,
                       private direct::CodeGuard,
                       private host::FaultHandler {
 public:
  SoftVcpu(const engine::EngineContext& engine, ContextPointer context, CodeCache code,
           std::unique_ptr<engine::HostedVectorUnit> vector);

  engine::Exit run() override;
  void kick() override;
  State& state() override { return context_->state; }
  void state_changed() override;

 private:
  // What translated code calls. The guest's vector state may be in host registers.
  static HelperResult fill_read(Context* context, u64 linear, u64 note);
  static HelperResult fill_write(Context* context, u64 linear, u64 note);
  static HelperResult fill_group(Context* context, u64 low, u64 note);
  static HelperResult interpret(Context* context, u64 note);
  HelperResult fill(u64 linear, bool write, u64 note);
  HelperResult interpret_here(u64 note);
  void ungroup(u64 host_address);
  HelperResult finish_helper(HelperResult result);

  // cpu::TranslationObserver
  void flush_all() override;
  void flush_non_global() override;
  void flush_page(GuestLinear address) override;
  void code_written(GuestPhysical address, usize bytes) override;

  // cpu::Platform: forwards, after putting vector state away, because the other side may use vector
  // registers.
  u64 mmio_read(GuestPhysical address, unsigned size) override {
    put_away_vector();
    return outside_.mmio_read(address, size);
  }
  void mmio_write(GuestPhysical address, unsigned size, u64 value) override {
    put_away_vector();
    outside_.mmio_write(address, size, value);
  }
  u32 port_read(u16 port, unsigned size) override {
    put_away_vector();
    return outside_.port_read(port, size);
  }
  void port_write(u16 port, unsigned size, u32 value) override {
    put_away_vector();
    outside_.port_write(port, size, value);
  }
  bool interrupt_pending() override { return outside_.interrupt_pending(); }
  int acknowledge_interrupt() override {
    put_away_vector();
    return outside_.acknowledge_interrupt();
  }
  u8 task_priority() override {
    put_away_vector();
    return outside_.task_priority();
  }
  void set_task_priority(u8 cr8) override {
    put_away_vector();
    outside_.set_task_priority(cr8);
  }
  bool msr_read(u32 msr, u64& value) override {
    put_away_vector();
    return outside_.msr_read(msr, value);
  }
  bool msr_write(u32 msr, u64 value) override {
    put_away_vector();
    return outside_.msr_write(msr, value);
  }
  u64 tsc() override { return outside_.tsc(); }
  u64 random() override {
    put_away_vector();
    return outside_.random();
  }

  // host::FaultHandler
  bool handle(int signal, siginfo_t* info, ucontext_t* context) override;
  bool stop_at(ucontext_t* context, u64 rip, u64 stub);

  // direct::CodeGuard
  void page_holds_code(const u8* host_page) override { tlb_.protect_code_page(host_page); }

  // The dispatcher.
  bool run_directly();
  void interpret_page();
  bool translatable() const;
  u32 mode_now() const;
  Block* block_at(u64 linear, u32 mode, bool& global);
  void enter(u64 code, u32 mode);
  engine::Exit come_back(engine::ExitReason reason);
  void forget_everything();

  void put_away_vector();
  void take_back_vector();

  memory::AddressSpace& memory_;
  cpu::Platform& outside_;
  ContextPointer context_;
  CodeCache code_;
  std::unique_ptr<engine::HostedVectorUnit> vector_;
  interp::Interpreter interpreter_;
  Stubs stubs_;
  Entries entries_;
  Tlb tlb_;
  std::optional<BlockStore> blocks_;
  std::optional<direct::Direct> direct_;
  Translator translator_;
  u64 vector_mask_ = 0;
  bool vector_live_ = false;  // the guest's vector state is in host registers
  u32 units_ = 0;             // Mode bits but the view, that the jump caches were filled for
  u64 epoch_ = 0;             // grows whenever blocks or mappings went away
  bool direct_lost_ = false;
  std::atomic<bool> kicked_{false};
  std::optional<host::KickableThread> thread_;
  std::atomic<bool> thread_known_{false};
};

SoftVcpu::SoftVcpu(const engine::EngineContext& engine, ContextPointer context, CodeCache code,
                   std::unique_ptr<engine::HostedVectorUnit> vector)
    : memory_(engine.memory),
      outside_(engine.platform),
      context_(std::move(context)),
      code_(std::move(code)),
      vector_(std::move(vector)),
      interpreter_(engine.memory, *this, engine.model, vector_->unit(), this),
      tlb_(*context_, engine.memory, *this),
      translator_(stubs_) {
  context_->engine = this;
  Emitter emitter(code_.writable(0), code_.executable(0), 8 * kPageSize);
  entries_ = emit_stubs(emitter, stubs_, &fill_read, &fill_write, &fill_group, &interpret);
  blocks_.emplace(code_, entries_.bytes);
  tlb_.set_jump_miss(stubs_.indirect);
  u32 low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  vector_mask_ = kVectorComponents & low;
  if (engine.direct != engine::DirectMode::Off && engine.ram_file >= 0) {
    cpu::TranslationObserver& observer = *this;
    direct::CodeGuard& guard = *this;
    direct_.emplace(engine.memory, engine.ram_file, observer, guard, vector_mask_, engine.model.options().tsc_hz);
    if (engine.direct == engine::DirectMode::Always) direct_->force();
  }
}

// --- vector state -------------------------------------------------------------------------------------

void SoftVcpu::put_away_vector() {
  if (!vector_live_) return;
  u8* image = context_->state.xsave;
  __asm__ volatile("xsave64 (%0)" : : "r"(image), "a"(static_cast<u32>(vector_mask_)), "d"(0) : "memory");
  // Host code addresses that the x87 unit remembers are not the guest's business.
  __builtin_memset(image + 8, 0, 16);
  // Host code expects the unit as the ABI has it.
  constexpr u32 kDefaultMxcsr = 0x1f80;
  __asm__ volatile("fninit\n\tldmxcsr %0" : : "m"(kDefaultMxcsr));
  vector_live_ = false;
}

void SoftVcpu::take_back_vector() {
  if (vector_live_) return;
  __asm__ volatile("xrstor64 (%0)"
                   :
                   : "r"(context_->state.xsave), "a"(static_cast<u32>(vector_mask_)), "d"(0)
                   : "memory");
  vector_live_ = true;
}

// --- helpers ------------------------------------------------------------------------------------------

HelperResult SoftVcpu::finish_helper(HelperResult result) {
  if (result == HelperResult::Leave) {
    context_->exit_kind = static_cast<u32>(ExitKind::Lookup);
  } else {
    take_back_vector();
  }
  return result;
}

HelperResult SoftVcpu::fill_read(Context* context, u64 linear, u64 note) {
  return static_cast<SoftVcpu*>(context->engine)->fill(linear, false, note);
}
HelperResult SoftVcpu::fill_write(Context* context, u64 linear, u64 note) {
  return static_cast<SoftVcpu*>(context->engine)->fill(linear, true, note);
}
HelperResult SoftVcpu::interpret(Context* context, u64 note) {
  auto* self = static_cast<SoftVcpu*>(context->engine);
  const HelperResult result = self->interpret_here(note);
  // The call's return address is the code behind the instruction: "past" it is where it points already.
  return self->finish_helper(result == HelperResult::Past ? HelperResult::Again : result);
}

HelperResult SoftVcpu::fill(u64 linear, bool write, u64 note) {
  const u64 epoch = epoch_;
  // An access may cross into the next page; only the interpreter does those.
  const TlbEntry& entry =
      context_->tlb[context_->mode & Mode::view_mask][(linear >> kPageShift) & (kTlbEntries - 1)];
  const bool had = (write ? entry.write_tag : entry.read_tag) == (linear & ~u64{kPageSize - 1});
  if (!had && tlb_.fill(static_cast<View>(context_->mode & Mode::view_mask), linear, write)) {
    return finish_helper(epoch == epoch_ ? HelperResult::Again : HelperResult::Leave);
  }
  return finish_helper(interpret_here(note));
}

// A shared check failed. The page may just not be in the TLB; else the window crosses a page, or only a
// part of the group may be accessed, and its block is made anew without groups.
HelperResult SoftVcpu::fill_group(Context* context, u64 low, u64 note) {
  auto* self = static_cast<SoftVcpu*>(context->engine);
  const u64 window = note >> GroupNote::window_shift;
  const bool write = (note & GroupNote::write) != 0;
  const bool stack = (note & GroupNote::stack) != 0;
  const View view = static_cast<View>(context->mode & Mode::view_mask);
  const u64 epoch = self->epoch_;
  if (((low ^ (low + window - 1)) & ~u64{kPageSize - 1}) == 0 &&
      (stack ? self->tlb_.fill_stack(view, low, write) : self->tlb_.fill(view, low, write))) {
    return self->finish_helper(epoch == self->epoch_ ? HelperResult::Again : HelperResult::Leave);
  }
  // Whether a page fault comes of it shows in CR2.
  constexpr u64 kMark = 0xdead'0000'0000'0000;
  const u64 cr2 = context->state.cr2;
  const u64 came_from = context->call_stack[7];
  context->state.cr2 = kMark;
  self->interpret_here(note & 0xffff);
  if (context->state.cr2 == kMark) {
    context->state.cr2 = cr2;
    self->ungroup(came_from);
  }
  return self->finish_helper(HelperResult::Leave);
}

// The block that called from this host address is dropped; made anew, its accesses do not share checks.
void SoftVcpu::ungroup(u64 host_address) {
  put_away_vector();
  if (const Block* block = blocks_->at_code(code_.offset_of(host_address));
      block != nullptr && block->valid) {
    epoch_++;
    for (unsigned v = 0; v < kViews; v++) tlb_.forget_jumps(static_cast<View>(v));
    blocks_->ungroup(blocks_->index(*block));
  }
}

HelperResult SoftVcpu::interpret_here(u64 note) {
  State& state = context_->state;
  if ((note & InterpretNote::needs_vector) != 0) put_away_vector();
  const u64 expected = state.rip + (note & InterpretNote::length_mask);
  const u64 epoch = epoch_;
  interpreter_.execute_one(state);
  if ((note & InterpretNote::length_mask) == 0 || state.rip != expected || epoch != epoch_ ||
      state.activity != Activity::Running || state.interrupt_shadow || mode_now() != context_->mode ||
      ((state.rflags & Rflags::IF) != 0 && outside_.interrupt_pending()) || state.nmi_pending ||
      state.pending.kind != cpu::Event::Kind::None || !translatable()) {
    return HelperResult::Leave;
  }
  return HelperResult::Past;
}

// --- coherence ----------------------------------------------------------------------------------------

void SoftVcpu::flush_all() {
  epoch_++;
  if (direct_) direct_->mappings().forget_all();
  tlb_.flush_all();
  blocks_->suspend_links(true);
}
void SoftVcpu::flush_non_global() {
  epoch_++;
  if (direct_) direct_->mappings().forget_all();
  tlb_.flush_non_global();
  blocks_->suspend_links(false);
}
void SoftVcpu::flush_page(GuestLinear address) {
  epoch_++;
  if (direct_) direct_->mappings().forget_page(address.value());
  tlb_.flush_page(address.value());
  blocks_->suspend_links_to(address.page().value());
}

void SoftVcpu::code_written(GuestPhysical address, usize bytes) {
  static_cast<void>(bytes);
  put_away_vector();
  const GuestPhysical page = address.page();
  u8* flags = memory_.page_flags(page);
  if (flags != nullptr) *flags = static_cast<u8>(*flags & ~memory::PageFlag::code);
  if (direct_) direct_->mappings().forget_physical(page.value());
  if (blocks_->invalidate_page(page.value())) {
    epoch_++;
    for (unsigned v = 0; v < kViews; v++) tlb_.forget_jumps(static_cast<View>(v));
  }
}

void SoftVcpu::forget_everything() {
  epoch_++;
  blocks_->clear();
  for (unsigned v = 0; v < kViews; v++) tlb_.forget_jumps(static_cast<View>(v));
  // Pages stay marked as code until they are written once; that is only slower.
}

void SoftVcpu::state_changed() {
  interpreter_.flush();
  flush_all();
}

// --- signals ------------------------------------------------------------------------------------------

bool SoftVcpu::stop_at(ucontext_t* context, u64 rip, u64 stub) {
  context_->state.rip = rip;
  context->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(stub);
  context->uc_mcontext.gregs[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
  return true;
}

bool SoftVcpu::handle(int signal, siginfo_t* info, ucontext_t* context) {
  auto& registers = context->uc_mcontext.gregs;
  const u64 pc = static_cast<u64>(registers[REG_RIP]);
  // Not by TF as it is now: the step may have been a popf that cleared it.
  const bool stepping = signal == SIGTRAP && info->si_code == TRAP_TRACE;
  const bool kick_signal = signal == host::SignalDispatcher::kick_signal();
  if (!code_.holds(pc)) {
    if (!kick_signal && !stepping) return false;
    context_->exit_request = 1;
    if (kick_signal && direct_) direct_->interrupt();
    registers[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
    return true;
  }
  const usize offset = code_.offset_of(pc);
  const Block* block = blocks_->at_code(offset);
  const InstructionInfo* at = block == nullptr ? nullptr : blocks_->instruction_at(*block, offset);
  bool whole = false;  // the guest's state is that before the instruction
  if (at != nullptr) {
    const usize within = offset - block->code;
    whole = within <= at->commit && !(within > at->fragile_begin && within < at->fragile_end);
  }
  if (kick_signal || stepping) {
    context_->exit_request = 1;
    if (whole) return stop_at(context, block->linear + at->guest_offset, entries_.async);
    // Between two instructions, or in a stub: on until a place where the state is whole.
    registers[REG_EFL] |= static_cast<greg_t>(kTrapFlag);
    return true;
  }
  // A fault of the guest's own: division, alignment, an unmasked floating-point exception. The interpreter
  // runs the instruction again and raises what the architecture says.
  if (!whole) return false;
  return stop_at(context, block->linear + at->guest_offset, entries_.fault);
}

void SoftVcpu::kick() {
  kicked_.store(true);
  if (!thread_known_.load(std::memory_order_acquire)) return;
  // From its own thread (a handler of the kick signal, or a device within a Platform call) no signal is sent:
  // it would come back here from that handler for ever.
  if (gettid() == thread_->id()) {
    context_->exit_request = 1;
  } else {
    thread_->kick();
  }
}

// --- dispatcher ---------------------------------------------------------------------------------------

u32 SoftVcpu::mode_now() const {
  const State& s = context_->state;
  View view = View::Kernel;
  if (s.cpl() == 3) {
    view = View::User;
  } else if ((s.rflags & Rflags::AC) != 0) {
    view = View::KernelUserAccess;
  }
  u32 mode = static_cast<u32>(view);
  if ((s.cr0 & (Cr0::EM | Cr0::TS)) == 0) {
    mode |= Mode::x87;
    if ((s.cr4 & Cr4::OSFXSR) != 0) mode |= Mode::sse;
    if ((s.cr4 & Cr4::OSXSAVE) != 0) {
      constexpr u64 kAvx = cpu::Xcr0::SSE | cpu::Xcr0::AVX;
      constexpr u64 kAvx512 = kAvx | cpu::Xcr0::opmask | cpu::Xcr0::ZMM_Hi256 | cpu::Xcr0::Hi16_ZMM;
      if ((s.xcr0 & kAvx) == kAvx) mode |= Mode::avx;
      if ((s.xcr0 & kAvx512) == kAvx512) mode |= Mode::avx512;
    }
  }
  return mode;
}

bool SoftVcpu::translatable() const {
  const State& s = context_->state;
  if (!s.in_64bit_code() || (s.rflags & (Rflags::TF | Rflags::RF)) != 0 || (s.dr7 & 0xff) != 0) return false;
  return (s.rflags & Rflags::AC) == 0 || (s.cr0 & Cr0::AM) == 0 || s.cpl() != 3;
}

Block* SoftVcpu::block_at(u64 linear, u32 mode, bool& global) {
  const View view = static_cast<View>(mode & Mode::view_mask);
  const Tlb::CodePage* page = tlb_.code_page(view, linear);
  if (page == nullptr) return nullptr;
  global = page->global;
  const u64 offset = linear & (kPageSize - 1);
  const u64 physical = page->physical + offset;
  if (Block* known = blocks_->find(linear, physical, mode)) return known;
  put_away_vector();
  if ((*page->flags & memory::PageFlag::code) == 0) {
    *page->flags |= memory::PageFlag::code;
    if (direct_) direct_->mappings().forget_physical(page->physical);
    tlb_.protect_code_page(page->host);
  }
  TranslationInput input;
  input.bytes = page->host + offset;
  input.available = kPageSize - offset;
  input.linear = linear;
  input.mode = mode;
  Block* made = blocks_->add(translator_, input, physical);
  if (made == nullptr) {
    forget_everything();
    made = blocks_->add(translator_, input, physical);
  }
  return made;
}

void SoftVcpu::enter(u64 code, u32 mode) {
  context_->mode = mode;
  if (units_ != (mode & ~Mode::view_mask)) {
    units_ = mode & ~Mode::view_mask;
    for (unsigned v = 0; v < kViews; v++) tlb_.forget_jumps(static_cast<View>(v));
  }
  context_->enter_target = code;
  take_back_vector();
  entries_.enter(context_.get());
}

engine::Exit SoftVcpu::come_back(engine::ExitReason reason) {
  put_away_vector();
  return {reason, {}};
}

// A short visit to a page that cannot run natively: the guest's vDSO, say.
void SoftVcpu::interpret_page() {
  constexpr unsigned kShort = 400;  // instructions
  State& state = context_->state;
  const u64 page = state.rip >> kPageShift;
  for (unsigned i = 0; i < kShort; i++) {
    interpreter_.execute_one(state);
    if (state.rip >> kPageShift != page || state.cpl() != 3 || context_->exit_request != 0 ||
        state.pending.kind != cpu::Event::Kind::None || !translatable()) {
      return;
    }
  }
  direct_->refuse(state);
}

// Runs user code in the stub process. False: the translator must do it.
bool SoftVcpu::run_directly() {
  put_away_vector();
  switch (direct_->run(context_->state, context_->exit_request)) {
    case direct::Outcome::Declined:
      return false;
    case direct::Outcome::Interpret:
      interpreter_.execute_one(context_->state);
      return true;
    case direct::Outcome::Returned:
      return true;
    case direct::Outcome::Foreign:
      interpret_page();
      return true;
    case direct::Outcome::Failed:
      direct_lost_ = true;
      return true;
  }
  return true;
}

engine::Exit SoftVcpu::run() {
  if (!thread_known_.load(std::memory_order_relaxed)) {
    thread_.emplace(host::KickableThread::current());
    thread_known_.store(true, std::memory_order_release);
  }
  const host::FaultScope vector_scope(*vector_);
  const host::FaultScope own_scope(*this);
  State& state = context_->state;
  for (;;) {
    if (direct_lost_) {
      return {engine::ExitReason::Failed,
              Error("The process that ran the guest's user code has died (was it killed? is the host out of memory?).")};
    }
    if (kicked_.exchange(false)) {
      context_->exit_request = 0;
      if (direct_ && state.cpl() == 3) direct_->user_interrupted(state);
      return come_back(engine::ExitReason::Kicked);
    }
    context_->exit_request = 0;
    if (kicked_.load()) continue;
    const bool event_due = state.pending.kind != cpu::Event::Kind::None || state.nmi_pending ||
                           ((state.rflags & Rflags::IF) != 0 && outside_.interrupt_pending());
    if (state.activity != Activity::Running || event_due || state.interrupt_shadow || !translatable()) {
      put_away_vector();
      switch (interpreter_.step(state)) {
        case interp::StepResult::Executed:
          continue;
        case interp::StepResult::Halted:
          return come_back(engine::ExitReason::Halted);
        case interp::StepResult::Shutdown:
          return come_back(engine::ExitReason::Shutdown);
      }
    }
    if (direct_ && (direct_->wanted(state) || direct_->forced(state)) && run_directly()) continue;
    u32 mode = mode_now();
    bool global = false;
    Block* block = block_at(state.rip, mode, global);
    if (block == nullptr) {
      put_away_vector();
      interpreter_.execute_one(state);
      continue;
    }
    u64 code = blocks_->code_address(*block);
    // Requests that need no look at the rest of the machine are answered here.
    for (bool again = true; again;) {
      enter(code, mode);
      again = false;
      mode = context_->mode;  // translated code changes views by itself
      switch (static_cast<ExitKind>(context_->exit_kind)) {
        case ExitKind::Link: {
          const ExitIndex number = static_cast<ExitIndex>(context_->exit_info);
          const u64 epoch = epoch_;
          state.rip = blocks_->exit(number).target;
          block = block_at(state.rip, mode, global);
          if (block == nullptr || context_->exit_request != 0) break;
          if (epoch == epoch_) blocks_->link(number, *block, global);
          code = blocks_->code_address(*block);
          again = true;
          break;
        }
        case ExitKind::Indirect: {
          state.rip = context_->exit_info;
          block = block_at(state.rip, mode, global);
          if (block == nullptr || context_->exit_request != 0) break;
          const u64 entry = blocks_->indirect_entry(*block, stubs_.indirect);
          if (entry != 0) {
            tlb_.remember_jump(static_cast<View>(mode & Mode::view_mask), state.rip, entry, global);
          }
          code = blocks_->code_address(*block);
          again = true;
          break;
        }
        case ExitKind::Interpret:
          put_away_vector();
          interpreter_.execute_one(state);
          break;
        case ExitKind::Lookup:
        case ExitKind::Async:
          break;
      }
    }
  }
}

}  // namespace

Result<std::unique_ptr<engine::Vcpu>> make(const engine::EngineContext& engine) {
  if (!__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("avx")) {
    return Error(
        "engine soft needs a processor with BMI2 and XSAVE (any x86-64 since 2013); use --engine interp");
  }
  TRY(host::SignalDispatcher::install());
  auto context = TRY(make_context());
  auto code = TRY(CodeCache::create());
  auto vector = TRY(engine::HostedVectorUnit::create());
  return std::unique_ptr<engine::Vcpu>(
      new SoftVcpu(engine, std::move(context), std::move(code), std::move(vector)));
}

}  // namespace nacre::soft
