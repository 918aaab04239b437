// The zip container of torch.save: uncompressed entries, found through the central directory.
#pragma once

#include <string>
#include <string_view>
#include <unordered_map>

namespace resurface {

struct ZipEntry {
  uint64_t begin = 0, size = 0;  ///< the entry's bytes within the archive
  bool stored = false;           ///< neither compressed nor encrypted
};

/// Every offset and size is checked against the archive; entries that overlap or share a name are
/// refused. `where` begins an Error's message. Zip64 is read.
std::unordered_map<std::string, ZipEntry> read_zip(const std::string& where,
                                                   std::string_view bytes);

}  // namespace resurface
