// The same small program on the interpreter and on the translator. Tests only.
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "engine/conformance/machine.hpp"
#include "engine/conformance/same_end.hpp"
#include "engine/interp/interp_vcpu.hpp"
#include "engine/soft/soft.hpp"
#include "host/signals.hpp"

namespace nacre::soft {

inline constexpr u64 kCode = conformance::kProgram;
using conformance::kRamBytes;
using conformance::kStackTop;

struct Machine : conformance::Machine {
  explicit Machine(bool soft) : conformance::Machine(soft ? make : engine::make_interp) {}
};

class Soft : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { ASSERT_TRUE(host::SignalDispatcher::install().ok()); }

  void SetUp() override { stack_.emplace(host::SignalStack::enter().take()); }

  // Runs on both and compares registers and all memory. Returns the translator's machine.
  std::unique_ptr<Machine> run_both(const std::vector<u8>& code, u64 at = kCode,
                                    const std::function<void(Machine&)>& prepare = nullptr) {
    Machine interp(false);
    auto soft = std::make_unique<Machine>(true);
    for (Machine* m : {&interp, soft.get()}) {
      m->load(at, code);
      m->vcpu->state().rip = at;
      if (prepare) prepare(*m);
      EXPECT_EQ(m->run(), engine::ExitReason::Halted);
    }
    conformance::expect_same_end(interp, *soft);
    // The stack too, up to the page tables.
    EXPECT_EQ(std::memcmp(interp.base + kCode, soft->base + kCode, 0x200000 - kCode), 0);
    return soft;
  }

 private:
  std::optional<host::SignalStack> stack_;
};

}  // namespace nacre::soft
