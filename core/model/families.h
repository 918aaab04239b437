// The checkpoint families: which config.json each reads and where its tensors lie. A family is one
// file in families/ and one line in the table of families.cpp; docs/adding-a-family.md shows how.
#pragma once

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/model/place.h"
#include "core/run/error.h"

namespace resurface {

/// config.json with errors that name file and key.
struct ConfigReader {
  const nlohmann::json& json;
  std::string where;  ///< the file

  bool has(const std::string& key) const { return json.contains(key) && !json[key].is_null(); }

  template <class T>
  T get(const std::string& key) const {
    if (!has(key)) fail("{}: '{}' is missing", where, key);
    const nlohmann::json& value = json[key];
    // What becomes of a real number that no integer can hold is undefined.
    const bool whole = !std::is_same_v<T, int64_t> || value.is_number_integer() ||
                       (value.is_number_float() && value == std::floor(value.get<double>()) &&
                        std::abs(value.get<double>()) < 9e15);
    try {
      if (whole) return value.get<T>();
    } catch (const nlohmann::json::exception&) {
    }
    fail("{}: '{}' has the wrong type: {}", where, key, value.dump());
  }
  template <class T>
  T get(const std::string& key, T otherwise) const {
    return has(key) ? get<T>(key) : otherwise;
  }
  int64_t positive(const std::string& key) const { return between(key, int64_t{1} << 24); }
  int64_t positive(const std::string& key, int64_t otherwise) const {
    return has(key) ? positive(key) : otherwise;
  }
  /// How many of something that is made one by one: layers, experts.
  int64_t count(const std::string& key) const { return between(key, 4096); }
  int64_t count(const std::string& key, int64_t otherwise) const {
    return has(key) ? count(key) : otherwise;
  }
  /// Refuses the checkpoint unless `key` is absent or has the one value that is implemented.
  template <class T>
  void only(const std::string& key, T value) const {
    if (get<T>(key, value) != value) {
      fail("{}: '{}' is {}, and only {} is implemented for this family", where, key,
           json[key].dump(), nlohmann::json(value).dump());
    }
  }
  ConfigReader at(const std::string& key) const {
    if (!json[key].is_object()) fail("{}: '{}' must be an object", where, key);
    return {json[key], where + ": " + key};
  }

 private:
  /// A number above 0. A lying file is refused before it asks for gigabytes.
  int64_t between(const std::string& key, int64_t most) const {
    const auto value = get<int64_t>(key);
    if (value <= 0 || value > most) {
      fail("{}: '{}' is {}, expected a positive number of at most {}", where, key, value, most);
    }
    return value;
  }
};

/// What most families' config.json says in the same words as Llama's: sizes, norm_eps, theta and
/// scaling of the rotary embedding, tied head, activation.
ModelConfig read_common(const ConfigReader& config);
/// rope_theta and rope_scaling (or transformers 5's rope_parameters). `context`:
/// max_position_embeddings.
Rope read_rope(const ConfigReader& config, int64_t context);
/// `hidden_act` as transformers names it, to ModelConfig::activation.
std::string read_activation(const ConfigReader& config, const std::string& key,
                            const std::string& otherwise);
/// Windows of `layers` layers from `layer_types`, where the file has it; else of the layers for
/// which `slides` says so. Empty when none has one.
std::vector<int64_t> read_windows(const ConfigReader& config, int64_t layers, int64_t window,
                                  const std::function<bool(int64_t layer)>& slides);
/// What Gemma 2 and 3 have in common.
ModelConfig read_gemma(const ConfigReader& config);
/// Qwen2 and 3: `sliding_window` of the layers from `max_window_layers` on, where it is used.
void read_qwen_windows(const ConfigReader& config, ModelConfig& model);
/// What DeepSeek-V2 and V3 have in common; the router's ways are left to them.
ModelConfig read_deepseek(const ConfigReader& config);
/// Refuses heads that do not fit together, naming the file.
void check_heads(const ModelConfig& config, const std::string& where);

struct Family {
  const char* name;
  std::vector<std::string> architectures;  ///< in config.json
  ModelConfig (*read)(const ConfigReader& config);
  /// Of a parameter in the decoder's name; none: as it is called here.
  Place (*place)(const ModelConfig& config, const std::string& parameter) = nullptr;
  /// Tensors that a checkpoint may hold and the decoder does not use.
  bool (*ignored)(const ModelConfig& config, const std::string& tensor) = nullptr;
};

const std::vector<Family>& families();
const Family& family_of(const ModelConfig& config);

/// The block that a parameter or tensor called model.layers.N... belongs to; -1: none.
int64_t layer_of(const std::string& name);
/// Family::ignored of layers that predict further tokens.
bool beyond_last_layer(const ModelConfig& config, const std::string& tensor);

/// Family::ignored of the causal masks that older GPT-2 and GPT-J files carry.
bool causal_mask(const ModelConfig& config, const std::string& tensor);

/// Of a query, key or value projection: puts `place` into the tensor `fused`, which holds the three
/// one after another, `rows` of each, in each of `groups`. Leaves any other parameter's alone.
void part_of_fused(Place& place, std::string_view fused, int64_t groups, int64_t rows);

/// `name` with each `first` in it replaced by its `second`, one after another.
std::string renamed(std::string name,
                    std::span<const std::pair<const char*, const char*>> replacements);

}  // namespace resurface
