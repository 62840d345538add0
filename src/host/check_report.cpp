#include "host/check_report.hpp"

#include <unistd.h>

#include <cstdlib>

#include "base/check.hpp"
#include "base/types.hpp"
#include "host/signals.hpp"

namespace nacre::host {
namespace {

void say(const char* text) {
  usize length = 0;
  while (text[length] != 0) ++length;
  [[maybe_unused]] const auto written = write(STDERR_FILENO, text, length);
}

// May run anywhere, so: no allocation, no library formatting.
[[noreturn]] void report(const char* expression, const char* file, int line) {
  SignalDispatcher::run_last_words();
  char digits[12];
  char* at = digits + sizeof digits - 1;
  *at = 0;
  for (unsigned left = static_cast<unsigned>(line); left != 0; left /= 10)
    *--at = static_cast<char>('0' + left % 10);
  say("nacre: internal error: ");
  say(file);
  say(":");
  say(at);
  say(": ");
  say(expression);
  say(" does not hold. Please report this.\n");
  abort();
}

}  // namespace

void report_failed_checks() {
  set_check_handler(&report);
}

}  // namespace nacre::host
