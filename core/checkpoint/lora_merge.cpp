// peft 0.17: tuners/lora/layer.py (Linear.get_delta_weight, Embedding.get_delta_weight, merge),
// tuners/lora/dora.py, utils/save_and_load.py (the names of what is saved), utils/other.py
// (get_pattern_key).
#include "core/checkpoint/lora_merge.h"

#include <cmath>

#include "core/checkpoint/folder.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/nearest.h"
#include "core/text/regex.h"

namespace resurface {
namespace {

namespace fs = std::filesystem;
using json = nlohmann::ordered_json;  // of two patterns that match, the first counts

constexpr std::string_view kPrefix = "base_model.model.", kLeaf = ".weight";
constexpr std::array<std::string_view, 2> kHeads = {"lm_head.weight", "embed_out.weight"};
constexpr std::array<std::string_view, 3> kEmbeddings = {"embed_tokens.weight", "wte.weight",
                                                         "embed_in.weight"};

bool ends_with_any(std::string_view name, std::span<const std::string_view> endings) {
  return std::ranges::any_of(endings, [&](std::string_view e) {
    return name == e || (name.ends_with(e) && name[name.size() - e.size() - 1] == '.');
  });
}

bool is_set(const json& value) {
  return !value.is_null() && value != false && value != json::object() && value != json::array();
}

void check_config(const std::string& where, const json& config) {
  const json type = config.value("peft_type", json());
  if (type != "LORA") {
    fail(
        "{}: an adapter of peft_type {}; only LORA (with rsLoRA and DoRA) is merged. Merge it "
        "with peft: model.merge_and_unload().save_pretrained(FOLDER)",
        where, type.dump());
  }
  for (const char* key : {"lora_bias", "use_qalora", "alora_invocation_tokens", "target_parameters",
                          "trainable_token_indices", "layer_replication", "megatron_config"}) {
    if (const json value = config.value(key, json()); is_set(value)) {
      fail(
          "{}: {} = {} is not implemented. Merge it with peft: "
          "model.merge_and_unload().save_pretrained(FOLDER)",
          where, key, value.dump());
    }
  }
  // These start from another base than the one that is named: it lost what A and B began with.
  const json init = config.value("init_lora_weights", json(true));
  if (init.is_string()) {
    const auto name = init.get<std::string>();
    if (name.starts_with("pissa") || name == "olora" || name == "corda" || name == "loftq") {
      fail(
          "{}: init_lora_weights = {} changes the base too; save the adapter with "
          "path_initial_model_for_weight_conversion, or merge it with peft",
          where, init.dump());
    }
  }
}

/// The pattern's value for a module, as peft's get_pattern_key finds it: the first key that is, as
/// a regex, the module's name or its end behind a dot.
double pattern_value(const json& config, const std::string& pattern, const std::string& module,
                     double otherwise, const std::string& where) {
  const json map = config.value(pattern, json());
  if (!is_set(map)) return otherwise;
  if (!map.is_object()) fail("{}: {}: expected an object, got {}", where, pattern, map.dump());
  for (const auto& [key, value] : map.items()) {
    const bool plain = key.find_first_of("\\^$*+?()[]{}|") == std::string::npos;
    const bool here = plain ? ends_with_any(module, std::array{std::string_view(key)})
                            : !Regex("^(?:.*\\.)?(?:" + key + ")$", where + ": " + pattern)
                                   .find_all(module)
                                   .empty();
    if (!here) continue;
    if (!value.is_number() || value <= 0) {
      fail("{}: {}: '{}': expected a number above 0, got {}", where, pattern, key, value.dump());
    }
    return value.get<double>();
  }
  return otherwise;
}

double positive(const json& config, const std::string& key, const std::string& where) {
  const json value = config.value(key, json());
  if (!value.is_number() || value <= 0) {
    fail("{}: {}: expected a number above 0, got {}", where, key, value.dump());
  }
  return value.get<double>();
}

/// `text` without every `part`.
std::string without(std::string text, std::string_view part, std::string_view by) {
  for (size_t at; (at = text.find(part)) != std::string::npos;) text.replace(at, part.size(), by);
  return text;
}

}  // namespace

TensorFile open_adapter_weights(const fs::path& folder) {
  for (const char* name : {"adapter_model.safetensors", "adapter_model.bin"}) {
    if (fs::exists(folder / name)) return TensorFile::open(folder / name);
  }
  fail(
      "{}: neither adapter_model.safetensors nor adapter_model.bin is there; is this a whole PEFT "
      "adapter?",
      folder.string());
}

/// The name that the base has for a tensor of the adapter, or a head's that is to be added.
std::string LoraMerge::find(const std::string& module, const std::string& leaf) {
  std::string name = module + leaf;
  if (base_.contains(name)) return name;
  std::string shorter = name.substr(std::min(name.find('.') + 1, name.size()));
  if (base_.contains(shorter)) return shorter;
  if (ends_with_any(name, kHeads)) {
    for (const auto& [tied, info] : base_) {
      if (!ends_with_any(tied, kEmbeddings)) continue;
      added_.push_back({.name = name, .dtype = info.dtype, .shape = info.shape});
      base_.emplace(name, added_.back());
      changes_[name].origin = tied;
      return name;
    }
  }
  std::vector<std::string> names;
  for (const auto& [known, info] : base_) names.push_back(known);
  fail(
      "{}: the adapter changes '{}', which the base does not have{}; is this the base that it was "
      "trained on?",
      folder_.string(), name, did_you_mean(name, names));
}

LoraMerge::LoraMerge(const fs::path& folder, const std::vector<TensorInfo>& base)
    : folder_(folder) {
  const std::string where = (folder / kAdapterConfig).string();
  read_json_object(folder / kAdapterConfig);  // throws unless it is one
  const json config = json::parse(read_text(folder / kAdapterConfig));
  check_config(where, config);
  const double rank = positive(config, "r", where), alpha = positive(config, "lora_alpha", where);
  const bool rslora = config.value("use_rslora", json()) == true,
             dora = config.value("use_dora", json()) == true,
             fan_in_fan_out = config.value("fan_in_fan_out", json()) == true;
  for (const TensorInfo& t : base) base_.emplace(t.name, t);

  struct Suffix {
    std::string_view text;
    at::Tensor Change::*part;
    bool embedding;
  };
  const std::array suffixes = {Suffix{".lora_A.weight", &Change::a, false},
                               Suffix{".lora_B.weight", &Change::b, false},
                               Suffix{".lora_embedding_A", &Change::a, true},
                               Suffix{".lora_embedding_B", &Change::b, true},
                               Suffix{".lora_magnitude_vector", &Change::magnitude, false},
                               Suffix{".lora_magnitude_vector.weight", &Change::magnitude, false}};
  const TensorFile file = open_adapter_weights(folder);
  std::map<std::string, std::string> modules;  // of the low-rank changes, by tensor
  for (const TensorInfo& t : file.tensors()) {
    if (!t.name.starts_with(kPrefix)) {
      fail("{}: tensor '{}': expected a name that begins with {}", file.path().string(), t.name,
           kPrefix);
    }
    const std::string name = t.name.substr(kPrefix.size());
    const auto suffix =
        std::ranges::find_if(suffixes, [&](const Suffix& s) { return name.ends_with(s.text); });
    at::Tensor Change::*part = &Change::whole;
    std::string target;
    if (suffix != suffixes.end()) {
      const std::string module = name.substr(0, name.size() - suffix->text.size());
      target = find(module, std::string(kLeaf));
      modules[target] = module;
      part = suffix->part;
      changes_[target].transposed |= suffix->embedding;
    } else if (name.find(".lora_") != std::string::npos) {
      fail("{}: tensor '{}' is not implemented", file.path().string(), t.name);
    } else {
      target = find(without(without(name, ".base_layer.", "."), ".modules_to_save.", "."), "");
    }
    at::Tensor& slot = changes_[target].*part;
    if (slot.defined()) fail("{}: '{}' is there twice", file.path().string(), target);
    slot = file.tensor(t.name);
    if (!slot.is_floating_point()) {
      fail("{}: tensor '{}' is {}", file.path().string(), t.name, c10::toString(t.dtype));
    }
  }
  if (changes_.empty()) fail("{}: changes nothing", file.path().string());

  for (auto& [name, change] : changes_) {
    if (change.origin.empty() && !change.whole.defined()) change.origin = name;
    check(name, change, base_.at(name));
    if (!change.a.defined()) continue;
    const std::string& module = modules.at(name);
    const double r = pattern_value(config, "rank_pattern", module, rank, where);
    if (static_cast<double>(change.a.size(0)) != r) {
      fail("{}: '{}': lora_A has rank {}, {} makes it {}", folder.string(), name, change.a.size(0),
           kAdapterConfig, r);
    }
    change.scale =
        pattern_value(config, "alpha_pattern", module, alpha, where) / (rslora ? std::sqrt(r) : r);
    if (change.magnitude.defined() != dora) {
      fail("{}: '{}' {} lora_magnitude_vector, use_dora is {}", folder.string(), name,
           dora ? "lacks its" : "has a", dora);
    }
    // By the shape where it tells (a square matrix does not).
    const at::IntArrayRef w =
        change.whole.defined() ? change.whole.sizes() : at::IntArrayRef(base_.at(name).shape);
    const std::vector<int64_t> plain = {change.b.size(0), change.a.size(1)},
                               turned = {plain[1], plain[0]};
    change.transposed |= w == turned && (fan_in_fan_out || w != plain);
    if (w != (change.transposed ? turned : plain)) {
      fail("{}: '{}': B A is [{}], the base's tensor [{}]", folder.string(), name,
           fmt::join(plain, ", "), fmt::join(w, ", "));
    }
    if (dora && change.magnitude.sizes() != at::IntArrayRef{plain[0]}) {
      fail("{}: '{}': expected lora_magnitude_vector [{}], got {}", folder.string(), name, plain[0],
           c10::str(change.magnitude.sizes()));
    }
  }
}

void LoraMerge::check(const std::string& name, const Change& change, const TensorInfo& base) const {
  if (change.a.defined() != change.b.defined() ||
      (change.magnitude.defined() && !change.a.defined())) {
    fail("{}: '{}' has only some of lora_A, lora_B and magnitudes", folder_.string(), name);
  }
  if (change.a.defined() &&
      (change.a.dim() != 2 || change.b.dim() != 2 || change.a.size(0) != change.b.size(1))) {
    fail("{}: '{}': expected lora_A [r, in] and lora_B [out, r], got {} and {}", folder_.string(),
         name, c10::str(change.a.sizes()), c10::str(change.b.sizes()));
  }
  if (!change.whole.defined()) return;
  const at::IntArrayRef was(base.shape), is = change.whole.sizes();
  const bool resizable = ends_with_any(name, kEmbeddings) || ends_with_any(name, kHeads);
  if (is != was && !(resizable && is.size() == 2 && was.size() == 2 && is[1] == was[1])) {
    fail("{}: '{}': expected shape [{}], got [{}]", folder_.string(), name, fmt::join(was, ", "),
         fmt::join(is, ", "));
  }
}

at::Tensor LoraMerge::merge(const std::string& name, const at::Tensor& base) const {
  const Change& change = changes_.at(name);
  const at::Tensor& start = change.whole.defined() ? change.whole : base;
  const at::ScalarType dtype = base_.at(name).dtype;
  if (!change.a.defined()) return start.to(dtype);
  const at::ScalarType wide = c10::promoteTypes(at::kFloat, dtype);
  at::Tensor sum = start.to(wide);
  if (change.transposed) sum = sum.t();
  sum = sum.add(at::mm(change.b.to(wide), change.a.to(wide)), change.scale);
  if (change.magnitude.defined()) {
    const at::Tensor lengths = at::linalg_vector_norm(sum, 2, at::IntArrayRef{1});
    sum = sum * (change.magnitude.to(wide) / lengths).unsqueeze(1);
  }
  return (change.transposed ? sum.t() : sum).to(dtype).contiguous();
}

void LoraMerge::describe(TensorInfo& info) const {
  if (auto found = changes_.find(info.name);
      found != changes_.end() && found->second.whole.defined()) {
    info.shape = found->second.whole.sizes().vec();
  }
}

void LoraMerge::adapt(nlohmann::json& config) const {
  if (!added_.empty()) config["tie_word_embeddings"] = false;
  for (const auto& [name, change] : changes_) {
    if (change.whole.defined() && ends_with_any(name, kEmbeddings)) {
      config["vocab_size"] = change.whole.size(0);
    }
  }
}

}  // namespace resurface
