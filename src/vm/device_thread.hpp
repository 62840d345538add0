// DeviceThread: the thread on which the queues of one or more virtio devices are processed, so that no vCPU waits for a
// disk. It sleeps until a doorbell rings.
// Threads: raise() any, without a lock, general registers only; the rest the thread that owns the VM.
#pragma once

#include <atomic>
#include <functional>
#include <thread>
#include <vector>

#include "virtio/device.hpp"
#include "vm/processor_wake.hpp"

namespace nacre::vm {

class DeviceThread {
 public:
  DeviceThread() = default;
  DeviceThread(const DeviceThread&) = delete;
  DeviceThread& operator=(const DeviceThread&) = delete;
  ~DeviceThread() { stop(); }

  // Before start().
  void add(virtio::Device& device) { devices_.push_back(&device); }
  // Confines the thread (host/confine.hpp); ends the VM by `failed` if that is not possible.
  void start(const char* name, std::function<void(const Error&)> failed) {
    thread_ = std::thread([this, name, failed = std::move(failed)] {
      if (const Status status = prepare(name); !status) return failed(status.error());
      serve();
    });
  }
  void raise() { wake_.wake(); }
  // Returns when the thread has ended. No vCPU runs any more, or none will until this returns.
  void stop();

 private:
  static Status prepare(const char* name);
  void serve();

  std::vector<virtio::Device*> devices_;
  std::thread thread_;
  ProcessorWake wake_;
  std::atomic<bool> stopping_ = false;
};

}  // namespace nacre::vm
