// Errors of the host's system calls as sentences for the user. Any thread.
#pragma once

#include "base/result.hpp"

namespace nacre::host {

// "Cannot open /boot/vmlinuz: No such file or directory." `subject` may be null.
Error errno_error(const char* what, const char* subject = nullptr);
Error error_with_number(int number, const char* what, const char* subject = nullptr);

}  // namespace nacre::host
