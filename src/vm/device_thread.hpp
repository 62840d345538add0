// DeviceThread: the thread on which the queues of one or more virtio devices are processed, so that no vCPU
// waits for a disk. It sleeps until a doorbell rings or something happens on the host's side. Threads:
// raise() any, without a lock, general registers only; call() any, takes a lock; the rest the thread that owns the
// VM, or what call() was given.
#pragma once

#include <poll.h>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "host/confine.hpp"
#include "host/events.hpp"
#include "virtio/device.hpp"
#include "vm/attention.hpp"

namespace nacre::vm {

class DeviceThread {
 public:
  static Result<std::unique_ptr<DeviceThread>> create(host::ThreadRole role = host::ThreadRole::Device);
  DeviceThread(const DeviceThread&) = delete;
  DeviceThread& operator=(const DeviceThread&) = delete;
  ~DeviceThread() { stop(); }

  // Before start(), or on the thread: a device, what is run on the thread when it ends, a descriptor that makes devices run
  // when it is readable, while `device` (added before) listens: one that stands still would leave it readable
  // for ever.
  void add(virtio::Device& device) { devices_.push_back(&device); }
  void at_end(std::function<void()> action) { last_.push_back(std::move(action)); }
  void watch(int descriptor, const virtio::Device& device) { sources_.push_back({descriptor, &device}); }
  // The same for descriptors that come and go.
  void watch(host::Events& events, const virtio::Device& device) { events_.push_back({&events, &device}); }
  // On the thread: the device and what is watched for it.
  void forget(const virtio::Device& device);
  // Run once on the thread, soon. What the thread has not come to when it is stopped is not run.
  void call(std::function<void()> job);
  // Confines the thread (host/confine.hpp); `failed` hears when that is not possible.
  void start(const char* name, std::function<void(const Error&)> failed);
  void raise() { attention_.raise(); }
  // An eventfd: who writes to it has raised it.
  [[nodiscard]] int event() const { return attention_.descriptor(); }
  // Returns when the thread has ended. No vCPU runs any more, or none will until this returns.
  void stop();

 private:
  struct Source {
    int descriptor;
    const virtio::Device* device;
  };

  struct EventSource {
    host::Events* events;
    const virtio::Device* device;
    usize first = 0, count = 0;  // its descriptors in entries_
    bool asked = false;
  };

  DeviceThread(Attention attention, host::ThreadRole role) : attention_(std::move(attention)), role_(role) {}
  Status prepare(const char* name) const;
  void serve();
  // What to wait for, into entries_; the most milliseconds to wait, -1: no limit.
  int collect();
  void do_jobs();

  Attention attention_;
  const host::ThreadRole role_;
  std::vector<virtio::Device*> devices_;
  std::vector<Source> sources_;
  std::vector<EventSource> events_;
  std::vector<pollfd> entries_;
  std::vector<std::function<void()>> last_;
  std::mutex jobs_lock_;  // guards jobs_; leaf
  std::vector<std::function<void()>> jobs_;
  std::thread thread_;
  std::atomic<bool> stopping_ = false;
};

}  // namespace nacre::vm
