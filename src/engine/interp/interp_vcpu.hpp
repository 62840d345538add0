// The `interp` engine: the reference interpreter as a Vcpu. Correct, slow, and everywhere.
#pragma once

#include <memory>

#include "base/result.hpp"
#include "engine/context.hpp"
#include "engine/engine.hpp"

namespace nacre::engine {

Result<std::unique_ptr<Vcpu>> make_interp(const EngineContext& context);

}  // namespace nacre::engine
