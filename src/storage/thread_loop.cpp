#include "storage/thread_loop.hpp"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <csignal>

#include "host/error.hpp"

namespace nacre::storage {
namespace {

// More operations than this wait for one another. Disks rarely profit from more, and they are threads.
constexpr usize kMostThreads = 16;

}  // namespace

Result<std::unique_ptr<Loop>> ThreadLoop::create() {
  host::UniqueFd event(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!event) return host::errno_error("Cannot make an eventfd");
  return std::unique_ptr<Loop>(new ThreadLoop(std::move(event)));
}

ThreadLoop::~ThreadLoop() {
  {
    const std::lock_guard guard(lock_);
    ending_ = true;
  }
  wanted_.notify_all();
  for (std::thread& thread : threads_) thread.join();
}

void ThreadLoop::start(int file, Request& request) {
  bool more = false;
  {
    const std::lock_guard guard(lock_);
    queue_.push_back({file, &request});
    more = queue_.size() > idle_ && threads_.size() < kMostThreads;
  }
  if (!more) {
    wanted_.notify_one();
    return;
  }
  // The process's signals are for the threads that expect them.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  threads_.emplace_back([this] { work(); });
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void ThreadLoop::work() {
  std::unique_lock guard(lock_);
  for (;;) {
    ++idle_;
    wanted_.wait(guard, [this] { return ending_ || !queue_.empty(); });
    --idle_;
    if (queue_.empty()) return;
    const Operation operation = queue_.front();
    queue_.pop_front();
    guard.unlock();
    operation.request->error = perform(operation.file, *operation.request);
    guard.lock();
    complete_.push_back(operation.request);
    if (complete_.size() == 1) {
      const u64 one = 1;
      static_cast<void>(!write(event_.number(), &one, sizeof one));
    }
  }
}

void ThreadLoop::dispatch() {
  std::vector<Request*> complete;
  {
    const std::lock_guard guard(lock_);
    if (complete_.empty()) return;
    complete.swap(complete_);
    u64 count = 0;
    static_cast<void>(!read(event_.number(), &count, sizeof count));
  }
  for (Request* request : complete) request->completed();
}

void ThreadLoop::wait() {
  pollfd entry = {event_.number(), POLLIN, 0};
  poll(&entry, 1, -1);
  dispatch();
}

}  // namespace nacre::storage
