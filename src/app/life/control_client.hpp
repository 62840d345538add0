// One request to who answers for a machine that runs, and the answer. Blocks until it comes.
#pragma once

#include "base/result.hpp"
#include "life/folder.hpp"
#include "life/json.hpp"

namespace nacre::app {

// `files` go with the request. An Error: it does not run, has gone meanwhile, or refuses.
Result<life::JsonObject> ask(const life::Folder& folder, const life::JsonObject& request,
                             std::span<const host::UniqueFd> files = {});

// The same at the socket of nacre boot --control.
Result<life::JsonObject> ask(const std::string& path, const life::JsonObject& request,
                             std::span<const host::UniqueFd> files = {});

}  // namespace nacre::app
