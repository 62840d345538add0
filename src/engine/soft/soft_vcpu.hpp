// SoftVcpu: the translator's virtual processor. What runs translated code, what that calls, and what
// interrupts it.
//
//   soft_vcpu.cpp      how it is made, vector state, what other processors and page tables change
//   soft_dispatch.cpp  run(): from block to block
//   soft_helpers.cpp   what translated code calls
//   soft_direct.cpp    user code that runs as itself
//   soft_signals.cpp   kicks and host faults
//
// Compiled without vector registers: they hold the guest's values meanwhile. docs/soft-engine.md.
#pragma once

#include <sys/mman.h>

#include <atomic>
#include <memory>
#include <optional>

#include "base/sanitizer.hpp"
#include "cpu/model.hpp"
#include "engine/direct/direct.hpp"
#include "engine/hosted_vector_unit.hpp"
#include "engine/soft/block_store.hpp"
#include "engine/soft/crew.hpp"
#include "engine/soft/record.hpp"
#include "engine/soft/soft.hpp"
#include "engine/soft/stubs.hpp"
#include "engine/soft/tlb.hpp"
#include "host/signals.hpp"
#include "interp/interpreter.hpp"

namespace nacre::soft {

struct ContextDeleter {
  void operator()(Context* context) const {
    context->~Context();
    munmap(context, sizeof(Context));
  }
};
using ContextPointer = std::unique_ptr<Context, ContextDeleter>;

class SoftVcpu final : public CountedVcpu,
                       private cpu::TranslationObserver,
                       private cpu::Platform,
                       private direct::PageClaims,
                       private interp::StepListener,
                       private host::FaultHandler {
 public:
  SoftVcpu(const engine::EngineContext& engine, ContextPointer context, CodeCache code,
           std::unique_ptr<engine::HostedVectorUnit> vector, std::unique_ptr<Crew> own_crew,
           TranslatorOptions options);
  ~SoftVcpu() override {
    crew_.leave(me_);
    if (record_ != nullptr) record_->finish({&*kernel_blocks_, &*user_blocks_}, code_);
  }
  SoftVcpu(const SoftVcpu&) = delete;
  SoftVcpu& operator=(const SoftVcpu&) = delete;

  Status enter_thread() override;
  engine::Exit run() override;
  void kick() override;
  cpu::State& state() override { return context_->state; }
  void state_changed() override;
  void activity_changed() override {}  // run() looks at it
  void memory_changed(GuestPhysical address, u64 bytes) override;
  [[nodiscard]] std::span<const engine::NamedCounter> counters() const override { return counters_.named; }

  void set_fuel(u64 fuel) override {
    context_->fuel = fuel;
    context_->entered[fuel] = 0;  // no block yet
    context_->fresh = 1;
    context_->enough = 0;
  }
  u64 fuel() const override { return context_->fuel; }
  u64 entered(u64 fuel_left) const override { return context_->entered[fuel_left]; }
  void stop_after(u32 host_instructions) override { stop_after_ = host_instructions; }
  u64 live_flags() override;
  void observe_tables(cpu::TranslationObserver& observer) override { tables_ = &observer; }

 private:
  // What translated code calls. The guest's vector state may be in host registers.
  static HelperResult fill_read(Context* context, u64 linear, u64 note);
  static HelperResult fill_write(Context* context, u64 linear, u64 note);
  static HelperResult fill_group(Context* context, u64 low, u64 note);
  static HelperResult interpret(Context* context, u64 note);
  HelperResult fill(u64 linear, bool write, u64 note);
  HelperResult fill_group(u64 low, u64 note);
  HelperResult interpret(u64 note);
  bool bounce(u64 linear, u64 bytes, bool write);
  u8* host_of(View view, u64 linear, bool write);
  HelperResult interpret_here(u64 note);
  HelperResult string(u64 note);
  enum class StringPart : u8 { Done, Denied, Stopped };
  StringPart string_part(u64 note, u64& left);
  HelperResult finish_helper(HelperResult result);
  HelperResult start_again();
  bool go_on();
  [[nodiscard]] View view_now() const { return static_cast<View>(context_->mode & Mode::view_mask); }
  bool event_due();
  BlockStore& blocks(u32 mode) {
    return (mode & Mode::view_mask) == static_cast<u32>(View::User) ? *user_blocks_ : *kernel_blocks_;
  }
  BlockStore& blocks_at(usize offset) {
    return offset >= user_blocks_->code_first() ? *user_blocks_ : *kernel_blocks_;
  }
  void forget_blocks(BlockStore& store);
  void forget_jumps_to(const Block& block);
  void set_mode(u32 mode);
  // The page at this host address holds translated code.
  void protect_writes(const u8* host_page) {
    tlb_.protect_code_page(host_page);
    spaces_.protect(reinterpret_cast<u64>(host_page));
  }

  // cpu::TranslationObserver
  void flush_all() override;
  void flush_non_global() override;
  void flush_page(GuestLinear address) override;
  void switch_space(u16 from, u16 to, bool keep) override;
  void forget_space(u16 pcid) override { spaces_.forget(pcid); }
  void forget_other_spaces() override { spaces_.forget_all(); }
  void code_written(GuestPhysical address, usize bytes) override;
  void table_marked(GuestPhysical entry) override {
    if (tables_ != nullptr) tables_->table_marked(entry);
  }

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
  u64 hypercall(const Hypercall& call) override {
    put_away_vector();
    return outside_.hypercall(call);
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
  void begin_exclusive() override {
    put_away_vector();
    outside_.begin_exclusive();
  }
  void end_exclusive() override { outside_.end_exclusive(); }
  u64 tsc() override { return outside_.tsc(); }
  u64 random() override {
    put_away_vector();
    return outside_.random();
  }

  // interp::StepListener: to the tracer, which takes care of vector registers itself.
  void unknown_instruction(const cpu::State& state, const x86::Instruction& instruction) override {
    tracer_->unknown_instruction(state, instruction.bytes, instruction.length);
  }
  void event(const cpu::State& state, const cpu::Event& event) override { tracer_->event(state, event); }

  void msr(const cpu::State& state, bool write, u32 number, u64 value, bool known) override {
    tracer_->msr(state, write, number, value, known);
  }
  void control_registers(const cpu::State& state, const cpu::ControlRegisters& before,
                         const cpu::ControlRegisters& after) override {
    tracer_->control_registers(state, before, after);
  }

  // host::FaultHandler
  bool handle(int signal, siginfo_t* info, ucontext_t* context) override;
  bool stop_at(ucontext_t* context, u64 rip, u64 stub);
  void stop_in_stub(ucontext_t* context, usize offset);
  bool count_step(ucontext_t* context);
  void trace_block() {
    if (trace_blocks_) tracer_->block(context_->state);
  }
  void burn_fuel() {
    if (counted_ && context_->fuel != 0) context_->entered[--context_->fuel] = context_->state.rip;
  }

  // direct::PageClaims
  bool claim_write(u8* flags) override { return crew_.claim_write(me_, flags); }
  bool claim_code(GuestPhysical page, const u8* host_page, u8* flags) override;
  void set_up_direct(const engine::EngineContext& engine);
  bool run_directly();
  void interpret_page();

  // The dispatcher.
  bool translatable() const;
  u32 mode_now() const;
  // By a link or otherwise, or by an indirect jump.
  enum class Reached : u8 { Otherwise, Indirectly };
  Block* block_at(u64 linear, u32 mode, Lasting& lasting, Reached reached = Reached::Otherwise);
  void look_at_steady_pages();
  Block* tail_at(u64 linear, u32 mode, Lasting& lasting);
  Block* led_to(ExitIndex number, u32 mode, Lasting& lasting);
  static TranslationInput input_at(const Tlb::CodePage& page, u64 linear, u32 mode);
  void protect(const Tlb::CodePage& page);
  void enter(u64 code, u32 mode);
  engine::Exit come_back(engine::ExitReason reason);
  void forget_everything();
  void drop_page(GuestPhysical page);
  void answer(const Crew::Answer& wanted);

  // Somebody wants this processor out of translated code.
  bool requested_now() const { return context_->exit_request.load(std::memory_order_relaxed) != 0; }

  void run_translated();
  // First thing when translated code comes to C++.
  NACRE_NOT_INSTRUMENTED void left_translated_code() {
    if constexpr (kSanitizer) put_away_vector();
  }
  // Last thing when a helper goes back to it.
  NACRE_NOT_INSTRUMENTED HelperResult back_to_translated_code(HelperResult result) {
    if (result != HelperResult::Leave) take_back_vector();
    return result;
  }
  NACRE_NOT_INSTRUMENTED void put_away_vector();
  NACRE_NOT_INSTRUMENTED void take_back_vector();
  void note(Help help, u64 rip) {
    counters_.by_help[static_cast<usize>(help)].count();
    if (record_ == nullptr) return;
    put_away_vector();
    record_->count(help, rip);
  }

  memory::AddressSpace& memory_;
  cpu::Platform& outside_;
  const std::unique_ptr<Crew> own_crew_;  // of a processor that has no others
  Crew& crew_;
  const unsigned me_;
  ContextPointer context_;
  CodeCache code_;
  std::unique_ptr<engine::HostedVectorUnit> vector_;
  interp::Interpreter interpreter_;
  Stubs stubs_;
  Entries entries_;
  Spaces spaces_;
  Tlb tlb_;
  std::optional<BlockStore> kernel_blocks_, user_blocks_;
  std::optional<direct::Direct> direct_;
  Translator translator_;
  engine::Tracer* const tracer_;
  const bool trace_blocks_;  // no block leads to another by itself
  cpu::TranslationObserver* tables_ = nullptr;
  const bool native_tsc_;
  const u32 tscp_;  // Mode::tscp when the model has RDTSCP
  const bool counted_;
  volatile u32 stop_after_ = 0;  // counted only: host instructions in blocks until a stop; 0: none
  bool seen_code_ = false;       // … and whether a block has been entered since that was set
  u64 vector_mask_ = 0;
  bool vector_live_ = false;  // the guest's vector state is in host registers
  // Mode bits but the view, that the jump caches of that side were filled for.
  u32 user_units_ = 0, kernel_units_ = 0;
  u64 epoch_ = 0;             // grows whenever blocks or mappings went away
  bool direct_lost_ = false;  // with the guest's registers
  std::atomic<bool> kicked_{false};
  std::optional<host::KickableThread> thread_;
  std::atomic<bool> thread_known_{false};
  // What is worth telling a user; the developer's is in the record.
  struct Counters {
    static constexpr usize kHelps = static_cast<usize>(Help::count);
    Counters() {
      named[0] = {"blocks made", &blocks_made};
      for (usize i = 0; i < kHelps; ++i) named[i + 1] = {name_of(static_cast<Help>(i)), &by_help[i]};
    }
    Counters(const Counters&) = delete;
    Counters& operator=(const Counters&) = delete;
    engine::Counter blocks_made, by_help[kHelps];
    engine::NamedCounter named[kHelps + 1];
  } counters_;
  const std::unique_ptr<Record> record_ = Record::create(me_);
};

}  // namespace nacre::soft
