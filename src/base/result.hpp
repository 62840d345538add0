// Result<T, E>: a value or the reason there is none. For failures of the host (files, ioctls,
// memory) and of input; guest faults are their own values, and our bugs are NACRE_CHECK.
//
// Recommended use:
//   Result<Image> open(Path p);            Error says what is wrong and what to do
//   auto image = TRY(open(path));          propagates the error
//   return Error{"…"};                     from a function returning Result<…>
//
// std::expected is not in GCC 12's library for C++20 and is not nodiscard. Freestanding; any thread.
#pragma once

#include <new>
#include <type_traits>
#include <utility>

#include "base/check.hpp"
#include "base/types.hpp"

namespace nacre {

// One sentence for the user, complete with what to do. Fixed capacity so that the core, which has
// no heap, can make one too; longer text is cut.
class Error {
 public:
  constexpr Error() = default;
  constexpr explicit Error(const char* text) { append(text); }

  // Appends text, or a number in decimal or hexadecimal. Returns *this for chaining.
  constexpr Error& append(const char* text) {
    while (*text != 0 && length_ + 1 < sizeof text_) text_[length_++] = *text++;
    text_[length_] = 0;
    return *this;
  }
  constexpr Error& append_number(u64 value, unsigned base = 10) {
    char digits[24] = {};
    unsigned n = sizeof digits - 1;
    do {
      digits[--n] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    if (base == 16) append("0x");
    return append(digits + n);
  }
  [[nodiscard]] constexpr const char* message() const { return text_; }

 private:
  char text_[496] = {};
  usize length_ = 0;
};

template <typename T, typename E = Error>
class [[nodiscard]] Result {
 public:
  // NOLINTNEXTLINE(google-explicit-constructor): `return value;` is the point of the type.
  Result(T value) : has_value_(true) { new (&value_) T(std::move(value)); }
  Result(E error) : has_value_(false) { new (&error_) E(std::move(error)); }  // NOLINT
  Result(Result&& other) noexcept : has_value_(other.has_value_) {
    if (has_value_) {
      new (&value_) T(std::move(other.value_));
    } else {
      new (&error_) E(std::move(other.error_));
    }
  }
  Result(const Result&) = delete;
  Result& operator=(const Result&) = delete;
  Result& operator=(Result&&) = delete;
  ~Result() {
    if (has_value_) {
      value_.~T();
    } else {
      error_.~E();
    }
  }

  [[nodiscard]] bool ok() const { return has_value_; }
  explicit operator bool() const { return has_value_; }
  T& value() {
    NACRE_CHECK(has_value_);
    return value_;
  }
  const T& value() const {
    NACRE_CHECK(has_value_);
    return value_;
  }
  [[nodiscard]] const E& error() const {
    NACRE_CHECK(!has_value_);
    return error_;
  }
  T* operator->() { return &value(); }
  T& operator*() { return value(); }
  T take() { return std::move(value()); }

 private:
  union {
    T value_;
    E error_;
  };
  bool has_value_;
};

template <typename E>
class [[nodiscard]] Result<void, E> {
 public:
  Result() : has_value_(true) {}
  Result(E error) : error_(std::move(error)), has_value_(false) {}  // NOLINT: see above

  [[nodiscard]] bool ok() const { return has_value_; }
  explicit operator bool() const { return has_value_; }
  [[nodiscard]] const E& error() const {
    NACRE_CHECK(!has_value_);
    return error_;
  }
  void take() const { NACRE_CHECK(has_value_); }

 private:
  E error_{};
  bool has_value_;
};

using Status = Result<void>;

}  // namespace nacre

// Evaluates to the value of a Result, or returns its error from the enclosing function.
#define TRY(expression)                                     \
  __extension__({                                           \
    auto try_result = (expression);                         \
    if (!try_result.ok()) return try_result.error();        \
    try_result.take();                                      \
  })
