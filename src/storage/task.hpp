// Task<T>: a coroutine that starts at once and may be awaited once; what qcow2's state machines are written
// in.
//
// Eager, because most steps find what they need in memory: a task that never waits costs one allocation and
// no suspension, and two tasks run side by side simply by being called before either is awaited. A task must
// be complete when it is dropped. One thread: the one that drives the loop.
//
// Rule for the code here: nothing that points into a cache is kept across a co_await.
#pragma once

#include <coroutine>
#include <utility>
#include <vector>

#include "base/check.hpp"
#include "base/types.hpp"
#include "storage/request.hpp"

namespace nacre::storage {

template <typename T>
class [[nodiscard]] Task {
 public:
  struct promise_type {
    T value{};
    std::coroutine_handle<> awaiting;

    Task get_return_object() { return Task(Handle::from_promise(*this)); }
    std::suspend_never initial_suspend() noexcept { return {}; }
    struct Final {
      bool await_ready() noexcept { return false; }
      std::coroutine_handle<> await_suspend(std::coroutine_handle<promise_type> self) noexcept {
        const auto waiter = self.promise().awaiting;
        return waiter ? waiter : std::noop_coroutine();
      }
      void await_resume() noexcept {}
    };
    Final final_suspend() noexcept { return {}; }
    void return_value(T result) { value = std::move(result); }
    [[noreturn]] void unhandled_exception() { check_failed("an exception in a task", __FILE__, __LINE__); }
  };
  using Handle = std::coroutine_handle<promise_type>;

  Task(Task&& other) noexcept : handle_(std::exchange(other.handle_, {})) {}
  Task(const Task&) = delete;
  Task& operator=(const Task&) = delete;
  Task& operator=(Task&&) = delete;
  ~Task() {
    if (!handle_) return;
    NACRE_CHECK(handle_.done());
    handle_.destroy();
  }

  [[nodiscard]] bool is_done() const { return handle_.done(); }
  T& result() { return handle_.promise().value; }

  bool await_ready() const noexcept { return handle_.done(); }
  void await_suspend(std::coroutine_handle<> waiter) noexcept { handle_.promise().awaiting = waiter; }
  T await_resume() { return std::move(handle_.promise().value); }

 private:
  explicit Task(Handle handle) : handle_(handle) {}
  Handle handle_;
};

// Waits for all of them; the first error. `tasks` is empty then.
inline Task<int> all(std::vector<Task<int>>* tasks) {
  int error = 0;
  for (Task<int>& task : *tasks) {
    const int failed = co_await task;
    if (error == 0) error = failed;
  }
  tasks->clear();
  co_return error;
}

// A coroutine nobody waits for; it frees itself at its end.
struct Detached {
  struct promise_type {
    Detached get_return_object() { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() {}
    [[noreturn]] void unhandled_exception() { check_failed("an exception in a task", __FILE__, __LINE__); }
  };
};

// co_await Io(target, kind, offset, length, buffers) submits a request and gives its error.
class Io final : public Request {
 public:
  Io(Target& target, Kind what, u64 where, u64 bytes, Buffers memory = {}, Space keep = Space::Release)
      : target_(target) {
    kind = what;
    space = keep;
    offset = where;
    length = bytes;
    buffers = memory;
  }
  Io(const Io&) = delete;
  Io& operator=(const Io&) = delete;

  bool await_ready() { return target_.submit(*this); }
  void await_suspend(std::coroutine_handle<> waiter) { waiter_ = waiter; }
  int await_resume() const { return error; }
  void completed() override { waiter_.resume(); }

 private:
  Target& target_;
  std::coroutine_handle<> waiter_;
};

// Coroutines that wait for something to change: co_await list.wait(), then look again.
class WaitList {
 public:
  struct Wait {
    WaitList& list;
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<> waiter) { list.waiters_.push_back(waiter); }
    void await_resume() const noexcept {}
  };
  Wait wait() { return Wait{*this}; }
  [[nodiscard]] bool empty() const { return waiters_.empty(); }
  // Runs all that wait now. The last thing its caller does: they may change everything.
  void wake_all() {
    const auto woken = std::exchange(waiters_, {});
    for (const auto& waiter : woken) waiter.resume();
  }

 private:
  std::vector<std::coroutine_handle<>> waiters_;
};

// Held across awaits; handed to waiters in order.
class AsyncMutex {
 public:
  struct Lock {
    AsyncMutex& mutex;
    bool await_ready() const noexcept { return !std::exchange(mutex.held_, true); }
    void await_suspend(std::coroutine_handle<> waiter) { mutex.waiters_.push_back(waiter); }
    void await_resume() const noexcept {}
  };
  Lock lock() { return Lock{*this}; }
  // May run the next holder before it returns.
  void unlock() {
    if (waiters_.empty()) {
      held_ = false;
      return;
    }
    const auto next = waiters_.front();
    waiters_.erase(waiters_.begin());
    next.resume();
  }

 private:
  bool held_ = false;
  std::vector<std::coroutine_handle<>> waiters_;
};

}  // namespace nacre::storage
