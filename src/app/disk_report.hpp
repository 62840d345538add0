// What `nacre disk` prints: for people, or as JSON.
#pragma once

#include "storage/tools.hpp"

namespace nacre::app {

void print_info(const std::vector<storage::ImageInfo>& chain);
void print_info_json(const std::vector<storage::ImageInfo>& chain);
void print_check(const storage::qcow2::CheckReport& report);
void print_check_json(const storage::qcow2::CheckReport& report);

// "10 GiB", "1.5 MiB", "100 bytes".
std::string size_text(u64 bytes);
// With the quotes. Bytes that are no UTF-8 are taken as Latin-1.
std::string json_text(const std::string& text);

}  // namespace nacre::app
