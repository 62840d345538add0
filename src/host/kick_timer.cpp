#include "host/kick_timer.hpp"

#include <signal.h>
#include <unistd.h>

#include "host/error.hpp"
#include "host/signals.hpp"

namespace nacre::host {

Result<KickTimer> KickTimer::create() {
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SignalDispatcher::kick_signal();
  event._sigev_un._tid = gettid();  // glibc 2.36 has no sigev_notify_thread_id
  timer_t timer;
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) return errno_error("Cannot make a timer");
  return KickTimer(timer);
}

void KickTimer::arm_after(u64 ns) const {
  itimerspec when = {};
  if (ns == 0) ns = 1;  // 0 would disarm
  when.it_value.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
  when.it_value.tv_nsec = static_cast<long>(ns % 1'000'000'000);
  timer_settime(timer_, 0, &when, nullptr);
}

void KickTimer::disarm() const {
  const itimerspec never = {};
  timer_settime(timer_, 0, &never, nullptr);
}

}  // namespace nacre::host
