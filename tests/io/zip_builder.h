#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <zlib.h>

namespace sinopia::testing_io {

inline std::string little(uint64_t value, int bytes) {
  std::string text;
  for (int i = 0; i < bytes; ++i) text += static_cast<char>(value >> (8 * i));
  return text;
}

/// What goes into an archive; fields that differ from the truth make it malformed.
struct ZipFile {
  std::string name;
  std::string data;  ///< as it lies in the archive
  uint64_t bytes;    ///< when unpacked
  uint32_t checksum;
  uint16_t method = 0;
  uint16_t flags = 0;
  std::string local_name;
  bool wide = false;  ///< sizes and offset in a ZIP64 field
};

inline ZipFile stored(const std::string& name, const std::string& data) {
  const auto crc = crc32(0, reinterpret_cast<const Bytef*>(data.data()), static_cast<uInt>(data.size()));
  return {name, data, data.size(), static_cast<uint32_t>(crc), 0, 0, name, false};
}

inline ZipFile deflated(const std::string& name, const std::string& data) {
  ZipFile file = stored(name, data);
  z_stream stream{};
  deflateInit2(&stream, 9, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  file.data.resize(deflateBound(&stream, data.size()));
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  stream.avail_in = static_cast<uInt>(data.size());
  stream.next_out = reinterpret_cast<Bytef*>(file.data.data());
  stream.avail_out = static_cast<uInt>(file.data.size());
  deflate(&stream, Z_FINISH);
  file.data.resize(stream.total_out);
  deflateEnd(&stream);
  file.method = 8;
  return file;
}

/// An archive of the files; each one's data begins on a multiple of 64 bytes, as torch.save has it.
inline std::string make_zip(const std::vector<ZipFile>& files) {
  std::string archive, directory;
  for (const ZipFile& file : files) {
    const size_t header = archive.size();
    const size_t begin = header + 30 + file.local_name.size() + 4;
    const std::string padding((64 - begin % 64) % 64, 'Z');
    const std::string common =
        little(file.flags, 2) + little(file.method, 2) + little(0, 4) + little(file.checksum, 4);
    const std::string sizes = little(file.data.size(), 4) + little(file.bytes, 4);
    archive += std::string("PK\3\4") + little(20, 2) + common + sizes + little(file.local_name.size(), 2) +
               little(padding.size() + 4, 2) + file.local_name + "FB" + little(padding.size(), 2) + padding +
               file.data;
    const std::string wide = file.wide ? little(1, 2) + little(24, 2) + little(file.bytes, 8) +
                                             little(file.data.size(), 8) + little(header, 8)
                                       : "";
    const std::string elsewhere = little(0xffffffff, 4);
    directory += std::string("PK\1\2") + little(20, 2) + little(20, 2) + common +
                 (file.wide ? elsewhere + elsewhere : sizes) + little(file.name.size(), 2) +
                 little(wide.size(), 2) + little(0, 2) + little(0, 2) + little(0, 2) + little(0, 4) +
                 (file.wide ? elsewhere : little(header, 4)) + file.name + wide;
  }
  const size_t begin = archive.size();
  return archive + directory + "PK\5\6" + little(0, 4) + little(files.size(), 2) + little(files.size(), 2) +
         little(directory.size(), 4) + little(begin, 4) + little(0, 2);
}

}  // namespace sinopia::testing_io
