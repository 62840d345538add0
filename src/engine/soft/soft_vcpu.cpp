#include "engine/soft/soft_vcpu.hpp"

#include <new>

namespace nacre::soft {

using x86::Rflags;

namespace {

// The XSAVE components that hold guest values while translated code runs.
constexpr u64 kVectorComponents = cpu::Xcr0::x87 | cpu::Xcr0::SSE | cpu::Xcr0::AVX | cpu::Xcr0::opmask |
                                  cpu::Xcr0::ZMM_Hi256 | cpu::Xcr0::Hi16_ZMM;

Result<ContextPointer> make_context() {
  // Zero pages: most of the jump caches are never touched.
  void* memory = mmap(nullptr, sizeof(Context), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return Error("not enough memory for a virtual processor");
  return ContextPointer(new (memory) Context);
}

}  // namespace

SoftVcpu::SoftVcpu(const engine::EngineContext& engine, ContextPointer context, CodeCache code,
                   std::unique_ptr<engine::HostedVectorUnit> vector, std::unique_ptr<Crew> own_crew,
                   TranslatorOptions options)
    : memory_(engine.memory),
      outside_(engine.platform),
      own_crew_(std::move(own_crew)),
      crew_(own_crew_ != nullptr ? *own_crew_ : static_cast<Crew&>(*engine.group)),
      me_(own_crew_ != nullptr ? 0 : engine.number),
      context_(std::move(context)),
      code_(std::move(code)),
      vector_(std::move(vector)),
      interpreter_(engine.memory, *this, engine.model, vector_->unit(), this),
      tlb_(*context_, engine.memory, *this, crew_, me_),
      translator_(stubs_, options),
      tracer_(engine.tracer),
      trace_blocks_(engine.tracer != nullptr && engine.trace_blocks),
      native_tsc_(engine.native_tsc),
      tscp_(engine.model.has(x86::Feature::Rdtscp) ? Mode::tscp : 0),
      counted_(options.counted) {
  if (tracer_ != nullptr) {
    interpreter_.set_listener(this);
    if (engine.trace_system_registers) interpreter_.tell_system_registers();
  }
  context_->engine = this;
  context_->interrupt_hint = engine.interrupt_hint;
  Emitter emitter(code_.writable(0), code_.executable(0), 8 * kPageSize);
  entries_ = emit_stubs(emitter, stubs_, &fill_read, &fill_write, &fill_group, &interpret);
  // Blocks that count or are wrong on purpose are for nobody else.
  Library* library = options.counted || !options.mistranslate.empty() ? nullptr : &crew_.library();
  if (library != nullptr && !library->admits(stubs_, code_.executable(0))) library = nullptr;
  // The kernel's blocks stay where they are, and are wanted again by other processors alone: for one it would
  // be memory only.
  kernel_blocks_.emplace(code_, CodeCache::part(false, entries_.bytes),
                         crew_.members() > 1 ? library : nullptr);
  user_blocks_.emplace(code_, CodeCache::part(true, entries_.bytes), library);
  tlb_.set_jump_miss(stubs_.indirect);
  u32 low = 0, high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  vector_mask_ = kVectorComponents & low;
  set_up_direct(engine);
  crew_.join(me_, *context_);
}

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

void SoftVcpu::flush_all() {
  note(Help::Flush, context_->state.rip);
  epoch_++;
  if (direct_) direct_->flushed();
  spaces_.forget_all();
  tlb_.flush_all();
  kernel_blocks_->suspend_links(Lasting::Global);
  user_blocks_->suspend_links(Lasting::Global);
}

// What a flush of everything left to be looked at, by the tables and control registers as they are now,
// before a block is looked for.
void SoftVcpu::look_at_steady_pages() {
  if (!tlb_.steady_pages_in_doubt() || tlb_.steady_pages_stand()) return;
  kernel_blocks_->suspend_links(Lasting::Steady);
}

void SoftVcpu::flush_non_global() {
  note(Help::Flush, context_->state.rip);
  epoch_++;
  if (direct_) direct_->flushed();
  tlb_.flush_non_global();
  kernel_blocks_->suspend_links(Lasting::Space);
  user_blocks_->suspend_links(Lasting::Space);
}
void SoftVcpu::switch_space(u16 from, u16 to, bool keep) {
  if (from == to) {
    // Another address space under the same name.
    spaces_.forget(to);
    return flush_non_global();
  }
  note(Help::Flush, context_->state.rip);
  epoch_++;
  if (direct_) direct_->flushed();
  Space& left = spaces_.make(from);
  tlb_.flush_non_global_into(left);
  kernel_blocks_->suspend_links(Lasting::Space);  // hardly any
  user_blocks_->suspend_links_into(left);
  if (Space* known = keep ? spaces_.find(to) : nullptr) {
    tlb_.take_back(*known);
    user_blocks_->take_back_links(*known);
  }
  spaces_.forget(to);  // what is current is not here
}
void SoftVcpu::flush_page(GuestLinear address) {
  note(Help::Flush, context_->state.rip);
  epoch_++;
  if (direct_) direct_->mappings().forget_page(address.value());
  const Tlb::Dropped dropped = tlb_.flush_page(address.value());
  kernel_blocks_->suspend_links_to(address.value(), dropped.kernel);
  user_blocks_->suspend_links_to(address.value(), dropped.user);
}

void SoftVcpu::code_written(GuestPhysical address, usize bytes) {
  static_cast<void>(bytes);
  put_away_vector();
  note(Help::CodeWrite, context_->state.rip);
  const GuestPhysical page = address.page();
  u8* flags = memory_.page_flags(page);
  if (flags != nullptr) crew_.code_written(me_, page, flags);
  if (direct_) direct_->mappings().forget_physical(page.value());
  drop_page(page);
}

void SoftVcpu::drop_page(GuestPhysical page) {
  const auto forget = [this](const Block& block) { forget_jumps_to(block); };
  const bool kernel = kernel_blocks_->invalidate_page(page.value(), forget);
  if (user_blocks_->invalidate_page(page.value(), forget) || kernel) epoch_++;
}

// No indirect jump leads to the block any more.
void SoftVcpu::forget_jumps_to(const Block& block) {
  if (block.indirect_entry == 0) return;
  tlb_.forget_jump(static_cast<View>(block.mode & Mode::view_mask), block.linear,
                   code_.executable(block.indirect_entry));
}

// What other processors want of this one.
void SoftVcpu::answer(const Crew::Answer& wanted) {
  using Request = Crew::Request;
  put_away_vector();
  epoch_++;
  if ((wanted.of_all_pages & Request::drop_blocks) != 0) {
    forget_everything();
    if (direct_) direct_->mappings().forget_all_code();
  }
  if ((wanted.of_all_pages & Request::drop_write_tags) != 0) {
    spaces_.forget_all();
    tlb_.flush_all();
    if (direct_) direct_->mappings().forget_all();
  }
  for (unsigned i = 0; i < wanted.count; i++) {
    const u64 request = wanted.requests[i];
    const GuestPhysical page(request & ~u64{kPageSize - 1});
    if (direct_) direct_->mappings().forget_physical(page.value());
    if ((request & Request::drop_blocks) != 0) drop_page(page);
    if ((request & Request::drop_write_tags) != 0) {
      if (const u8* host = memory_.host(page, false)) protect_writes(host);
    }
  }
}

void SoftVcpu::memory_changed(GuestPhysical address, u64 bytes) {
  if (bytes == ~u64{0}) {
    if (direct_) direct_->mappings().forget_all_code();
    return forget_everything();
  }
  if (bytes == 0) return;
  const u64 last = (address + (bytes - 1)).page().value();
  for (u64 page = address.page().value(); page <= last; page += kPageSize) {
    code_written(GuestPhysical(page), kPageSize);
  }
}

void SoftVcpu::forget_everything() {
  forget_blocks(*kernel_blocks_);
  forget_blocks(*user_blocks_);
  // Pages stay marked as code until they are written once; that is only slower.
}

void SoftVcpu::forget_blocks(BlockStore& store) {
  epoch_++;
  store.clear();
  for (unsigned v = 0; v < kViews; v++) {
    const bool user = static_cast<View>(v) == View::User;
    if (user == (&store == &*user_blocks_)) tlb_.forget_jumps(static_cast<View>(v));
  }
}

void SoftVcpu::state_changed() {
  interpreter_.flush();
  flush_all();
}

Result<std::unique_ptr<engine::Group>> make_group(const memory::AddressSpace& memory, unsigned processors) {
  auto crew = TRY(Crew::create(memory, processors));
  return std::unique_ptr<engine::Group>(std::move(crew));
}

u64 SoftVcpu::live_flags() {
  if (!translatable()) return Rflags::arithmetic;
  put_away_vector();
  look_at_steady_pages();
  const u64 rip = context_->state.rip;
  const u32 mode = mode_now();
  const Tlb::CodePage* page = tlb_.code_page(static_cast<View>(mode & Mode::view_mask), rip);
  return page == nullptr ? Rflags::arithmetic : translator_.flags_read(input_at(*page, rip, mode));
}

namespace {

Result<std::unique_ptr<CountedVcpu>> make_with(const engine::EngineContext& engine,
                                               TranslatorOptions options) {
  if (!__builtin_cpu_supports("bmi2") || !__builtin_cpu_supports("avx")) {
    return Error(
        "engine soft needs a processor with BMI2 and XSAVE (any x86-64 since 2013); use --engine interp");
  }
  TRY(host::SignalDispatcher::install());
  auto context = TRY(make_context());
  auto code = TRY(CodeCache::create());
  auto vector = TRY(engine::HostedVectorUnit::create());
  std::unique_ptr<Crew> own_crew;
  if (engine.group == nullptr) own_crew = TRY(Crew::create(engine.memory, 1));
  return std::unique_ptr<CountedVcpu>(new SoftVcpu(engine, std::move(context), std::move(code),
                                                   std::move(vector), std::move(own_crew), options));
}

}  // namespace

Result<std::unique_ptr<engine::Vcpu>> make(const engine::EngineContext& engine) {
  auto made = TRY(make_with(engine, {}));
  return std::unique_ptr<engine::Vcpu>(std::move(made));
}

Result<std::unique_ptr<CountedVcpu>> make_counted(const engine::EngineContext& engine,
                                                  std::string_view mistranslate) {
  return make_with(engine, {.counted = true, .mistranslate = mistranslate});
}

}  // namespace nacre::soft
