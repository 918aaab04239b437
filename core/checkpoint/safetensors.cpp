// Reading safetensors: 8 bytes of header length, a JSON header, the tensors' bytes back to back.
// The checks are those of the reference implementation (huggingface/safetensors, tensor.rs:
// Metadata::validate), so that a file is accepted here when and only when it is accepted there;
// only repeated keys, which it lets pass, are refused.
#include <bit>
#include <cstring>
#include <set>

#include "core/checkpoint/contents.h"
#include "core/checkpoint/dtype.h"
#include "core/run/error.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors are little-endian");

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeader = 100'000'000;  // the reference implementation's limit

/// Parses the header, refusing what nlohmann would let pass: repeated keys and nesting that no
/// header has.
json parse_header(const fs::path& path, std::string_view text) {
  if (!text.starts_with('{')) {
    fail("{}: the header is not a JSON object; is this a safetensors file?", path.string());
  }
  std::vector<std::set<std::string>> keys(4);
  auto check = [&](int depth, json::parse_event_t event, json& parsed) {
    using enum json::parse_event_t;
    auto level = static_cast<size_t>(depth);
    if ((event == object_start || event == array_start) && level + 1 >= keys.size()) {
      fail("{}: the header is nested too deep", path.string());
    }
    if (event == object_start) keys[level + 1].clear();
    if (event == key) {
      auto name = parsed.get<std::string>();
      if (!keys[level].insert(name).second) {
        fail("{}: '{}' is in the header twice", path.string(), name);
      }
    }
    return true;
  };
  try {
    return json::parse(text, check);
  } catch (const json::exception& error) {
    fail("{}: the header is not valid JSON: {}", path.string(), error.what());
  }
}

std::map<std::string, std::string> parse_metadata(const fs::path& path, const json& value) {
  std::map<std::string, std::string> metadata;
  if (!value.is_object()) {
    fail("{}: __metadata__: expected an object, got {}", path.string(), value.type_name());
  }
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string()) {
      fail("{}: __metadata__: '{}': expected a string, got {}", path.string(), key,
           text.type_name());
    }
    metadata.emplace(key, text.get<std::string>());
  }
  return metadata;
}

uint64_t parse_unsigned(const std::string& where, const json& value) {
  if (!value.is_number_unsigned() ||
      value.get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
    fail("{}: expected a whole number from 0 to 2^63 - 1, got {}", where, value.dump());
  }
  return value.get<uint64_t>();
}

/// One entry of the header, its offsets counted from `data_start` and checked against `file_size`.
TensorInfo parse_entry(const fs::path& path, const std::string& name, const json& entry,
                       uint64_t data_start, uint64_t file_size) {
  const std::string where = fmt::format("{}: tensor '{}'", path.string(), name);
  if (!entry.is_object()) fail("{}: expected an object, got {}", where, entry.type_name());
  for (const auto& [key, value] : entry.items()) {
    if (key != "dtype" && key != "shape" && key != "data_offsets") {
      fail("{}: unknown key '{}'; expected dtype, shape and data_offsets", where, key);
    }
  }
  for (const char* key : {"dtype", "shape", "data_offsets"}) {
    if (!entry.contains(key)) fail("{}: '{}' is missing", where, key);
  }
  TensorInfo info;
  info.name = name;

  const json& dtype = entry["dtype"];
  if (!dtype.is_string()) fail("{}: dtype: expected a string, got {}", where, dtype.dump());
  auto known = dtype_from_name(dtype.get<std::string>());
  if (!known) {
    fail("{}: unknown dtype '{}'; known: {}", where, dtype.get<std::string>(), known_dtypes());
  }
  info.dtype = *known;

  const json& shape = entry["shape"];
  if (!shape.is_array()) fail("{}: shape: expected a list, got {}", where, shape.dump());
  uint64_t expected = c10::elementSize(info.dtype);
  bool overflow = false;
  for (const json& size : shape) {
    uint64_t n = parse_unsigned(where + ": shape", size);
    info.shape.push_back(static_cast<int64_t>(n));
    overflow |= __builtin_mul_overflow(expected, n, &expected);
  }
  if (overflow) fail("{}: the bytes of shape {} overflow 64 bits", where, shape.dump());

  const json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2) {
    fail("{}: data_offsets: expected [begin, end], got {}", where, offsets.dump());
  }
  uint64_t begin = parse_unsigned(where + ": data_offsets", offsets[0]);
  uint64_t end = parse_unsigned(where + ": data_offsets", offsets[1]);
  if (begin > end) fail("{}: data_offsets [{}, {}] end before they begin", where, begin, end);
  if (end > file_size - data_start) {
    fail("{}: data_offsets [{}, {}] lie past the end: the file holds {} bytes of tensors", where,
         begin, end, file_size - data_start);
  }
  if (end - begin != expected) {
    fail("{}: expected {} bytes (shape [{}], {}), data_offsets give {}", where, expected,
         fmt::join(info.shape, ", "), dtype_name(info.dtype), end - begin);
  }
  info.begin = data_start + begin;
  info.end = data_start + end;
  return info;
}

/// The tensors have to tile the file: no overlap, no hole, nothing behind the last.
void check_layout(const fs::path& path, const std::vector<TensorInfo>& tensors, uint64_t data_start,
                  uint64_t file_size) {
  uint64_t at = data_start;
  const std::string* previous = nullptr;
  for (const TensorInfo& t : tensors) {
    if (t.begin < at) {
      fail("{}: tensors '{}' and '{}' overlap by {} bytes", path.string(), *previous, t.name,
           at - t.begin);
    }
    if (t.begin > at) {
      fail("{}: {} bytes before tensor '{}' belong to no tensor", path.string(), t.begin - at,
           t.name);
    }
    at = t.end;
    previous = &t.name;
  }
  if (at != file_size) {
    fail("{}: {} bytes at the end belong to no tensor", path.string(), file_size - at);
  }
}

std::shared_ptr<TensorFile::Contents> read_safetensors(const fs::path& path) {
  auto contents = std::make_shared<TensorFile::Contents>(path);
  contents->safetensors = true;
  std::string_view bytes = contents->file.bytes();
  if (bytes.size() < kLengthBytes) {
    fail("{}: {} bytes are too few for a safetensors file; is the download complete?",
         path.string(), bytes.size());
  }
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  if (length > kMaxHeader) {
    fail(
        "{}: a header of {} bytes is announced, at most {} are allowed; is this a safetensors "
        "file?",
        path.string(), length, kMaxHeader);
  }
  if (length > bytes.size() - kLengthBytes) {
    fail("{}: a header of {} bytes is announced, the file has only {}; is the download complete?",
         path.string(), length, bytes.size() - kLengthBytes);
  }
  json header = parse_header(path, bytes.substr(kLengthBytes, length));
  uint64_t data_start = kLengthBytes + length;
  auto& tensors = contents->tensors;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      contents->metadata = parse_metadata(path, entry);
    } else {
      tensors.push_back(parse_entry(path, name, entry, data_start, bytes.size()));
    }
  }
  std::ranges::stable_sort(tensors, {},
                           [](const TensorInfo& t) { return std::pair(t.begin, t.end); });
  check_layout(path, tensors, data_start, bytes.size());
  for (size_t i = 0; i < tensors.size(); ++i) {
    contents->places.push_back({tensors[i].begin, {}});
    contents->index.emplace(tensors[i].name, i);
  }
  return contents;
}

}  // namespace

SafetensorsFile::SafetensorsFile(const fs::path& path) : TensorFile(read_safetensors(path)) {}

std::string_view SafetensorsFile::bytes(const std::string& name) const {
  const TensorInfo& t = info(name);
  return contents_->file.bytes().substr(t.begin, t.end - t.begin);
}

}  // namespace resurface
