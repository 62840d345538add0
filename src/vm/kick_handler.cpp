#include "vm/kick_handler.hpp"

namespace nacre::vm {

bool KickHandler::handle(int signal, siginfo_t* info, ucontext_t*) {
  if (signal != host::SignalDispatcher::kick_signal()) return false;
  // Who kicks by Vcpu::kick() has said so there; other signals are the engine's own.
  if (info->si_code != SI_TIMER) return true;
  timer_.fired.store(true);
  vcpu_.kick();
  return true;
}

}  // namespace nacre::vm
