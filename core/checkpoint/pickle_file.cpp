// torch.save (torch/serialization.py), zip and legacy; LibTorch archives: the same zip, where the
// pickle holds modules instead of a dict.
#include <cstring>
#include <set>

#include "core/checkpoint/contents.h"
#include "core/checkpoint/pickle.h"
#include "core/checkpoint/zip.h"
#include "core/run/error.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using Kind = PickleValue::Kind;

constexpr size_t kMaxVisits = 1 << 23, kMaxNames = 64 << 20, kMaxDepth = 100, kMaxName = 4096,
                 kMaxDimensions = 64;
/// The pickle of 0x1950a86a20f9469cfc6c, with which the format before torch 1.6 begins.
constexpr std::string_view kLegacyMagic("\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.",
                                        15);

__extension__ typedef __int128 Wide;

/// Where the bytes of the storages are, by their keys.
struct Storage {
  uint64_t begin = 0, size = 0;
};
using Storages = std::unordered_map<std::string, Storage>;

/// The tensors below a value, by name.
class StateDict {
 public:
  StateDict(std::string where, const Pickle& pickle) : where_(std::move(where)), pickle_(pickle) {
    const PickleValue* root = &pickle.root();
    if (root->kind == Kind::dict && !has_tensors(*root)) root = &unwrap(*root);
    if (root->kind != Kind::dict && root->kind != Kind::module) refuse();
    walk(*root, "", 0);
    if (tensors.empty()) refuse();
  }

  std::vector<std::pair<std::string, const PickleValue*>> tensors;

 private:
  bool has_tensors(const PickleValue& dict) const {
    for (size_t i = 1; i < dict.items.size(); i += 2) {
      if (pickle_.at(dict.items[i]).kind == Kind::tensor) return true;
    }
    return false;
  }

  [[noreturn]] void refuse() const {
    std::string keys;
    const PickleValue& root = pickle_.root();
    for (size_t i = 0; root.kind == Kind::dict && i < std::min<size_t>(root.items.size(), 16);
         i += 2) {
      keys += fmt::format("{}'{}'", keys.empty() ? "; its keys: " : ", ",
                          pickle_.at(root.items[i]).text.substr(0, 80));
    }
    fail("{}: holds no state dict, a dict from names to tensors{}", where_, keys);
  }

  /// A training checkpoint keeps the weights beside other things.
  const PickleValue& unwrap(const PickleValue& dict) const {
    for (std::string_view wanted : {"state_dict", "model_state_dict", "model", "module"}) {
      for (size_t i = 0; i < dict.items.size(); i += 2) {
        const PickleValue& value = pickle_.at(dict.items[i + 1]);
        if (pickle_.at(dict.items[i]).text == wanted && value.kind == Kind::dict &&
            has_tensors(value)) {
          return value;
        }
      }
    }
    refuse();
  }

  void walk(const PickleValue& value, const std::string& prefix, size_t depth) {
    if (depth > kMaxDepth || prefix.size() > kMaxName) fail("{}: nested too deep", where_);
    if (value.kind == Kind::module) {
      if (!value.items.empty()) walk(pickle_.at(value.items[0]), prefix, depth + 1);
      return;
    }
    if (value.kind != Kind::dict) return;
    for (size_t i = 0; i < value.items.size(); i += 2) {
      if (++visits_ > kMaxVisits) fail("{}: more entries than any model has", where_);
      const PickleValue &key = pickle_.at(value.items[i]), &held = pickle_.at(value.items[i + 1]);
      const bool is_tensor = held.kind == Kind::tensor;
      if (!is_tensor && held.kind != Kind::module) continue;
      if (key.kind != Kind::text || key.text.size() > kMaxName) {
        fail("{}: a tensor's key is no name", where_);
      }
      std::string name = prefix + std::string(key.text);
      if (!is_tensor) {
        walk(held, name + ".", depth + 1);
        continue;
      }
      if (!names_.insert(name).second) fail("{}: tensor '{}' is there twice", where_, name);
      names_bytes_ += name.size();
      if (names_bytes_ > kMaxNames) fail("{}: more tensors than any model has", where_);
      tensors.emplace_back(std::move(name), &held);
    }
  }

  std::string where_;
  const Pickle& pickle_;
  std::set<std::string> names_;
  size_t visits_ = 0, names_bytes_ = 0;
};

/// Checks one tensor against its storage.
void place(TensorFile::Contents& contents, const Pickle& pickle, const std::string& name,
           const PickleValue& tensor, const Storages& storages) {
  const std::string where = fmt::format("{}: tensor '{}'", contents.path.string(), name);
  const PickleValue &storage = pickle.at(tensor.items[0]), &shape = pickle.at(tensor.items[1]),
                    &strides = pickle.at(tensor.items[2]);
  const std::string key(storage.text.substr(0, kMaxName));
  const auto found = storages.find(key);
  if (found == storages.end()) fail("{}: its storage '{}' is not in the file", where, key);
  const auto [begin, bytes] = found->second;
  if (shape.items.size() != strides.items.size() || shape.items.size() > kMaxDimensions) {
    fail("{}: {} dimensions and {} strides", where, shape.items.size(), strides.items.size());
  }
  TensorInfo info{.name = name,
                  .dtype = tensor.dtype,
                  .shape = pickle.integers(shape),
                  .begin = begin,
                  .end = begin + bytes};
  TensorFile::Contents::Place at{.strides = pickle.integers(strides)};

  // In 128 bits nothing here overflows that the comparisons below would not catch first.
  const auto most = static_cast<Wide>(bytes / c10::elementSize(info.dtype));
  const Wide announced =
      static_cast<Wide>(storage.number) *
      (storage.dtype == at::ScalarType::Undefined ? 1 : c10::elementSize(storage.dtype));
  Wide elements = 1, last = tensor.number;
  bool empty = false, inside = tensor.number >= 0 && announced <= bytes;
  for (size_t i = 0; i < info.shape.size(); ++i) {
    if (info.shape[i] < 0 || at.strides[i] < 0) {
      fail("{}: shape [{}], strides [{}]", where, fmt::join(info.shape, ", "),
           fmt::join(at.strides, ", "));
    }
    empty |= info.shape[i] == 0;
  }
  for (size_t i = 0; inside && !empty && i < info.shape.size(); ++i) {
    elements *= info.shape[i];
    last += static_cast<Wide>(info.shape[i] - 1) * at.strides[i];
    inside = last < most && elements <= most;
  }
  if (!inside || (!empty && last >= most)) {
    fail("{}: shape [{}], strides [{}] at {} do not fit its storage, which holds {} bytes", where,
         fmt::join(info.shape, ", "), fmt::join(at.strides, ", "), tensor.number, bytes);
  }
  constexpr int64_t large = int64_t{1} << 20;
  if (empty && std::ranges::count_if(info.shape, [](int64_t n) { return n > large; }) > 1) {
    fail("{}: shape [{}]", where, fmt::join(info.shape, ", "));  // whose product overflows
  }
  at.begin =
      begin + static_cast<uint64_t>(empty ? 0 : tensor.number) * c10::elementSize(info.dtype);
  contents.index.emplace(name, contents.tensors.size());
  contents.tensors.push_back(std::move(info));
  contents.places.push_back(std::move(at));
}

void read_zipped(TensorFile::Contents& contents) {
  const std::string where = contents.path.string();
  const std::string_view bytes = contents.file.bytes();
  const auto entries = read_zip(where, bytes);
  std::string folder;
  for (const auto& [name, entry] : entries) {
    const size_t slash = name.find('/');
    if (slash == std::string::npos || name.substr(slash) != "/data.pkl") continue;
    if (!folder.empty()) fail("{}: holds two data.pkl", where);
    folder = name.substr(0, slash + 1);
  }
  if (folder.empty()) {
    fail("{}: a zip archive without data.pkl; torch.save and torch.jit.save write one", where);
  }
  const ZipEntry pickled = entries.at(folder + "data.pkl");
  if (!pickled.stored) fail("{}: {}data.pkl is compressed or encrypted", where, folder);
  if (auto order = entries.find(folder + "byteorder");
      order != entries.end() && bytes.substr(order->second.begin, order->second.size) == "big") {
    fail("{}: was written on a big-endian machine; load and save it again on another", where);
  }
  Storages storages;
  const std::string data = folder + "data/";
  for (const auto& [name, entry] : entries) {
    if (!name.starts_with(data)) continue;
    if (!entry.stored) fail("{}: {} is compressed or encrypted", where, name);
    storages[name.substr(data.size())] = {entry.begin, entry.size};
  }
  const Pickle pickle(where, bytes.substr(pickled.begin, pickled.size));
  const StateDict state(where, pickle);
  for (const auto& [name, tensor] : state.tensors) {
    place(contents, pickle, name, *tensor, storages);
  }
}

/// Five pickles (a magic number, a version, facts on the machine, the state dict, the storages'
/// keys), then each storage: its elements in 8 bytes, and their values.
void read_legacy(TensorFile::Contents& contents) {
  const std::string where = contents.path.string();
  const std::string_view bytes = contents.file.bytes();
  if (!bytes.starts_with(kLegacyMagic)) {
    fail("{}: a pickle, but not by torch.save; save it anew: torch.save(model.state_dict(), FILE)",
         where);
  }
  size_t at = kLegacyMagic.size();
  const auto next = [&] {
    Pickle pickle(where, bytes.substr(at));
    at += pickle.size();
    return pickle;
  };
  if (next().root().number != 1001) fail("{}: an unknown version of torch.save", where);
  const Pickle machine = next();
  for (size_t i = 0; machine.root().kind == Kind::dict && i < machine.root().items.size(); i += 2) {
    if (machine.at(machine.root().items[i]).text == "little_endian" &&
        machine.at(machine.root().items[i + 1]).number == 0) {
      fail("{}: was written on a big-endian machine; load and save it again on another", where);
    }
  }
  const Pickle pickle = next(), keys = next();
  std::unordered_map<std::string_view, const PickleValue*> known;
  for (const PickleValue& value : pickle.values()) {
    if (value.kind == Kind::storage) known[value.text] = &value;
  }
  Storages storages;
  for (uint32_t item : keys.root().items) {
    const std::string_view key = keys.at(item).text;
    const auto storage = known.find(key);
    if (storage == known.end()) fail("{}: storage '{}' has no tensor", where, key.substr(0, 80));
    uint64_t elements = 0;
    const uint64_t size = storage->second->dtype == at::ScalarType::Undefined
                              ? 1
                              : c10::elementSize(storage->second->dtype);
    const uint64_t left = bytes.size() - at;
    if (left >= sizeof elements) std::memcpy(&elements, bytes.data() + at, sizeof elements);
    if (left < sizeof elements || elements > (left - sizeof elements) / size) {
      fail("{}: storage '{}' is cut off; is the download complete?", where, key.substr(0, 80));
    }
    at += sizeof elements;
    if (!storages.emplace(key.substr(0, kMaxName), Storage{at, elements * size}).second) {
      fail("{}: storage '{}' is there twice", where, key.substr(0, 80));
    }
    at += elements * size;
  }
  const StateDict state(where, pickle);
  for (const auto& [name, tensor] : state.tensors) {
    place(contents, pickle, name, *tensor, storages);
  }
}

std::shared_ptr<TensorFile::Contents> read_pickle(const fs::path& path) {
  auto contents = std::make_shared<TensorFile::Contents>(path);
  if (contents->file.bytes().starts_with("PK")) {
    read_zipped(*contents);
  } else {
    read_legacy(*contents);
  }
  return contents;
}

}  // namespace

PickleFile::PickleFile(const fs::path& path) : TensorFile(read_pickle(path)) {}

}  // namespace resurface
