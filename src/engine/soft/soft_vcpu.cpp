#include "engine/soft/soft.hpp"

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <optional>

#include "cpu/model.hpp"
#include "engine/hosted_vector_unit.hpp"
#include "engine/soft/block_store.hpp"
#include "engine/soft/record.hpp"
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
// memcpy would use vector registers, which may hold the guest's values.
void copy(u8* to, const u8* from, u64 bytes) {
  __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(bytes) : : "memory");
}
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
                       private host::FaultHandler {
 public:
  SoftVcpu(const engine::EngineContext& engine, ContextPointer context, CodeCache code,
           std::unique_ptr<engine::HostedVectorUnit> vector);
  ~SoftVcpu() override {
    if (record_ != nullptr) record_->finish(*blocks_, code_);
  }
  SoftVcpu(const SoftVcpu&) = delete;
  SoftVcpu& operator=(const SoftVcpu&) = delete;

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
  HelperResult fill_group(u64 low, u64 note);
  bool bounce(u64 linear, u64 bytes, bool write);
  u8* host_of(View view, u64 linear, bool write);
  HelperResult interpret_here(u64 note);
  HelperResult finish_helper(HelperResult result);
  bool go_on();
  [[nodiscard]] View view_now() const { return static_cast<View>(context_->mode & Mode::view_mask); }
  bool event_due();
  void set_mode(u32 mode);

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
  bool interrupt_pending() override {
    const std::atomic<bool>* hint = context_->interrupt_hint;
    if (hint != nullptr && !hint->load(std::memory_order_relaxed)) return false;
    put_away_vector();
    return outside_.interrupt_pending();
  }
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
  void stop_in_stub(ucontext_t* context, usize offset);

  // The dispatcher.
  bool translatable() const;
  u32 mode_now() const;
  Block* block_at(u64 linear, u32 mode, bool& global);
  Block* tail_at(u64 linear, u32 mode, bool& global);
  Block* led_to(ExitIndex number, u32 mode, bool& global);
  void protect(const Tlb::CodePage& page);
  void enter(u64 code, u32 mode);
  engine::Exit come_back(engine::ExitReason reason);
  void forget_everything();

  void put_away_vector();
  void take_back_vector();
  void note(Help help, u64 rip) {
    if (record_ == nullptr) return;
    put_away_vector();
    record_->count(help, rip);
  }

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
  Translator translator_;
  const bool native_tsc_;
  u64 vector_mask_ = 0;
  bool vector_live_ = false;  // the guest's vector state is in host registers
  u32 units_ = 0;             // Mode bits but the view, that the jump caches were filled for
  u64 epoch_ = 0;             // grows whenever blocks or mappings went away
  std::atomic<bool> kicked_{false};
  std::optional<host::KickableThread> thread_;
  std::atomic<bool> thread_known_{false};
  const std::unique_ptr<Record> record_ = Record::create();
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
      translator_(stubs_),
      native_tsc_(engine.native_tsc) {
  context_->engine = this;
  context_->interrupt_hint = engine.interrupt_hint;
  Emitter emitter(code_.writable(0), code_.executable(0), 8 * kPageSize);
  entries_ = emit_stubs(emitter, stubs_, &fill_read, &fill_write, &fill_group, &interpret);
  blocks_.emplace(code_, entries_.bytes);
  tlb_.set_jump_miss(stubs_.indirect);
  u32 low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  vector_mask_ = kVectorComponents & low;
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
  if (result == HelperResult::Leave && !go_on()) {
    context_->exit_kind = static_cast<u32>(ExitKind::Lookup);
    return result;
  }
  take_back_vector();
  return result == HelperResult::Leave ? HelperResult::Jump : result;
}

// Prepares to run on at state.rip without going through the dispatcher. False when that must have a look.
bool SoftVcpu::go_on() {
  const State& state = context_->state;
  if (state.activity != Activity::Running || state.interrupt_shadow || event_due() || !translatable()) return false;
  const u32 mode = mode_now();
  bool global = false;
  const Block* block = block_at(state.rip, mode, global);
  if (block == nullptr) return false;
  set_mode(mode);
  context_->enter_target = blocks_->code_address(*block);
  return true;
}

bool SoftVcpu::event_due() {
  const State& state = context_->state;
  return state.pending.kind != cpu::Event::Kind::None || state.nmi_pending ||
         ((state.rflags & Rflags::IF) != 0 && interrupt_pending());
}

HelperResult SoftVcpu::fill_read(Context* context, u64 linear, u64 note) {
  return static_cast<SoftVcpu*>(context->engine)->fill(linear, false, note);
}
HelperResult SoftVcpu::fill_write(Context* context, u64 linear, u64 note) {
  return static_cast<SoftVcpu*>(context->engine)->fill(linear, true, note);
}
HelperResult SoftVcpu::interpret(Context* context, u64 note) {
  auto* self = static_cast<SoftVcpu*>(context->engine);
  self->note(Help::Interpret, context->state.rip);
  const HelperResult result = self->interpret_here(note);
  // The call's return address is the code behind the instruction: "past" it is where it points already.
  return self->finish_helper(result == HelperResult::Past ? HelperResult::Again : result);
}

HelperResult SoftVcpu::fill_group(Context* context, u64 low, u64 note) {
  return static_cast<SoftVcpu*>(context->engine)->fill_group(low, note);
}

HelperResult SoftVcpu::fill(u64 linear, bool write, u64 note) {
  const u64 epoch = epoch_;
  const u64 bytes = note >> InterpretNote::window_shift;
  const bool crosses = (linear & (kPageSize - 1)) + bytes > kPageSize;
  this->note(crosses ? Help::Crossing : write ? Help::FillWrite : Help::FillRead, context_->state.rip);
  // Going on with the instruction in the block, a kick would find the state between STI and it.
  const bool shadowed = (note & InterpretNote::shadowed) != 0;
  if (crosses) {
    if (!shadowed && (note & InterpretNote::bounce) != 0 && bounce(linear, bytes, write)) {
      return finish_helper(epoch == epoch_ ? HelperResult::Bounced : HelperResult::Leave);
    }
  } else if (tlb_.fill(view_now(), linear, write) && !shadowed) {
    return finish_helper(epoch == epoch_ ? HelperResult::Again : HelperResult::Leave);
  }
  this->note(Help::Denied, context_->state.rip);
  const HelperResult result = interpret_here(note);
  return finish_helper(epoch == epoch_ ? result : HelperResult::Leave);
}

// Where the TLB says that the byte is, after making an entry if need be; null when it may not have one.
u8* SoftVcpu::host_of(View view, u64 linear, bool write) {
  const TlbEntry& entry =
      context_->tlb[static_cast<usize>(view)][(linear >> kPageShift) & (kTlbEntries - 1)];
  const bool known = (write ? entry.write_tag : entry.read_tag) == (linear & ~u64{kPageSize - 1});
  if (!known && !tlb_.fill(view, linear, write)) return nullptr;
  return reinterpret_cast<u8*>(entry.host_page + (linear & (kPageSize - 1)));
}

// Prepares a crossing access: the operand as it is now is put in Context::bounce.
bool SoftVcpu::bounce(u64 linear, u64 bytes, bool write) {
  Bounce& bounce = context_->bounce;
  const u64 boundary = (linear | (kPageSize - 1)) + 1;
  if (boundary == 0 || bytes > Bounce::kBoundary) return false;
  const u8* second = host_of(view_now(), boundary, write);
  if (second == nullptr) return false;
  const u8* first = host_of(view_now(), linear, write);
  if (first == nullptr) return false;
  bounce.first = reinterpret_cast<u64>(first);
  bounce.first_bytes = boundary - linear;
  bounce.second = reinterpret_cast<u64>(second);
  bounce.second_bytes = bytes - bounce.first_bytes;
  u8* at = bounce.bytes + Bounce::kBoundary - bounce.first_bytes;
  bounce.at = reinterpret_cast<u64>(at);
  copy(at, first, bounce.first_bytes);
  copy(bounce.bytes + Bounce::kBoundary, second, bounce.second_bytes);
  return true;
}

// A shared check failed. The page may just not be in the TLB; else the window crosses a page, or only a
// part of the group may be accessed, and the block's twin does this run. A block whose group is denied time and
// again is made anew without groups.
HelperResult SoftVcpu::fill_group(u64 low, u64 note) {
  constexpr unsigned kPatience = 16;
  const u64 window = note >> GroupNote::window_shift;
  const bool write = (note & GroupNote::write) != 0;
  const bool stack = (note & GroupNote::stack) != 0;
  const u64 epoch = epoch_;
  const u64 rip = context_->state.rip;
  this->note(stack ? Help::FillStack : Help::FillGroup, rip);
  const bool crosses = ((low ^ (low + window - 1)) & ~u64{kPageSize - 1}) != 0;
  if (!crosses && (stack ? tlb_.fill_stack(view_now(), low, write) : tlb_.fill(view_now(), low, write))) {
    return finish_helper(epoch == epoch_ ? HelperResult::Again : HelperResult::Leave);
  }
  this->note(Help::Twin, rip);
  if (!crosses) {
    Block* block = blocks_->at_code(code_.offset_of(context_->call_stack[7]));
    if (block != nullptr && block->valid && ++block->denied > kPatience) {
      put_away_vector();
      epoch_++;
      for (unsigned v = 0; v < kViews; v++) tlb_.forget_jumps(static_cast<View>(v));
      blocks_->ungroup(blocks_->index(*block));
    }
  }
  return finish_helper(epoch == epoch_ ? HelperResult::Past : HelperResult::Leave);
}

HelperResult SoftVcpu::interpret_here(u64 note) {
  State& state = context_->state;
  if ((note & InterpretNote::needs_vector) != 0) put_away_vector();
  const u64 expected = state.rip + (note & InterpretNote::length_mask);
  const u64 epoch = epoch_;
  interpreter_.execute_one(state);
  if ((note & InterpretNote::length_mask) == 0 || state.rip != expected || epoch != epoch_ ||
      state.activity != Activity::Running || state.interrupt_shadow || mode_now() != context_->mode ||
      ((state.rflags & Rflags::IF) != 0 && interrupt_pending()) || state.nmi_pending ||
      state.pending.kind != cpu::Event::Kind::None || !translatable()) {
    return HelperResult::Leave;
  }
  return HelperResult::Past;
}

// --- coherence ----------------------------------------------------------------------------------------

void SoftVcpu::flush_all() {
  note(Help::Flush, context_->state.rip);
  epoch_++;
  tlb_.flush_all();
  blocks_->suspend_links(true);
}
void SoftVcpu::flush_non_global() {
  note(Help::Flush, context_->state.rip);
  epoch_++;
  tlb_.flush_non_global();
  blocks_->suspend_links(false);
}
void SoftVcpu::flush_page(GuestLinear address) {
  note(Help::Flush, context_->state.rip);
  epoch_++;
  const u64 bytes = tlb_.flush_page(address.value());
  blocks_->suspend_links_to(address.value(), bytes);
}

void SoftVcpu::code_written(GuestPhysical address, usize bytes) {
  static_cast<void>(bytes);
  put_away_vector();
  note(Help::CodeWrite, context_->state.rip);
  const GuestPhysical page = address.page();
  u8* flags = memory_.page_flags(page);
  if (flags != nullptr) *flags = static_cast<u8>(*flags & ~memory::PageFlag::code);
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

// The stubs look at exit_request themselves; behind that they are sent back to look again. Not those that go back to
// translated code without the dispatcher or a helper.
void SoftVcpu::stop_in_stub(ucontext_t* context, usize offset) {
  auto& registers = context->uc_mcontext.gregs;
  context_->exit_request = 1;
  registers[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
  if (offset >= entries_.quick_begin && offset < entries_.quick_end) registers[REG_EFL] |= static_cast<greg_t>(kTrapFlag);
  for (usize i = 0; i < entries_.ways_in_count; i++) {
    const WayIn& way = entries_.ways_in[i];
    if (offset <= way.check || offset >= way.end) continue;
    if (offset <= way.loaded) {
      registers[REG_RIP] = static_cast<greg_t>(code_.executable(way.check));
    } else {
      registers[REG_EFL] |= static_cast<greg_t>(kTrapFlag);
    }
  }
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
    registers[REG_EFL] &= ~static_cast<greg_t>(kTrapFlag);
    return true;
  }
  const usize offset = code_.offset_of(pc);
  if ((kick_signal || stepping) && offset < entries_.bytes) {
    stop_in_stub(context, offset);
    return true;
  }
  const Block* block = blocks_->at_code(offset);
  const InstructionInfo* at = block == nullptr ? nullptr : blocks_->instruction_at(*block, offset);
  bool whole = false;  // the guest's state is that before the instruction
  if (at != nullptr) {
    const usize within = offset - block->code;
    whole = within <= at->commit && !at->borrowed_at(within);
    if (at->shadowed && (kick_signal || stepping)) whole = false;
  }
  if (kick_signal || stepping) {
    context_->exit_request = 1;
    if (whole) return stop_at(context, block->linear + at->guest_offset, entries_.async);
    // Between two instructions: on until a place where the state is whole.
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
  if (native_tsc_ && ((s.cr4 & Cr4::TSD) == 0 || view != View::User)) mode |= Mode::tsc;
  if (context_->interrupt_hint != nullptr) mode |= Mode::hint;
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
  protect(*page);
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

void SoftVcpu::protect(const Tlb::CodePage& page) {
  if ((*page.flags & memory::PageFlag::code) != 0) return;
  *page.flags |= memory::PageFlag::code;
  tlb_.protect_code_page(page.host);
}

// The instruction at `linear`, which goes on on the next page. Null when that cannot be fetched. The first page needs no
// protection here: this is found through a block on it, and by what it holds.
Block* SoftVcpu::tail_at(u64 linear, u32 mode, bool& global) {
  const View view = static_cast<View>(mode & Mode::view_mask);
  const u64 boundary = (linear | (kPageSize - 1)) + 1;
  const Tlb::CodePage* first = tlb_.code_page(view, linear);
  const Tlb::CodePage* second = tlb_.code_page(view, boundary);
  if (first == nullptr || second == nullptr) return nullptr;
  global = first->global && second->global;
  BlockStore::SpanningBytes bytes;
  for (u64 i = 0; i < bytes.size(); i++) {
    const u64 at = linear + i;
    bytes[i] = (at < boundary ? first : second)->host[at & (kPageSize - 1)];
  }
  const u32 key = mode | Mode::spanning;
  put_away_vector();
  if (Block* known = blocks_->find_spanning(linear, second->physical, key, bytes)) return known;
  protect(*second);
  TranslationInput input;
  input.bytes = bytes.data();
  input.available = bytes.size();
  input.linear = linear;
  input.mode = key;
  Block* made = blocks_->add_spanning(translator_, input, second->physical, bytes);
  if (made == nullptr) {
    forget_everything();
    made = blocks_->add_spanning(translator_, input, second->physical, bytes);
  }
  return made;
}

Block* SoftVcpu::led_to(ExitIndex number, u32 mode, bool& global) {
  switch (blocks_->exit(number).lead) {
    case Lead::Twin:
      return block_at(context_->state.rip, mode | Mode::ungrouped, global);
    case Lead::Tail:
      return tail_at(context_->state.rip, mode, global);
    default:
      return block_at(context_->state.rip, mode, global);
  }
}

void SoftVcpu::set_mode(u32 mode) {
  context_->mode = mode;
  if (units_ != (mode & ~Mode::view_mask)) {
    units_ = mode & ~Mode::view_mask;
    for (unsigned v = 0; v < kViews; v++) tlb_.forget_jumps(static_cast<View>(v));
  }
}

void SoftVcpu::enter(u64 code, u32 mode) {
  set_mode(mode);
  context_->enter_target = code;
  take_back_vector();
  entries_.enter(context_.get());
}

engine::Exit SoftVcpu::come_back(engine::ExitReason reason) {
  put_away_vector();
  return {reason, {}};
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
    if (kicked_.exchange(false)) {
      context_->exit_request = 0;
      return come_back(engine::ExitReason::Kicked);
    }
    context_->exit_request = 0;
    if (kicked_.load()) continue;
    if (state.activity != Activity::Running || event_due() || state.interrupt_shadow || !translatable()) {
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
          const BlockExit& exit = blocks_->exit(number);
          state.rip = exit.lead == Lead::Tail ? blocks_->block(exit.from).linear : exit.target;
          const bool tail = exit.lead == Lead::Tail;
          note(Help::Link, state.rip);
          block = led_to(number, mode, global);
          if (context_->exit_request != 0) break;
          if (block == nullptr) {
            // The block before a tail is there all the same, and would lead here again.
            if (tail) {
              put_away_vector();
              interpreter_.execute_one(state);
            }
            break;
          }
          if (epoch == epoch_) blocks_->link(number, *block, global);
          code = blocks_->code_address(*block);
          again = true;
          break;
        }
        case ExitKind::Indirect: {
          state.rip = context_->exit_info;
          note(Help::Indirect, state.rip);
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
          note(Help::Fault, state.rip);
          put_away_vector();
          interpreter_.execute_one(state);
          break;
        case ExitKind::Lookup:
          note(Help::Lookup, state.rip);
          break;
        case ExitKind::Async:
          note(Help::Async, state.rip);
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
