// Any bytes as a line of the control protocol: what is taken comes back the same when it is written and read
// again.
#include "base/check.hpp"
#include "life/json.hpp"

extern "C" int LLVMFuzzerTestOneInput(const nacre::u8* data, nacre::usize size) {
  using nacre::life::JsonObject;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto object = JsonObject::parse(text);
  if (!object) return 0;
  const std::string line = object->line();
  NACRE_CHECK(line.find('\n') == std::string::npos);
  const auto again = JsonObject::parse(line);
  NACRE_CHECK(again.has_value() && again->line() == line);
  for (const char* name : {"do", "device", "slot", "id", "event", "force"}) {
    NACRE_CHECK(again->text(name) == object->text(name) && again->number(name) == object->number(name));
    NACRE_CHECK(again->is_true(name) == object->is_true(name));
  }
  return 0;
}
