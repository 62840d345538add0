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

int DeviceThread::collect() {
  int timeout = -1;
  entries_.clear();
  entries_.push_back({attention_.descriptor(), POLLIN, 0});
  // A phase changes on this thread, or with a wake-up.
  for (const Source& source : sources_) {
    if (listens(*source.device)) entries_.push_back({source.descriptor, POLLIN, 0});
  }
  for (EventSource& source : events_) {
    source.asked = listens(*source.device);
    if (!source.asked) continue;
    source.first = entries_.size();
    const int wanted = source.events->wait_for(entries_);
    source.count = entries_.size() - source.first;
    if (wanted >= 0 && (timeout < 0 || wanted < timeout)) timeout = wanted;
  }
  return timeout;
}

void DeviceThread::serve() {
  while (!stopping_.load()) {
    const int timeout = collect();
    if (poll(entries_.data(), entries_.size(), timeout) < 0) continue;
    if (entries_[0].revents != 0) attention_.clear();
    do_jobs();
    const std::span<const pollfd> all = entries_;
    for (const EventSource& source : events_) {
      if (source.asked) source.events->happened(all.subspan(source.first, source.count));
    }
    for (virtio::Device* device : devices_) device->run();
  }
}

void DeviceThread::do_jobs() {
  std::vector<std::function<void()>> jobs;
  {
    const std::lock_guard hold(jobs_lock_);
    jobs.swap(jobs_);
  }
  for (const auto& job : jobs) job();
}

void DeviceThread::call(std::function<void()> job) {
  {
    const std::lock_guard hold(jobs_lock_);
    jobs_.push_back(std::move(job));
  }
  raise();
}

void DeviceThread::forget(const virtio::Device& device) {
  std::erase(devices_, &device);
  std::erase_if(sources_, [&](const Source& source) { return source.device == &device; });
  std::erase_if(events_, [&](const EventSource& source) { return source.device == &device; });
}

void DeviceThread::stop() {
  if (!thread_.joinable()) return;
  stopping_.store(true);
  raise();
  thread_.join();
}

}  // namespace nacre::vm
