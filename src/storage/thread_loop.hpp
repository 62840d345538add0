// ThreadLoop: file operations by a few threads that block. Where io_uring is forbidden.
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "host/fd.hpp"
#include "storage/loop.hpp"

namespace nacre::storage {

class ThreadLoop final : public Loop {
 public:
  static Result<std::unique_ptr<Loop>> create();
  ~ThreadLoop() override;

  void start(int file, Request& request) override;
  void dispatch() override;
  void wait() override;
  [[nodiscard]] int event_fd() const override { return event_.number(); }
  [[nodiscard]] const char* name() const override { return "threads"; }

 private:
  struct Operation {
    int file;
    Request* request;
  };
  explicit ThreadLoop(host::UniqueFd event) : event_(std::move(event)) {}
  void work();

  host::UniqueFd event_;  // an eventfd: counts completions not yet delivered
  std::mutex lock_;       // guards all below but threads_; leaf
  std::condition_variable wanted_;
  std::deque<Operation> queue_;
  std::vector<Request*> complete_;
  usize idle_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;  // grows as needed; the I/O thread's
};

}  // namespace nacre::storage
