#include "tests/core/fuzz/targets.h"

#include <ATen/ops/empty.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/checkpoint/pickle.h"
#include "core/checkpoint/tensor_file.h"
#include "core/model/anatomy.h"
#include "core/model/config.h"
#include "core/run/config.h"
#include "core/run/error.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;

/// A folder of this process, in memory where the system has that.
class Scratch {
 public:
  Scratch() {
    const fs::path memory = "/dev/shm";
    const fs::path parent = fs::is_directory(memory) ? memory : fs::temp_directory_path();
    path = parent / fmt::format("resurface-fuzz-{}", ::getpid());
    fs::create_directories(path);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }

  fs::path path;
};

const fs::path& scratch() {
  static const Scratch folder;
  return folder.path;
}

fs::path put(const char* name, std::string_view bytes) {
  const fs::path path = scratch() / name;
  std::ofstream(path, std::ios::binary)
      .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  return path;
}

/// What lies before the first zero byte, and what lies behind it.
std::pair<std::string_view, std::string_view> halves(std::string_view bytes) {
  const size_t zero = bytes.find('\0');
  if (zero == std::string_view::npos) return {bytes, {}};
  return {bytes.substr(0, zero), bytes.substr(zero + 1)};
}

/// Reads every value of every tensor, but not of one that strides of zero make larger than its
/// file.
void read_all(const TensorFile& file, size_t size) {
  for (const TensorInfo& info : file.tensors()) {
    if (info.nbytes() <= size) (void)file.tensor(info.name).clone();
  }
}

void safetensors(std::string_view bytes) {
  const SafetensorsFile file(put("model.safetensors", bytes));
  read_all(file, bytes.size());
  for (const TensorInfo& info : file.tensors()) (void)file.bytes(info.name);
}

void pickle_file(std::string_view bytes) {
  read_all(PickleFile(put("model.pt", bytes)), bytes.size());
}

void pickle(std::string_view bytes) {
  const Pickle read("pickle", bytes);
  for (const PickleValue& value : read.values()) {
    if (value.kind != Pickle::Kind::tuple && value.kind != Pickle::Kind::list) continue;
    try {
      (void)read.integers(value);
    } catch (const Error&) {  // of other things than whole numbers
    }
  }
}

nlohmann::json parsed(std::string_view text) {
  auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded()) fail("not valid JSON");
  return json;
}

/// A config.json, as checkpoints have it and as a GGUF file's metadata become one.
void model_config(std::string_view bytes) {
  (void)describe_model(read_model_config(parsed(bytes), "config.json"));
}

/// A tokenizer.json, and after a zero byte what is to be encoded.
void tokenizer(std::string_view bytes) {
  const auto [json, text] = halves(bytes);
  put("tokenizer.json", json);
  const Tokenizer read = Tokenizer::load(scratch());
  for (const std::string_view some : {text, std::string_view("Hello, 世界!  It's 1234\n"), json}) {
    try {
      const Encoding encoded = read.encode_special(some);
      (void)read.encode_with_offsets(some);
      (void)read.decode(encoded.ids);
      (void)read.decode(encoded.ids, /*skip_special=*/true);
    } catch (const Error&) {  // not UTF-8, or a character that this tokenizer has no token for
    }
  }
}

/// A chat template, and after a zero byte the conversation: JSON as transformers takes it.
void chat(std::string_view bytes) {
  const auto [text, json] = halves(bytes);
  const ChatFormat format =
      ChatFormat::named(put("chat.jinja", text).string(), {.date = "2026-01-01"});
  (void)format.prompt({{"system", "S"}, {"user", "Q"}, {"assistant", " A\n"}, {"user", "再问"}});
  if (!json.empty()) {
    const auto messages = nlohmann::ordered_json::parse(json, nullptr, false);
    if (!messages.is_discarded()) (void)format.render(messages, true);
  }
}

/// Settings with a field of every kind that configs have.
struct Kinds {
  ChatSettings nested;
  std::vector<ChatSettings> list;
  std::vector<double> numbers;
  std::optional<int64_t> perhaps;
  int64_t whole = 1;
  bool flag = false;
  std::string choice = "a";

  template <class V>
  void visit(V& v) {
    v("nested", nested, "");
    v("list", list, "");
    v("numbers", numbers, "", Range::at_least(0));
    v("perhaps", perhaps, "");
    v("whole", whole, "", Range::at_least(1));
    v("flag", flag, "");
    v("choice", choice, "", OneOf{{"a", "b"}});
  }
};

/// A config file, and after a zero byte an override.
void yaml(std::string_view bytes) {
  const auto [text, overriding] = halves(bytes);
  std::vector<std::string> overrides;
  if (!overriding.empty()) overrides.emplace_back(overriding);
  const Config config = Config::parse(std::string(text), "config.yaml", overrides);
  (void)config.json().dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  Kinds kinds;
  read_into(config, kinds);
  (void)to_yaml(kinds);
}

template <void (*target)(std::string_view)>
void refusing(std::string_view bytes) {
  try {
    target(bytes);
  } catch (const Error&) {  // refused with a message: what is asked for
  }
}

constexpr std::array kTargets = {FuzzTarget{"safetensors", refusing<safetensors>},
                                 FuzzTarget{"pickle", refusing<pickle>},
                                 FuzzTarget{"pickle_file", refusing<pickle_file>},
                                 FuzzTarget{"model_config", refusing<model_config>},
                                 FuzzTarget{"tokenizer", refusing<tokenizer>},
                                 FuzzTarget{"chat", refusing<chat>},
                                 FuzzTarget{"yaml", refusing<yaml>}};

}  // namespace

std::span<const FuzzTarget> fuzz_targets() { return kTargets; }

}  // namespace resurface
