#pragma once

#include <cstdint>
#include <string>

#include <fmt/format.h>

namespace sinopia::testing_io {

/// Fields of a tar header; those that differ from the truth make it malformed.
struct TarMember {
  std::string name;
  std::string data;
  char kind = '0';
  std::string size = {};    ///< the field's 12 bytes, if not the true size in octal digits
  std::string prefix = {};  ///< of ustar
  std::string magic = std::string(
      "ustar\0"
      "00",
      8);
  int sum_error = 0;
};

inline std::string make_tar_member(const TarMember& member) {
  std::string header(512, '\0');
  const auto put = [&](size_t at, const std::string& text) { header.replace(at, text.size(), text); };
  put(0, member.name);
  put(100, "0000644");
  put(108, "0000000");
  put(116, "0000000");
  put(124, member.size.empty() ? fmt::format("{:011o}", member.data.size()) : member.size);
  put(136, "00000000000");
  put(148, "        ");
  put(156, std::string(1, member.kind));
  put(257, member.magic);
  put(345, member.prefix);
  int sum = member.sum_error;
  for (const char c : header) sum += static_cast<uint8_t>(c);
  put(148, fmt::format("{:06o}", sum) + std::string("\0 ", 2));
  return header + member.data + std::string((512 - member.data.size() % 512) % 512, '\0');
}

/// The members and two blocks of zeros.
inline std::string make_tar(std::initializer_list<TarMember> members) {
  std::string archive;
  for (const TarMember& member : members) archive += make_tar_member(member);
  return archive + std::string(1024, '\0');
}

/// A record of a pax header, which begins with its own length.
inline std::string pax_record(const std::string& key, const std::string& value) {
  const size_t rest = key.size() + value.size() + 3;
  size_t length = rest;
  while (length != rest + std::to_string(length).size()) length = rest + std::to_string(length).size();
  return fmt::format("{} {}={}\n", length, key, value);
}

}  // namespace sinopia::testing_io
