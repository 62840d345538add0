// UringLoop: file operations by io_uring.
#pragma once

#include <liburing.h>

#include <vector>

#include "storage/loop.hpp"

namespace nacre::storage {

class UringLoop final : public Loop {
 public:
  // An Error where the kernel or a filter does not allow io_uring, or lacks an operation.
  static Result<std::unique_ptr<Loop>> create();
  ~UringLoop() override;

  void start(int file, Request& request) override;
  void dispatch() override;
  void wait() override;
  [[nodiscard]] int event_fd() const override { return ring_.ring_fd; }
  [[nodiscard]] const char* name() const override { return "io_uring"; }

 private:
  struct Operation {
    int file = -1;
    Request* request = nullptr;
  };
  UringLoop() = default;
  void complete(const io_uring_cqe& entry);

  io_uring ring_ = {};
  bool made_ = false;
  // Operations under way, by slot: completions may come in any order, and there may be more than ring
  // entries.
  std::vector<Operation> operations_;
  std::vector<u32> free_slots_;
};

}  // namespace nacre::storage
