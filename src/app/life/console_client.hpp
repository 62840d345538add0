// The user's terminal, or pipes, at the console of a machine that runs elsewhere.
#pragma once

#include "base/result.hpp"
#include "life/folder.hpp"

namespace nacre::app {

// Until the user leaves (Ctrl-A d) or the machine's life ends. Without a terminal the end of standard input
// leaves too, once all of it has been sent.
Status attach_console(const life::Folder& folder);

}  // namespace nacre::app
