// Runs a fuzz target without libFuzzer, in builds of any compiler: first the seeds (files of the directories
// given), then inputs made from them and from nothing, always the same ones. Coverage-guided runs are those
// of the preset `fuzz`; this one keeps every target running in every stage of ./test.
//
//   NACRE_FUZZ_RUNS=100000    how many made inputs (default 2000)
//   NACRE_FUZZ_SEED=7         other ones
//
// The input that runs is kept in NAME.input, in the working directory, so that a crash leaves it behind.
// Given a file instead of a directory, it runs just that.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "base/types.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

using namespace nacre;
using Bytes = std::vector<u8>;

constexpr usize kLargest = 2048;

u64 environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text == nullptr ? otherwise : std::strtoull(text, nullptr, 0);
}

class Random {
 public:
  explicit Random(u64 seed) : state_(seed) {}
  u64 below(u64 limit) {  // splitmix64
    u64 z = state_ += 0x9e3779b97f4a7c15;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return (z ^ (z >> 31)) % limit;
  }
  u8 byte() { return static_cast<u8>(below(256)); }

 private:
  u64 state_;
};

// Where the running input can be found after a crash: a file that is mapped, so that a copy is all it takes.
class LastInput {
 public:
  explicit LastInput(const std::string& name) : name_(name) {
    const int file = open(name.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file >= 0 && ftruncate(file, sizeof(u32) + kLargest) == 0) {
      void* memory = mmap(nullptr, sizeof(u32) + kLargest, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
      if (memory != MAP_FAILED) memory_ = static_cast<u8*>(memory);
    }
    if (file >= 0) close(file);
  }
  ~LastInput() {
    if (memory_ != nullptr) munmap(memory_, sizeof(u32) + kLargest);
    unlink(name_.c_str());
  }
  LastInput(const LastInput&) = delete;
  LastInput& operator=(const LastInput&) = delete;

  void keep(const Bytes& input) {
    if (memory_ == nullptr) return;
    const u32 size = static_cast<u32>(std::min(input.size(), kLargest));
    std::memcpy(memory_, &size, sizeof size);
    if (size != 0) std::memcpy(memory_ + sizeof size, input.data(), size);  // nothing may be nowhere
  }
  // Of such a file: its input.
  static Bytes take(const Bytes& file) {
    u32 size = 0;
    if (file.size() != sizeof size + kLargest) return file;
    std::memcpy(&size, file.data(), sizeof size);
    const auto begin = file.begin() + sizeof size;
    return {begin, begin + std::min<u32>(size, kLargest)};
  }

 private:
  std::string name_;
  u8* memory_ = nullptr;
};

Bytes read(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// A seed with some bytes changed, taken out, put in or moved; or, one time in three, bytes from nothing.
Bytes make(Random& random, const std::vector<Bytes>& seeds) {
  Bytes input;
  if (!seeds.empty() && random.below(3) != 0) {
    input = seeds[random.below(seeds.size())];
  } else {
    input.resize(random.below(random.below(8) == 0 ? kLargest : 256));
    for (u8& byte : input) byte = random.below(4) == 0 ? u8{0} : random.byte();
  }
  for (u64 changes = random.below(12); changes > 0; --changes) {
    const usize at = random.below(input.size() + 1);
    switch (random.below(5)) {
      case 0:
        input.insert(input.begin() + static_cast<std::ptrdiff_t>(at), random.byte());
        break;
      case 1:
        input.resize(at);
        break;
      case 2:
        for (u64 more = random.below(16); more > 0; --more) input.push_back(random.byte());
        break;
      default:
        if (at < input.size())
          input[at] =
              random.below(2) == 0 ? random.byte() : static_cast<u8>(input[at] ^ (1u << random.below(8)));
    }
  }
  if (input.size() > kLargest) input.resize(kLargest);
  return input;
}

void run(const Bytes& input) {
  // Exactly as large as it is said to be, for AddressSanitizer; never null, as libFuzzer has it.
  const auto exact = std::make_unique<u8[]>(input.size());
  std::copy(input.begin(), input.end(), exact.get());
  LLVMFuzzerTestOneInput(exact.get(), input.size());
}

}  // namespace

int main(int count, char** arguments) {
  std::vector<Bytes> seeds;
  for (int i = 1; i < count; ++i) {
    if (!std::filesystem::is_directory(arguments[i])) {
      run(LastInput::take(read(arguments[i])));
      std::printf("%s ran\n", arguments[i]);
      return 0;
    }
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(arguments[i])) paths.push_back(entry.path());
    std::sort(paths.begin(), paths.end());
    for (const auto& path : paths) seeds.push_back(read(path));
  }
  LastInput last(std::filesystem::path(arguments[0]).filename().string() + ".input");
  for (const Bytes& seed : seeds) {
    last.keep(seed);
    run(seed);
  }
  const u64 runs = environment("NACRE_FUZZ_RUNS", 2000);
  Random random(environment("NACRE_FUZZ_SEED", 1));
  for (u64 i = 0; i < runs; ++i) {
    const Bytes input = make(random, seeds);
    last.keep(input);
    run(input);
  }
  std::printf("%zu seeds, %" PRIu64 " made inputs\n", seeds.size(), runs);
  return 0;
}
