// Chooses and makes engines. Before the first guest instruction.
#pragma once

#include <memory>
#include <optional>
#include <string_view>

#include "base/result.hpp"
#include "engine/context.hpp"
#include "engine/engine.hpp"

namespace nacre::engine {

enum class Kind : u8 { Interp, Soft };

[[nodiscard]] const char* name_of(Kind kind);

// What the user asked for by name ("soft", "interp"), or nothing when there is no such engine here.
[[nodiscard]] std::optional<Kind> kind_of(std::string_view name);

struct Choice {
  Kind kind = Kind::Interp;
  const char* reason = "";  // completes the sentence "engine soft: …"
};
// What `auto` means on this machine.
[[nodiscard]] Choice choose();

// After the memory's regions are known, before the first make_vcpu. Null: this engine's share nothing.
Result<std::unique_ptr<Group>> make_group(Kind kind, const memory::AddressSpace& memory, unsigned processors);
Result<std::unique_ptr<Vcpu>> make_vcpu(Kind kind, const EngineContext& context);

}  // namespace nacre::engine
