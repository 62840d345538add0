#include "vm/device_thread.hpp"

#include <pthread.h>
#include <signal.h>

namespace nacre::vm {

namespace {

bool listens(const virtio::Device& device) {
  using Phase = virtio::Device::Phase;
  const Phase phase = device.phase();
  return phase == Phase::Stopping || (phase == Phase::Running && !device.is_broken());
}

}  // namespace

Result<std::unique_ptr<DeviceThread>> DeviceThread::create(host::ThreadRole role) {
  auto attention = TRY(Attention::create());
  return std::unique_ptr<DeviceThread>(new DeviceThread(std::move(attention), role));
}

void DeviceThread::start(const char* name, std::function<void(const Error&)> failed) {
  thread_ = std::thread([this, name, failed = std::move(failed)] {
    if (const Status status = prepare(name); !status) return failed(status.error());
    serve();
    for (const auto& action : last_) action();
  });
}

Status DeviceThread::prepare(const char* name) const {
  // Signals meant for the program are the I/O thread's.
  sigset_t all;
  sigfillset(&all);
  for (const int own : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGSYS}) sigdelset(&all, own);
  pthread_sigmask(SIG_SETMASK, &all, nullptr);
  pthread_setname_np(pthread_self(), name);
  return host::confine(role_);
}

void DeviceThread::serve() {
  std::vector<pollfd> entries = {{attention_.descriptor(), POLLIN, 0}};
  for (const Source& source : sources_) entries.push_back({source.descriptor, POLLIN, 0});
  while (!stopping_.load()) {
    // A phase changes on this thread, or with a wake-up.
    for (usize i = 0; i < sources_.size(); ++i)
      entries[i + 1].fd = listens(*sources_[i].device) ? sources_[i].descriptor : -1;
    if (poll(entries.data(), entries.size(), -1) < 0) continue;
    if (entries[0].revents != 0) attention_.clear();
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
