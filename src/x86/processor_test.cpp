// What the rows say, tried on the processor that runs the test: length, general registers and flags read and
// written, and exactly which bytes of memory. A wrong row here is a hole in the translator.
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>
#include <map>
#include <random>
#include <string>

#include "x86/host_processor.hpp"

namespace nacre::x86 {
namespace {

using Random = std::mt19937_64;

std::string hex(const Instruction& i) {
  std::string text;
  for (unsigned n = 0; n < i.length; ++n) {
    char digits[4];
    std::snprintf(digits, sizeof digits, "%02x ", i.bytes[n]);
    text += digits;
  }
  return text;
}

// One random instruction on several states.
class Trial {
 public:
  Trial(HostProcessor& processor, Random& random, const Instruction& instruction)
      : processor_(processor), random_(random), i_(instruction), memory_(memory_operand(instruction)) {}

  // The processor raised #UD: it may lack the feature.
  [[nodiscard]] bool undefined() const { return undefined_; }
  [[nodiscard]] const std::string& problem() const { return problem_; }

  void run() {
    const Registers before = state(HostProcessor::kPage + 1024);
    const Outcome first = run_once(before);
    undefined_ = first.signal == SIGILL;
    if (undefined_ || first.signal == SIGFPE) return;
    if (first.signal != SIGTRAP) return fail("does not run: signal " + std::to_string(first.signal));
    if (first.length != i_.length) return fail("length " + std::to_string(first.length));
    preserved(before, first);
    unread(before, first);
    if (memory_ != nullptr && memory_bytes(i_) != 0) memory_edges();
  }

 private:
  void fail(const std::string& what) {
    if (problem_.empty()) problem_ = what;
  }
  Outcome run_once(const Registers& before) { return processor_.run(i_.bytes, i_.length, before); }

  // Random registers, except that a memory operand lies at `target`.
  Registers state(u64 target) {
    Registers r;
    for (u64& value : r.gpr) value = random_();
    r.flags = 0x202 | (random_() & Rflags::arithmetic);
    place(r, target);
    return r;
  }
  void place(Registers& r, u64 target) const {
    if (memory_ != nullptr && i_.base < 16) r.gpr[i_.base] = target - static_cast<u64>(i_.displacement);
  }

  // What is not said to be written stays.
  void preserved(const Registers& before, const Outcome& outcome) {
    const u16 written = gprs_written(i_);
    for (unsigned n = 0; n < 16; ++n) {
      if ((written >> n & 1) == 0 && before.gpr[n] != outcome.after.gpr[n])
        fail("writes r" + std::to_string(n));
    }
    const u64 kept = (Rflags::arithmetic | Rflags::DF) & ~u64{i_.info->flags_written};
    if (((before.flags ^ outcome.after.flags) & kept) != 0) fail("writes more flags");
  }

  // What is not said to be read has no influence.
  void unread(const Registers& before, const Outcome& expected) {
    if ((memory_ != nullptr && memory_->access != Access::Read) ||
        (i_.info->attributes & OpcodeAttribute::flags_depend_on_count) != 0) {
      return;  // memory changed since; flags that stay when the count is 0
    }
    const u16 read = gprs_read(i_), written = gprs_written(i_);
    Registers other = before;
    for (unsigned n = 0; n < 16; ++n) {
      if ((read >> n & 1) == 0) other.gpr[n] = random_();
    }
    other.flags ^= Rflags::arithmetic & ~u64{flags_tested(i_)};
    const Outcome outcome = run_once(other);
    for (unsigned n = 0; n < 16; ++n) {
      if ((written >> n & 1) != 0 && outcome.after.gpr[n] != expected.after.gpr[n])
        fail("reads more registers");
    }
    const u64 defined = i_.info->flags_written & ~i_.info->flags_undefined & Rflags::arithmetic;
    if (((outcome.after.flags ^ expected.after.flags) & defined) != 0) fail("reads more for its flags");
  }

  // The first and last byte of the operand, its alignment, and whether it is written.
  void memory_edges() {
    const u64 bytes = memory_bytes(i_), end = HostProcessor::kPage + kPageSize;
    if (memory_->access == Access::Address) return;
    const bool aligned = (i_.info->attributes & OpcodeAttribute::aligned_memory) != 0;
    if (run_once(state(end - bytes)).signal != SIGTRAP) fail("touches more than its last byte");
    if (!aligned && bytes > 1) {
      const Outcome over = run_once(state(end - bytes + 1));
      if (over.signal != SIGSEGV || over.fault_address != end) fail("touches less than its last byte");
    }
    const Outcome unaligned = run_once(state(HostProcessor::kPage + 1024 + 1));
    const bool sha = std::string(i_.info->name).rfind("sha", 0) == 0;  // AMD's do not insist on it
    if ((unaligned.signal == SIGSEGV) != aligned && !sha) fail("alignment");
    const Outcome read_only = run_once(state(HostProcessor::kReadOnly + 1024));
    if ((read_only.signal == SIGSEGV) != (memory_->access != Access::Read)) fail("access");
  }

  HostProcessor& processor_;
  Random& random_;
  const Instruction& i_;
  const Operand* memory_;
  bool undefined_ = false;
  std::string problem_;
};

// What can be run here: no memory but [register + displacement], nothing that changes the unit's own control.
bool can_run(const Instruction& i) {
  switch (i.info->kind) {
    case Class::Plain:
    case Class::Sse:
    case Class::Avx:
    case Class::X87:
      break;
    default:
      return false;
  }
  switch (i.info->operation) {
    case Operation::Bt:
    case Operation::Btc:
    case Operation::Btr:
    case Operation::Bts:
      if (i.is_memory && i.info->operands[1].kind == OperandKind::GprReg) return false;  // bit strings
      break;
    case Operation::Div:
    case Operation::Idiv:
    case Operation::Ldmxcsr:
    case Operation::Std:
    case Operation::VectorMasked:
    case Operation::Gather:
    case Operation::Scatter:
    case Operation::VectorCompress:
    case Operation::VectorExpand:
      return false;
    default:
      break;
  }
  if (std::string(i.info->name) == "fldcw" || i.segment != kNoSegment) return false;
  const Operand* memory = memory_operand(i);
  if (memory == nullptr || i.operand_size == 0) return true;
  return memory->kind != OperandKind::MemoryOffset && i.base < 16 && i.base != RSP &&
         i.index == kNoRegister && i.address_size == 8;
}

void random_bytes(Random& random, u8 (&bytes)[15]) {
  for (u8& b : bytes) b = static_cast<u8>(random());
  unsigned at = 0;
  static constexpr u8 kPrefixes[] = {0x66, 0xf2, 0xf3, 0xf0};
  switch (random() % 6) {
    case 0:
      bytes[at++] = 0xc5;
      return;
    case 1:
      bytes[at++] = 0xc4;
      bytes[at] = static_cast<u8>((bytes[at] & 0xe0) | (1 + random() % 3));
      return;
    case 2:
      bytes[at++] = 0x62;
      bytes[at] = static_cast<u8>((bytes[at] & 0xf0) | (1 + random() % 3));
      bytes[at + 1] |= 4;
      return;
    default:
      break;
  }
  if (random() % 2 == 0) bytes[at++] = kPrefixes[random() % 4];
  if (random() % 2 == 0) bytes[at++] = static_cast<u8>(0x40 | (random() & 15));
  const u64 r = random() % 4;
  if (r != 0) bytes[at++] = 0x0f;
  if (r == 2) bytes[at++] = 0x38;
  if (r == 3) bytes[at++] = 0x3a;
}

TEST(AgainstProcessor, RowsSayWhatInstructionsDo) {
  HostProcessor processor;
  Random random(5);
  std::map<std::string, std::string> problems;         // by mnemonic and kind of problem
  std::map<const OpcodeInfo*, std::string> undefined;  // an encoding of the row that raised #UD
  std::map<const OpcodeInfo*, u64> executed;
  const char* wanted = std::getenv("NACRE_ITERATIONS");
  const u64 count = wanted != nullptr ? std::strtoull(wanted, nullptr, 0) : 200'000;
  for (u64 n = 0; n < count; ++n) {
    u8 bytes[15];
    random_bytes(random, bytes);
    Instruction i;
    if (decode(bytes, sizeof bytes, CodeSize::Bits64, i) != DecodeStatus::Ok || !can_run(i)) continue;
    Trial trial(processor, random, i);
    trial.run();
    if (trial.undefined()) {
      undefined.emplace(i.info, hex(i));
      continue;
    }
    ++executed[i.info];
    if (!trial.problem().empty())
      problems.emplace(std::string(i.info->name) + ": " + trial.problem(), hex(i));
  }
  // Some encodings of an instruction that the processor has, but not all of those that the row admits.
  for (const auto& [info, example] : undefined) {
    if (executed.count(info) != 0) problems.emplace(std::string(info->name) + ": undefined", example);
  }
  std::string report;
  for (const auto& [what, example] : problems) report += what + "   [" + example + "]\n";
  EXPECT_GT(executed.size(), 300u);
  EXPECT_TRUE(problems.empty()) << report;
}

}  // namespace
}  // namespace nacre::x86
