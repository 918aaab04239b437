// PKWARE's APPNOTE.TXT 6.3.10, sections 4.3 and 4.5.3.
#include "core/checkpoint/zip.h"

#include <cstring>

#include "core/run/error.h"

namespace resurface {
namespace {

constexpr uint64_t kEnd = 22, kLocator = 20, kEnd64 = 56, kEntry = 46, kLocal = 30;
constexpr uint32_t kEndMark = 0x06054b50, kLocatorMark = 0x07064b50, kEnd64Mark = 0x06064b50,
                   kEntryMark = 0x02014b50, kLocalMark = 0x04034b50;
constexpr uint32_t kIn64 = 0xffffffff;  // the number is in the zip64 field instead

struct Archive {
  const std::string& where;
  std::string_view bytes;

  /// A little-endian number at `at`, which has to be inside.
  template <class T>
  T number(uint64_t at) const {
    if (at > bytes.size() || bytes.size() - at < sizeof(T)) {
      fail("{}: its zip directory points outside the file; is the download complete?", where);
    }
    T value;
    std::memcpy(&value, bytes.data() + at, sizeof value);
    return value;
  }
  std::string_view text(uint64_t at, uint64_t size) const {
    if (at > bytes.size() || size > bytes.size() - at) {
      fail("{}: its zip directory points outside the file; is the download complete?", where);
    }
    return bytes.substr(at, size);
  }
};

struct Directory {
  uint64_t begin = 0, end = 0, entries = 0;
};

Directory find_directory(const Archive& zip) {
  const uint64_t size = zip.bytes.size();
  for (uint64_t back = kEnd; back <= std::min<uint64_t>(size, kEnd + 0xffff); ++back) {
    const uint64_t at = size - back;
    if (zip.number<uint32_t>(at) != kEndMark || zip.number<uint16_t>(at + 20) != back - kEnd) {
      continue;
    }
    Directory d{.begin = zip.number<uint32_t>(at + 16), .entries = zip.number<uint16_t>(at + 10)};
    uint64_t length = zip.number<uint32_t>(at + 12);
    if (at >= kLocator && zip.number<uint32_t>(at - kLocator) == kLocatorMark) {
      const auto end64 = zip.number<uint64_t>(at - kLocator + 8);
      if (end64 > size - kEnd64 || zip.number<uint32_t>(end64) != kEnd64Mark) break;
      d.entries = zip.number<uint64_t>(end64 + 32);
      length = zip.number<uint64_t>(end64 + 40);
      d.begin = zip.number<uint64_t>(end64 + 48);
    }
    if (d.begin > at || length > at - d.begin) break;
    d.end = d.begin + length;
    return d;
  }
  fail("{}: the directory at the end of this zip archive is not there; is the download complete?",
       zip.where);
}

/// Replaces the numbers that did not fit 32 bits, in the order of the specification.
void read_extra(const Archive& zip, uint64_t at, uint64_t end, std::array<uint64_t*, 3> numbers) {
  while (at + 4 <= end) {
    const auto id = zip.number<uint16_t>(at);
    const uint64_t stop = at + 4 + zip.number<uint16_t>(at + 2);
    at += 4;
    if (id == 1) {
      for (uint64_t* number : numbers) {
        if (*number != kIn64) continue;
        if (at + 8 > std::min(stop, end)) fail("{}: its zip64 sizes are cut off", zip.where);
        *number = zip.number<uint64_t>(at);
        at += 8;
      }
      return;
    }
    at = stop;
  }
}

}  // namespace

std::unordered_map<std::string, ZipEntry> read_zip(const std::string& where,
                                                   std::string_view bytes) {
  const Archive zip{where, bytes};
  const Directory directory = find_directory(zip);
  std::unordered_map<std::string, ZipEntry> entries;
  std::vector<std::pair<uint64_t, uint64_t>> taken;
  uint64_t at = directory.begin;
  for (uint64_t i = 0; i < directory.entries; ++i) {
    if (directory.end - at < kEntry || zip.number<uint32_t>(at) != kEntryMark) {
      fail("{}: its zip directory announces {} entries and holds {}", where, directory.entries, i);
    }
    const auto flags = zip.number<uint16_t>(at + 8), method = zip.number<uint16_t>(at + 10);
    const auto name_size = zip.number<uint16_t>(at + 28), extra = zip.number<uint16_t>(at + 30),
               comment = zip.number<uint16_t>(at + 32);
    uint64_t packed = zip.number<uint32_t>(at + 20), size = zip.number<uint32_t>(at + 24),
             local = zip.number<uint32_t>(at + 42);
    const std::string name(zip.text(at + kEntry, name_size));
    const uint64_t extra_at = at + kEntry + name_size;
    if (directory.end - at < kEntry + name_size + extra + comment) {
      fail("{}: entry '{}' of its zip directory is cut off", where, name);
    }
    read_extra(zip, extra_at, extra_at + extra, {&size, &packed, &local});
    at = extra_at + extra + comment;

    if (local > directory.begin || directory.begin - local < kLocal ||
        zip.number<uint32_t>(local) != kLocalMark) {
      fail("{}: entry '{}' of its zip directory points to no entry", where, name);
    }
    ZipEntry entry{.stored = method == 0 && (flags & 1) == 0};
    entry.begin =
        local + kLocal + zip.number<uint16_t>(local + 26) + zip.number<uint16_t>(local + 28);
    entry.size = packed;
    if (entry.begin > directory.begin || packed > directory.begin - entry.begin ||
        (entry.stored && packed != size)) {
      fail(
          "{}: entry '{}' announces {} bytes, which the file does not hold; is the download "
          "complete?",
          where, name, packed);
    }
    taken.emplace_back(local, entry.begin + packed);
    if (!entries.emplace(name, entry).second) fail("{}: entry '{}' is there twice", where, name);
  }
  std::ranges::sort(taken);
  for (size_t i = 1; i < taken.size(); ++i) {
    if (taken[i].first < taken[i - 1].second) fail("{}: entries of this archive overlap", where);
  }
  return entries;
}

}  // namespace resurface
