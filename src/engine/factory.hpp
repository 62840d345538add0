// Chooses and makes engines. Before the first guest instruction.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.hpp"
#include "cpu/host_cpuid.hpp"
#include "cpu/model.hpp"
#include "engine/context.hpp"
#include "engine/engine.hpp"
#include "host/confine.hpp"

namespace nacre::engine {

enum class Kind : u8 { Interp, Soft, Kvm };

[[nodiscard]] const char* name_of(Kind kind);

// What the user asked for by name ("soft", "interp"), or nothing when there is no such engine here.
[[nodiscard]] std::optional<Kind> kind_of(std::string_view name);

struct Choice {
  Kind kind = Kind::Interp;
  std::string reason;  // completes the sentence "engine soft: …"
};
// What `auto` means on this machine.
[[nodiscard]] Choice choose();
// Whether an engine asked for by name can run here; the Error says why not and what to do.
[[nodiscard]] Status possible(Kind kind);

// The processor that models of this engine's guests are made from, and who executes what such a model claims.
struct Processor {
  std::unique_ptr<const cpu::HostCpuid> cpuid;
  cpu::Execution execution = cpu::Execution::Translated;
};
Result<Processor> processor_of(Kind kind);

// Whether processors of this engine have local APICs of their own here (Group::local_apics()), in which they sleep, and
// whose paravirtual sides they serve.
bool has_local_apics(Kind kind);

// What the threads of its processors may ask of the host.
[[nodiscard]] host::ThreadRole role_of(Kind kind);

// After the memory's regions are known, before the first make_vcpu. Null: this engine's share nothing.
// Apics::Engine: its own local APICs, where has_local_apics(); the caller lends them the board's.
enum class Apics : u8 { Board, Engine };
Result<std::unique_ptr<Group>> make_group(Kind kind, const memory::AddressSpace& memory, unsigned processors,
                                          Apics apics = Apics::Board);
Result<std::unique_ptr<Vcpu>> make_vcpu(Kind kind, const EngineContext& context);

}  // namespace nacre::engine
