// What `nacre ls` and `nacre logs` print.
#pragma once

#include "base/result.hpp"
#include "life/folder.hpp"

namespace nacre::app {

Status list_machines(bool json);
// With `follow` until the output cannot be written or a signal ends it.
Status show_log(const life::Folder& folder, bool follow);

}  // namespace nacre::app
