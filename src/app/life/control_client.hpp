// One request to the supervisor of a machine that runs, and its answer. Blocks until it comes.
#pragma once

#include "base/result.hpp"
#include "life/folder.hpp"
#include "life/json.hpp"

namespace nacre::app {

// An Error: it does not run, has gone meanwhile, or refuses.
Result<life::JsonObject> ask(const life::Folder& folder, const life::JsonObject& request);

}  // namespace nacre::app
