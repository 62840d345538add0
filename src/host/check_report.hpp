// What a failed NACRE_CHECK says before the program dies of it.
#pragma once

namespace nacre::host {

// Installs the handler. Once, early in main.
void report_failed_checks();

}  // namespace nacre::host
