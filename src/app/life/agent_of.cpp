#include "app/life/agent_of.hpp"

#include <algorithm>
#include <ctime>

#include "life/folder.hpp"
#include "life/record.hpp"

namespace nacre::app {

Result<agent::Client> agent_of(const std::string& machine, const std::string& socket, double wait) {
  if (!socket.empty()) return agent::Client::connect(socket, static_cast<int>(std::max(wait, 0.0) * 1000));
  const life::Folder folder = TRY(life::Folder::of(machine));
  const std::string path = TRY(life::short_path(folder, life::Folder::kVsock));
  if (wait < 0) {
    const life::Record record = life::load_record(folder);
    const i64 age = std::time(nullptr) - record.since;
    wait = record.runs && age >= 0 ? static_cast<double>(std::max(kStarting - age, i64{0})) : 0;
  }
  return agent::Client::connect(path, static_cast<int>(wait * 1000), "machine " + machine);
}

}  // namespace nacre::app
