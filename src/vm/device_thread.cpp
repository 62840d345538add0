#include "vm/device_thread.hpp"

#include <pthread.h>
#include <signal.h>

#include "host/confine.hpp"

namespace nacre::vm {

Status DeviceThread::prepare(const char* name) {
  // Signals meant for the program are the I/O thread's.
  sigset_t all;
  sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS}) sigdelset(&all, own);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  pthread_setname_np(pthread_self(), name);
  return host::confine(host::ThreadRole::Device);
}

void DeviceThread::serve() {
  while (!stopping_.load()) {
    wake_.sleep(kForever);
    for (virtio::Device* device : devices_) device->run();
  }
}

void DeviceThread::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  wake_.wake();
  thread_.join();
}

}  // namespace nacre::vm
