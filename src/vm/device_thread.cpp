#include "vm/device_thread.hpp"

#include <pthread.h>
#include <signal.h>

#include "host/confine.hpp"

namespace nacre::vm {

Result<std::unique_ptr<DeviceThread>> DeviceThread::create() {
  auto attention = TRY(Attention::create());
  return std::unique_ptr<DeviceThread>(new DeviceThread(std::move(attention)));
}

DeviceThread::DeviceThread(Attention attention) : attention_(std::move(attention)) {
  watch(attention_.descriptor());
}

void DeviceThread::start(const char* name, std::function<void(const Error&)> failed) {
  thread_ = std::thread([this, name, failed = std::move(failed)] {
    if (const Status status = prepare(name); !status) return failed(status.error());
    serve();
    for (const auto& action : last_) action();
  });
}

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
    if (poll(watched_.data(), watched_.size(), -1) < 0) continue;
    if (watched_[0].revents != 0) attention_.clear();
    for (virtio::Device* device : devices_) device->run();
  }
}

void DeviceThread::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  raise();
  thread_.join();
}

}  // namespace nacre::vm
