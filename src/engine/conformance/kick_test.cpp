// A kick at every host instruction of translated code: random sequences run on `soft`, are kicked before each
// host instruction in turn, run on, and must come to what the processor (or, for privileged ones, the
// interpreter) makes of them.
//
//   NACRE_KICK_SECONDS=600   how much longer each family runs (default: 0.5 s)
//   NACRE_KICK_SEED=0x1234   where the seeds start (default: a fixed one; a run prints it)
//   NACRE_KICK_ONLY=0x5678   one sequence, by the seed that a failure printed, with its test as
//   --gtest_filter
#include <Zydis/Zydis.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/conformance/compare.hpp"
#include "engine/conformance/guest.hpp"
#include "engine/conformance/kicker.hpp"
#include "engine/conformance/native.hpp"
#include "engine/conformance/random.hpp"
#include "engine/conformance/sequence.hpp"
#include "host/signals.hpp"

#ifdef NACRE_HAS_SOFT
namespace nacre::conformance {
namespace {

u64 environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

std::string hex(u64 value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%" PRIx64, value);
  return text;
}

struct Subject {
  const char* name;
  Family family;
  Ring ring = Ring::User;
};

constexpr Tolerance kTolerance{.flags_of_faulting_instruction = true,
                               .noncanonical_branch_faults_at_target = true};
constexpr usize kLongestTrace = 4000;

// For whoever dies of a sequence.
u64 current_seed = 0;
void say_seed() {
  std::printf("\n  died with NACRE_KICK_ONLY=0x%" PRIx64 "\n", current_seed);
  std::fflush(stdout);
}

class Kicks : public ::testing::TestWithParam<Subject> {
 protected:
  static void SetUpTestSuite() {
    ASSERT_TRUE(host::SignalDispatcher::install().ok());
    host::SignalDispatcher::on_death(&say_seed);
  }

  void SetUp() override {
    auto native = Native::start();  // before anything makes threads
    ASSERT_TRUE(native.ok()) << native.error().message();
    native_ = std::make_unique<Native>(native.take());
    auto stack = host::SignalStack::enter();
    ASSERT_TRUE(stack.ok());
    stack_ = std::make_unique<host::SignalStack>(stack.take());
    auto soft = Guest::create(engine::Kind::Soft);
    auto interp = Guest::create(engine::Kind::Interp);
    ASSERT_TRUE(soft.ok() && interp.ok());
    soft_ = soft.take();
    interp_ = interp.take();
    auto kicker = Kicker::create(soft_->vcpu());
    ASSERT_TRUE(kicker.ok()) << kicker.error().message();
    kicker_ = kicker.take();
  }

  // One way to kick a case.
  struct Kick {
    enum class Way : u8 { None, At, After, AfterEverything };
    enum class Start : u8 { Fresh, Cold, Warm };  // all is made anew; the TLBs are empty; neither
    Way way = Way::None;
    Start start = Start::Fresh;
    u64 address = 0;
    u64 nth = 0;
    u64 again_after = ~u64{0};
    bool flush = false;
  };

  void run(const Case& test, const Kick& kick, Outcome& outcome) {
    if (kick.start == Kick::Start::Fresh) {
      soft_->load(test);
    } else {
      soft_->reset(test, kick.start == Kick::Start::Warm ? Guest::Mappings::Kept : Guest::Mappings::Dropped);
    }
    switch (kick.way) {
      case Kick::Way::None:
        break;
      case Kick::Way::At:
        kicker_->kick_at(kick.address, kick.nth);
        break;
      case Kick::Way::After:
        kicker_->kick_after(kick.nth);
        break;
      case Kick::Way::AfterEverything:
        kicker_->kick_after_everything(kick.nth);
        break;
    }
    kicker_->kick_again_after(kick.again_after);
    for (int exits = 0; exits < 8; ++exits) {
      if (soft_->vcpu().run().reason != engine::ExitReason::Kicked) break;
      if (at_exit_) at_exit_(soft_->state());
      // As if another process had run in between.
      if (kick.flush) soft_->vcpu().state_changed();
    }
    kicked_ += kicker_->kicked();
    missed_ += kick.way != Kick::Way::None && !kicker_->kicked();
    kicker_->stop();
    soft_->store(outcome);
  }

  // The host instructions of a run without a kick.
  std::vector<u64> trace(const Case& test, Kick::Start start) {
    if (start == Kick::Start::Fresh) {
      soft_->load(test);
    } else {
      soft_->reset(test, start == Kick::Start::Warm ? Guest::Mappings::Kept : Guest::Mappings::Dropped);
    }
    kicker_->trace(kLongestTrace);
    for (int exits = 0; exits < 8; ++exits) {
      if (soft_->vcpu().run().reason != engine::ExitReason::Kicked) break;
    }
    kicker_->stop();
    return kicker_->traced();
  }

  // Sets what the sequence must come to. False: it is not for comparing.
  bool find_reference(const Sequence& sequence, const Case& test) {
    if (GetParam().ring == Ring::Supervisor) {
      interp_->run(test, reference_);
    } else if (!native_->run({&test, 1}, {&reference_, 1}).ok()) {
      ADD_FAILURE() << "the native runner died";
      return false;
    }
    ignored_ = sequence.ignored(reference_, kTolerance);
    return !ignored_.everything && difference(test, {}).empty();  // else differential_test.cpp's to find
  }

  std::string difference(const Case& test, const Kick& kick) {
    static Outcome outcome;
    run(test, kick, outcome);
    std::string text = differences(soft_->model().xsave(), reference_, outcome, ignored_);
    if (GetParam().ring == Ring::Supervisor && !ignored_.everything) {
      text += system_differences(interp_->state(), soft_->state());
    }
    return text;
  }

  // The host code that leads to an address of the code cache, for a report.
  std::string host_code(const std::vector<u64>& trace, usize index) {
    std::string text;
    for (usize i = index < 8 ? 0 : index - 8; i < trace.size() && i < index + 3; ++i) {
      ZydisDisassembledInstruction instruction;
      const u64 room = kicker_->end() - trace[i];
      const bool known = ZYAN_SUCCESS(ZydisDisassembleIntel(ZYDIS_MACHINE_MODE_LONG_64, trace[i],
                                                            kicker_->bytes_at(trace[i]),
                                                            room < 15 ? room : 15, &instruction));
      text += (i == index ? "  > " : "    ") + hex(trace[i]) + "  " + (known ? instruction.text : "?") + "\n";
    }
    return text;
  }

  // Empty, or what went wrong and where. All kicks of the sequence as it is now.
  std::string try_all(const Sequence& sequence, u64 seed, bool thorough) {
    const Case test = sequence.assemble();
    if (!find_reference(sequence, test)) return {};
    Random random(seed ^ 0x6b69636b);
    for (const Kick::Start start : {Kick::Start::Cold, Kick::Start::Warm}) {
      static Outcome unused;
      run(test, {Kick::Way::None, start}, unused);
      const std::vector<u64> pcs = trace(test, start);
      std::unordered_map<u64, u64> seen, times;
      for (const u64 pc : pcs) times[pc]++;
      for (usize i = 0; i < pcs.size(); ++i) {
        const u64 nth = seen[pcs[i]]++;
        // Of stubs and loops that run many times, some of them.
        if (times[pcs[i]] > 3 && nth != 0 && !random.percent(thorough ? 50 : 8)) continue;
        Kick kick{Kick::Way::At, start, pcs[i], nth};
        if (random.percent(25)) kick.again_after = random.below(random.percent(50) ? 4 : 60);
        kick.flush = random.percent(20);
        const std::string text = difference(test, kick);
        if (text.empty()) continue;
        return "kicked at host instruction " + std::to_string(i) + " (" + hex(pcs[i]) + ", time " +
               std::to_string(nth) + "), again " + std::to_string(static_cast<i64>(kick.again_after)) +
               (start == Kick::Start::Warm ? ", warm\n" : ", cold\n") + host_code(pcs, i) + text;
      }
    }
    const std::vector<u64> fresh = trace(test, Kick::Start::Fresh);
    for (unsigned n = 0; n < (thorough ? 60 : 3) && !fresh.empty(); ++n) {
      Kick kick{Kick::Way::After, Kick::Start::Fresh, 0, random.below(fresh.size())};
      if (random.percent(25)) kick.again_after = random.below(8);
      const std::string text = difference(test, kick);
      if (text.empty()) continue;
      return "fresh, kicked after " + std::to_string(kick.nth) + " host instructions, again " +
             std::to_string(static_cast<i64>(kick.again_after)) + "\n" + host_code(fresh, kick.nth) + text;
    }
    if (random.percent(thorough ? 50 : 5)) {
      Kick kick{Kick::Way::AfterEverything, Kick::Start::Fresh, 0,
                random.below(random.percent(80) ? 600 : 20'000)};  // also past its end
      const std::string text = difference(test, kick);
      if (!text.empty())
        return "kicked after " + std::to_string(kick.nth) + " instructions, C++ too\n" + text;
    }
    return {};
  }

  void shrink(Sequence sequence, u64 seed, std::string text) {
    for (usize i = 0; i < sequence.size();) {
      Sequence shorter = sequence;
      shorter.remove(i);
      const std::string still =
          shorter.size() != 0 && shorter.defined() ? try_all(shorter, seed, true) : std::string();
      if (still.empty()) {
        ++i;
        continue;
      }
      sequence = shorter;
      text = still;
      i = 0;
    }
    if (++failures_[sequence.mnemonics()] > 1) return;
    ADD_FAILURE() << sequence.mnemonics() << ", NACRE_KICK_ONLY=" << hex(seed) << "\n"
                  << describe(sequence.assemble()) << text;
  }

  std::unique_ptr<Native> native_;
  std::unique_ptr<host::SignalStack> stack_;
  std::unique_ptr<Guest> soft_, interp_;
  std::unique_ptr<Kicker> kicker_;
  Outcome reference_;
  Ignored ignored_;
  std::function<void(const cpu::State&)> at_exit_;
  std::map<std::string, u64> failures_;
  u64 kicked_ = 0, missed_ = 0;
};

TEST_P(Kicks, LeaveNoTrace) {
  Sequence sequence(soft_->model(), GetParam().family, GetParam().ring);
  const u64 only = environment("NACRE_KICK_ONLY", 0);
  u64 seed =
      environment("NACRE_KICK_SEED", 0x6b69636b00000000) + (u64{static_cast<u8>(GetParam().family)} << 48);
  if (only != 0) seed = only;
  std::printf("  seeds from %s\n", hex(seed).c_str());
  using Clock = std::chrono::steady_clock;
  const auto end =
      Clock::now() + std::chrono::milliseconds(environment("NACRE_KICK_SECONDS", 0) * 1000 + 500);
  u64 count = 0;
  for (; Clock::now() < end && failures_.size() < 5; ++seed) {
    current_seed = seed;
    sequence.make(seed);
    ++count;
    const std::string text = try_all(sequence, seed, only != 0);
    if (!text.empty()) shrink(sequence, seed, text);
    if (only != 0) break;
  }
  for (const auto& [mnemonics, failures] : failures_) {
    std::printf("  %s: %" PRIu64 "\n", mnemonics.c_str(), failures);
  }
  std::printf("  %" PRIu64 " sequences, %" PRIu64 " kicks, %" PRIu64 " came to nothing\n", count, kicked_,
              missed_);
  EXPECT_GT(kicked_, missed_);
}

class KickedUser : public Kicks {};
class KickedSupervisor : public Kicks {};

Case case_of(std::initializer_list<u8> code) {
  Case test;
  test.before.rip = kCode;
  test.before.gpr[x86::RBX] = kData + 0x800;
  test.before.gpr[x86::RSP] = kData + 0x1800;
  test.before.xsave[0] = 0x7f, test.before.xsave[1] = 3;       // FCW
  test.before.xsave[24] = 0x80, test.before.xsave[25] = 0x1f;  // MXCSR
  for (const u8 byte : code) test.code[test.code_bytes++] = byte;
  return test;
}

// What is pushed overlaps what is read: once that is overwritten, the instruction cannot be started again.
TEST_P(KickedUser, PushesAndCallsThroughTheirOwnSlotOnce) {
  const Case cases[] = {
      case_of({0xff, 0x74, 0x24, 0xf8}),                    // push qword [rsp - 8]
      case_of({0xff, 0x74, 0x24, 0xfc}),                    // push qword [rsp - 4]
      case_of({0xf9, 0xff, 0x74, 0x24, 0xfc, 0x72, 0x00}),  // stc; push qword [rsp - 4]; jc
      case_of({0x48, 0xc7, 0x44, 0x24, 0xf8, 0x20, 0, 0, 0x10, 0xff, 0x54, 0x24,
               0xf8}),  // mov [rsp - 8], x; call [rsp - 8]
  };
  for (const Case& test : cases) {
    ASSERT_TRUE(native_->run({&test, 1}, {&reference_, 1}).ok());
    for (const Kick::Start start : {Kick::Start::Cold, Kick::Start::Warm}) {
      EXPECT_EQ(difference(test, {.start = Kick::Start::Fresh}), "");
      EXPECT_EQ(difference(test, {.start = start}), "");
      std::unordered_map<u64, u64> seen;
      for (const u64 pc : trace(test, start)) {
        EXPECT_EQ(difference(test, {.way = Kick::Way::At, .start = start, .address = pc, .nth = seen[pc]++}),
                  "")
            << describe(test);
      }
    }
  }
}

// No interrupt comes between STI and the instruction behind it, so no kick may show the state there, unless
// it says so (State::interrupt_shadow).
TEST_P(KickedSupervisor, SeesNoStateInTheShadowOfSti) {
  Case cases[] = {
      case_of({0xfb, 0x48, 0x8b, 0x03}),                          // mov rax, [rbx]
      case_of({0xfb, 0x50, 0x58}),                                // push rax; pop rax
      case_of({0xfb, 0x48, 0x8b, 0x03, 0x48, 0x03, 0x43, 0x08}),  // mov rax, [rbx]; add rax, [rbx + 8]
      case_of({0xfb, 0xff, 0x33}),                                // push qword [rbx]
      case_of({0xfb, 0x48, 0x03, 0x83, 0xfc, 7, 0, 0}),           // add rax, [rbx + 2044]: two pages
      case_of({0xfb, 0x48, 0x01, 0x83, 0xfc, 7, 0, 0}),           // add [rbx + 2044], rax
      case_of({0xfb, 0x0f, 0xa2}),                                // cpuid
      case_of({0xfb, 0xe8, 0, 0, 0, 0}),                          // call
      case_of({0xfb, 0x48, 0x11, 0x03, 0x70, 0x00})};             // adc [rbx], rax; jo
  for (Case& test : cases) {
    test.supervisor = true;
    at_exit_ = [&](const cpu::State& state) {
      EXPECT_TRUE(state.rip != kCode + 1 || state.interrupt_shadow) << describe(test);
    };
    for (const Kick::Start start : {Kick::Start::Cold, Kick::Start::Warm}) {
      static Outcome outcome;
      run(test, {.start = Kick::Start::Fresh}, outcome);
      run(test, {.start = start}, outcome);
      const std::vector<u64> pcs = trace(test, start);
      std::unordered_map<u64, u64> seen;
      for (const u64 pc : pcs)
        run(test, {.way = Kick::Way::At, .start = start, .address = pc, .nth = seen[pc]++}, outcome);
    }
    EXPECT_GT(kicked_, 50U);
  }
}

// The kick signal from a timer, as the VM's timers send it: the vCPU's own handler sees it, then this one.
class KickTimer final : private host::FaultHandler {
 public:
  explicit KickTimer(engine::Vcpu& vcpu) : vcpu_(vcpu), scope_(*this) {
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = host::SignalDispatcher::kick_signal();
    event._sigev_un._tid = gettid();
    EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &event, &timer_), 0);
  }
  ~KickTimer() { timer_delete(timer_); }
  KickTimer(const KickTimer&) = delete;
  KickTimer& operator=(const KickTimer&) = delete;

  void arm(u64 nanoseconds) {
    const itimerspec once = {{0, 0}, {0, static_cast<long>(nanoseconds)}};
    timer_settime(timer_, 0, &once, nullptr);
  }

 private:
  bool handle(int signal, siginfo_t*, ucontext_t*) override {
    if (signal != host::SignalDispatcher::kick_signal()) return false;
    vcpu_.kick();
    return true;
  }

  engine::Vcpu& vcpu_;
  timer_t timer_ = {};
  host::FaultScope scope_;
};

// Kicks as they come in life, into C++ too: at any time.
TEST_P(Kicks, LeaveNoTraceAtAnyTime) {
  constexpr u64 kSequences = 150;
  constexpr u64 kMostExits = 1'000'000;
  Sequence sequence(soft_->model(), GetParam().family, GetParam().ring);
  KickTimer timer(soft_->vcpu());
  Random random(1);
  u64 exits = 0;
  const u64 first = environment("NACRE_KICK_SEED", 0x7468726561640000);
  for (u64 seed = first; seed < first + kSequences && !HasFailure(); ++seed) {
    current_seed = seed;
    sequence.make(seed);
    const Case test = sequence.assemble();
    if (!find_reference(sequence, test)) continue;
    static Outcome outcome;
    for (int again = 0; again < 20; ++again) {
      soft_->load(test);
      do {
        timer.arm(1 + random.below(u64{1000} << random.below(9)));
      } while (soft_->vcpu().run().reason == engine::ExitReason::Kicked && ++exits < kMostExits);
      timer.arm(0);
      soft_->store(outcome);
      EXPECT_EQ(differences(soft_->model().xsave(), reference_, outcome, ignored_), "") << hex(seed) << "\n"
                                                                                        << describe(test);
    }
  }
  EXPECT_GT(exits, 0U);
  EXPECT_LT(exits, kMostExits);
}

std::string name_of_subject(const ::testing::TestParamInfo<Subject>& parameter) {
  return parameter.param.name;
}

INSTANTIATE_TEST_SUITE_P(Soft, Kicks,
                         ::testing::Values(Subject{"General", Family::General}, Subject{"X87", Family::X87},
                                           Subject{"Sse", Family::Sse}, Subject{"Vex", Family::Vex},
                                           Subject{"Evex", Family::Evex}, Subject{"Any", Family::Any},
                                           Subject{"Supervisor", Family::General, Ring::Supervisor}),
                         name_of_subject);
INSTANTIATE_TEST_SUITE_P(Soft, KickedUser, ::testing::Values(Subject{"General", Family::General}),
                         name_of_subject);
INSTANTIATE_TEST_SUITE_P(Soft, KickedSupervisor,
                         ::testing::Values(Subject{"General", Family::General, Ring::Supervisor}),
                         name_of_subject);

}  // namespace
}  // namespace nacre::conformance
#endif
