// DeviceThread: the thread on which the queues of one or more virtio devices are processed, so that no vCPU
// waits for a disk. It sleeps until a doorbell rings or something happens on the host's side. Threads:
// raise() any, without a lock, general registers only; the rest the thread that owns the VM.
#pragma once

#include <poll.h>

#include <atomic>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "virtio/device.hpp"
#include "vm/attention.hpp"

namespace nacre::vm {

class DeviceThread {
 public:
  static Result<std::unique_ptr<DeviceThread>> create();
  DeviceThread(const DeviceThread&) = delete;
  DeviceThread& operator=(const DeviceThread&) = delete;
  ~DeviceThread() { stop(); }

  // Before start(): a device, what is run on the thread when it ends, a descriptor that makes devices run
  // when it is readable.
  void add(virtio::Device& device) { devices_.push_back(&device); }
  void at_end(std::function<void()> action) { last_.push_back(std::move(action)); }
  void watch(int descriptor) { watched_.push_back({descriptor, POLLIN, 0}); }
  // Confines the thread (host/confine.hpp); `failed` hears when that is not possible.
  void start(const char* name, std::function<void(const Error&)> failed);
  void raise() { attention_.raise(); }
  // Returns when the thread has ended. No vCPU runs any more, or none will until this returns.
  void stop();

 private:
  explicit DeviceThread(Attention attention);
  static Status prepare(const char* name);
  void serve();

  Attention attention_;
  std::vector<virtio::Device*> devices_;
  std::vector<pollfd> watched_;  // the first is attention_'s
  std::vector<std::function<void()>> last_;
  std::thread thread_;
  std::atomic<bool> stopping_ = false;
};

}  // namespace nacre::vm
