// Engines against the host's own processor, instruction by instruction.
//
//   NACRE_DIFF_SECONDS=600   how much longer each family runs (default: 0.4 s)
//   NACRE_DIFF_SEED=0x1234   where the seeds start (default: a fixed one)
//   NACRE_DIFF_ONLY=0x5678   one case, by the seed that a failure printed, with its test as --gtest_filter
//   NACRE_DIFF_STRICT=1      differences fail on processors that nobody has examined, too
//   NACRE_DIFF_REPORT=100    how many different failures to report before giving up (default 10)
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "cpu/host_cpuid.hpp"
#include "engine/conformance/compare.hpp"
#include "engine/conformance/generate.hpp"
#include "engine/conformance/guest.hpp"
#include "engine/conformance/native.hpp"
#include "engine/conformance/sequence.hpp"
#include "engine/factory.hpp"
#include "host/signals.hpp"

namespace nacre::conformance {
namespace {

struct Subject {
  const char* name;
  engine::Kind kind;
  Family family;
  x86::CodeSize code_size = x86::CodeSize::Bits64;
};

u64 environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

class Differential : public ::testing::TestWithParam<Subject> {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(host::SignalDispatcher::install().ok()); }

  void SetUp() override {
    auto native = Native::start();  // before anything makes threads
    ASSERT_TRUE(native.ok()) << native.error().message();
    native_ = std::make_unique<Native>(native.take());
    auto stack = host::SignalStack::enter();
    ASSERT_TRUE(stack.ok());
    stack_ = std::make_unique<host::SignalStack>(stack.take());
    auto guest = Guest::create(GetParam().kind);
    ASSERT_TRUE(guest.ok()) << guest.error().message();
    guest_ = guest.take();
  }

  // One batch from `seed` on; the next seed.
  u64 run_batch(Generator& generator, u64 seed) {
    std::vector<u64> seeds;
    cases_.clear();
    while (cases_.size() < Native::kBatch) {
      Case test;
      if (generator.make(seed, test)) {
        cases_.push_back(test);
        seeds.push_back(seed);
      }
      ++seed;
    }
    natives_.resize(cases_.size());
    const Status status = native_->run(cases_, natives_);
    EXPECT_TRUE(status.ok()) << status.error().message();
    if (!status.ok()) return 0;
    for (usize i = 0; i < cases_.size(); ++i) check(generator, seeds[i], cases_[i], natives_[i]);
    return seed;
  }

  // The page of differences between processors (docs/processor-differences.md) was made on this one.
  // Elsewhere a difference is news about the processor as often as a fault of ours: it is printed, and the
  // test skipped.
  static bool is_examined_processor() {
    const cpu::NativeCpuid host;
    constexpr u32 kAuth = 0x68747541, kFamily25 = 0x00a00f00, kFamilyMask = 0x0ff00f00;
    return host.leaf(0, 0).ebx == kAuth && (host.leaf(1, 0).eax & kFamilyMask) == kFamily25;
  }
  static bool is_strict() { return is_examined_processor() || environment("NACRE_DIFF_STRICT", 0) != 0; }

  void complain(const std::string& text) {
    if (is_strict()) {
      ADD_FAILURE() << text;
    } else {
      std::printf("%s\n", text.c_str());
    }
  }
  void skip_if_only_printed() const {
    if (!failures_.empty() && !is_strict()) {
      GTEST_SKIP() << "this processor differs from those examined; NACRE_DIFF_STRICT=1 makes that a failure";
    }
  }

  static Tolerance tolerance() {
    const bool translated = GetParam().kind != engine::Kind::Interp;
    return {.flags_of_faulting_instruction = translated, .noncanonical_branch_faults_at_target = translated};
  }

  void check(Generator& generator, u64 seed, const Case& test, const Outcome& native) {
    static Outcome engine;
    guest_->run(test, engine);
    ++count_;
    Case again;
    ASSERT_TRUE(generator.make(seed, again));
    const x86::Instruction& instruction = generator.instruction();
    const Ignored ignored = ignored_for(instruction, native, tolerance());
    const std::string text = differences(guest_->model().xsave(), native, engine, ignored);
    if (text.empty()) return;
    const std::string mnemonic = instruction.info->name;
    if (++failures_[mnemonic] > 1) return;  // the first of each mnemonic is enough to read
    char line[32];
    std::snprintf(line, sizeof line, "0x%llx", static_cast<unsigned long long>(seed));
    complain(mnemonic + ", NACRE_DIFF_ONLY=" + line + "\n" + describe(test) + text);
  }

  // Sequences from `seed` on; the next seed.
  u64 run_sequences(Sequence& sequence, u64 seed) {
    cases_.clear();
    for (usize i = 0; i < Native::kBatch; ++i) {
      sequence.make(seed + i);
      cases_.push_back(sequence.assemble());
    }
    natives_.resize(cases_.size());
    const Status status = native_->run(cases_, natives_);
    EXPECT_TRUE(status.ok()) << status.error().message();
    if (!status.ok()) return 0;
    for (usize i = 0; i < cases_.size(); ++i) {
      static Outcome engine;
      guest_->run(cases_[i], engine);
      ++count_;
      sequence.make(seed + i);
      const Ignored ignored = sequence.ignored(natives_[i], tolerance());
      if (!differences(guest_->model().xsave(), natives_[i], engine, ignored).empty())
        shrink(sequence, seed + i);
    }
    return seed + cases_.size();
  }

  std::string try_sequence(const Sequence& sequence) {
    const Case test = sequence.assemble();
    std::vector<Outcome> outcomes(2);
    if (!native_->run({&test, 1}, {outcomes.data(), 1}).ok()) return "the native runner died";
    guest_->run(test, outcomes[1]);
    const Ignored ignored = sequence.ignored(outcomes[0], tolerance());
    return differences(guest_->model().xsave(), outcomes[0], outcomes[1], ignored);
  }

  // Leaves out instructions as long as the difference stays.
  void shrink(Sequence sequence, u64 seed) {
    for (usize i = 0; i < sequence.size();) {
      Sequence shorter = sequence;
      shorter.remove(i);
      if (shorter.size() != 0 && shorter.defined() && !try_sequence(shorter).empty()) {
        sequence = shorter;
        i = 0;
      } else {
        ++i;
      }
    }
    const std::string text = try_sequence(sequence);
    const std::string key = text.empty() ? "(not repeatable)" : sequence.mnemonics();
    if (++failures_[key] > 1) return;
    char line[32];
    std::snprintf(line, sizeof line, "0x%llx", static_cast<unsigned long long>(seed));
    complain(key + ", NACRE_DIFF_ONLY=" + line + "\n" + describe(sequence.assemble()) + text);
  }

  std::unique_ptr<Native> native_;
  std::unique_ptr<host::SignalStack> stack_;
  std::unique_ptr<Guest> guest_;
  std::vector<Case> cases_;
  std::vector<Outcome> natives_;
  std::map<std::string, u64> failures_;
  u64 count_ = 0;
};

TEST_P(Differential, AgreesWithTheProcessor) {
  Generator generator(guest_->model(), GetParam().family, GetParam().code_size);
  const u64 only = environment("NACRE_DIFF_ONLY", 0);
  if (only != 0) {
    Case test;
    ASSERT_TRUE(generator.make(only, test)) << "this seed gives no case";
    std::vector<Outcome> native(1);
    ASSERT_TRUE(native_->run({&test, 1}, native).ok());
    check(generator, only, test, native[0]);
    std::printf("%s", describe(test).c_str());
    return;
  }
  using Clock = std::chrono::steady_clock;
  const auto end =
      Clock::now() + std::chrono::milliseconds(environment("NACRE_DIFF_SECONDS", 0) * 1000 + 400);
  const u64 most = environment("NACRE_DIFF_REPORT", 10);
  u64 seed =
      environment("NACRE_DIFF_SEED", 0x6e61637265000000) + (u64{static_cast<u8>(GetParam().family)} << 48);
  while (Clock::now() < end && failures_.size() < most && seed != 0) seed = run_batch(generator, seed);
  for (const auto& [mnemonic, failures] : failures_) {
    std::printf("  %-16s %llu cases differ\n", mnemonic.c_str(), static_cast<unsigned long long>(failures));
  }
  skip_if_only_printed();
  std::printf("  %llu cases\n", static_cast<unsigned long long>(count_));
}

class DifferentialSequences : public Differential {};

TEST_P(DifferentialSequences, AgreeWithTheProcessor) {
  Sequence sequence(guest_->model(), GetParam().family);
  const u64 only = environment("NACRE_DIFF_ONLY", 0);
  if (only != 0) {
    sequence.make(only);
    const std::string text = try_sequence(sequence);
    std::printf("%s", describe(sequence.assemble()).c_str());
    if (!text.empty()) shrink(sequence, only);
    return;
  }
  using Clock = std::chrono::steady_clock;
  const auto end =
      Clock::now() + std::chrono::milliseconds(environment("NACRE_DIFF_SECONDS", 0) * 1000 + 400);
  const u64 most = environment("NACRE_DIFF_REPORT", 10);
  u64 seed =
      environment("NACRE_DIFF_SEED", 0x7365710000000000) + (u64{static_cast<u8>(GetParam().family)} << 48);
  while (Clock::now() < end && failures_.size() < most && seed != 0) seed = run_sequences(sequence, seed);
  std::printf("  %llu sequences\n", static_cast<unsigned long long>(count_));
  skip_if_only_printed();
}

// What user code and the processor cannot show: privileged instructions, on the translator and the
// interpreter.
TEST(DifferentialSupervisor, TheTranslatorAgreesWithTheInterpreter) {
#ifdef NACRE_HAS_SOFT
  ASSERT_TRUE(host::SignalDispatcher::install().ok());
  auto stack = host::SignalStack::enter();
  ASSERT_TRUE(stack.ok());
  auto interp = Guest::create(engine::Kind::Interp);
  auto soft = Guest::create(engine::Kind::Soft);
  ASSERT_TRUE(interp.ok() && soft.ok());
  static Outcome outcomes[2];
  const Tolerance tolerance{.flags_of_faulting_instruction = true,
                            .noncanonical_branch_faults_at_target = true};
  const auto compare = [&](const Sequence& sequence) {
    const Case test = sequence.assemble();
    interp.value()->run(test, outcomes[0]);
    soft.value()->run(test, outcomes[1]);
    const Ignored ignored = sequence.ignored(outcomes[0], tolerance);
    std::string text = differences(interp.value()->model().xsave(), outcomes[0], outcomes[1], ignored);
    if (!ignored.everything) text += system_differences(interp.value()->state(), soft.value()->state());
    return text;
  };

  Sequence sequence(interp.value()->model(), Family::General, Ring::Supervisor);
  std::map<std::string, u64> failures;
  const u64 only = environment("NACRE_DIFF_ONLY", 0);
  u64 seed = only != 0 ? only : environment("NACRE_DIFF_SEED", 0x6b65726e00000000);
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::milliseconds(environment("NACRE_DIFF_SECONDS", 0) * 1000 + 800);
  u64 count = 0;
  for (; std::chrono::steady_clock::now() < end && failures.size() < environment("NACRE_DIFF_REPORT", 10);
       ++seed) {
    sequence.make(seed);
    ++count;
    if (compare(sequence).empty()) {
      if (only != 0) break;
      continue;
    }
    Sequence shortest = sequence;
    for (usize i = 0; i < shortest.size();) {
      Sequence shorter = shortest;
      shorter.remove(i);
      const bool still = shorter.size() != 0 && shorter.defined() && !compare(shorter).empty();
      if (still) shortest = shorter;
      i = still ? 0 : i + 1;
    }
    const std::string text = compare(shortest);
    if (++failures[shortest.mnemonics()] == 1) {
      ADD_FAILURE() << shortest.mnemonics() << ", NACRE_DIFF_ONLY=" << seed << "\n"
                    << describe(shortest.assemble()) << text;
    }
    if (only != 0) break;
  }
  std::printf("  %llu sequences\n", static_cast<unsigned long long>(count));
#else
  GTEST_SKIP() << "no translator in this build";
#endif
}

std::vector<Subject> subjects() {
  std::vector<Subject> list;
  std::vector<engine::Kind> kinds = {engine::Kind::Interp};
#ifdef NACRE_HAS_SOFT
  kinds.push_back(engine::Kind::Soft);
#endif
  for (const engine::Kind kind : kinds) {
    list.push_back({"General", kind, Family::General});
    list.push_back({"X87", kind, Family::X87});
    list.push_back({"Sse", kind, Family::Sse});
    list.push_back({"Vex", kind, Family::Vex});
    list.push_back({"Evex", kind, Family::Evex});
    list.push_back({"Any", kind, Family::Any});
  }
  return list;
}

// 32-bit programs.
std::vector<Subject> subjects32() {
  std::vector<Subject> list = subjects();
  for (Subject& subject : list) subject.code_size = x86::CodeSize::Bits32;
  return list;
}

std::string name_of_subject(const ::testing::TestParamInfo<Subject>& parameter) {
  return std::string(engine::name_of(parameter.param.kind)) + "_" + parameter.param.name;
}

INSTANTIATE_TEST_SUITE_P(Engines, Differential, ::testing::ValuesIn(subjects()), name_of_subject);
INSTANTIATE_TEST_SUITE_P(Engines32, Differential, ::testing::ValuesIn(subjects32()), name_of_subject);
INSTANTIATE_TEST_SUITE_P(Engines, DifferentialSequences, ::testing::ValuesIn(subjects()), name_of_subject);

}  // namespace
}  // namespace nacre::conformance
