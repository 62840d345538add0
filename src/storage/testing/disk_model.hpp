// DiskModel: random operations on an image beside a plain array that says what must be read.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <random>
#include <vector>

#include "storage/image.hpp"
#include "storage/qcow2/check.hpp"
#include "storage/qcow2/create.hpp"
#include "storage/qcow2/qcow2.hpp"
#include "storage/testing/memory_file.hpp"

namespace nacre::storage::testing {

using State = std::shared_ptr<MemoryFile::State>;

inline State new_qcow2(const qcow2::NewImage& wanted) {
  auto state = std::make_shared<MemoryFile::State>();
  MemoryFile file(state);
  const Status made = qcow2::format_file(file, wanted, "memory");
  EXPECT_TRUE(made.ok()) << (made.ok() ? "" : made.error().message());
  return state;
}

inline Result<std::unique_ptr<qcow2::Qcow2>> open_qcow2(const State& state, u32 seed = 0,
                                                        std::unique_ptr<Image> backing = nullptr,
                                                        qcow2::Options options = {Access::ReadWrite, 8 * kMiB,
                                                                                  nullptr}) {
  auto file = std::make_unique<MemoryFile>(state, seed);
  const auto header = TRY(qcow2::read_header(*file, "memory"));
  return qcow2::Qcow2::open(std::move(file), header, std::move(backing), options, "memory");
}

inline Result<qcow2::CheckReport> check_qcow2(const State& state,
                                              qcow2::Repair repair = qcow2::Repair::Nothing) {
  MemoryFile file(state);
  const auto header = TRY(qcow2::read_header(file, "memory"));
  return qcow2::check(file, header, "memory", repair);
}

// The image is sound; if told so, without leaks too.
inline ::testing::AssertionResult is_sound(const State& state, bool allows_leaks = false) {
  const auto report = check_qcow2(state);
  if (!report) return ::testing::AssertionFailure() << report.error().message();
  if (report.value().corruptions == 0 && (allows_leaks || report.value().leaks == 0))
    return ::testing::AssertionSuccess();
  auto failure = ::testing::AssertionFailure();
  failure << report.value().corruptions << " corruptions, " << report.value().leaks << " leaks\n";
  for (const std::string& finding : report.value().findings) failure << finding << "\n";
  return failure;
}

// One operation that is under way on an image.
struct Submitted final : Request {
  std::vector<u8> bytes;
  iovec piece = {};
  bool is_complete = false;
  void completed() override { is_complete = true; }
  void start(Image& image) {
    length = bytes.empty() ? length : bytes.size();
    piece = {bytes.data(), bytes.size()};
    buffers = {&piece, 1};
    if (image.submit(*this)) is_complete = true;
  }
};

}  // namespace nacre::storage::testing
