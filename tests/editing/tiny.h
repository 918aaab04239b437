// A tiny Llama, a byte-level tokenizer and requests for the editing tests.
#pragma once

#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/model/model.h"
#include "core/text/tokenizer.h"
#include "editing/keys_values.h"

namespace resurface::testing {

/// Matrices ten times as large as a fresh model's, so that attention and MLPs matter.
inline Model tiny_model(at::ScalarType dtype = at::kDouble, int64_t d_ff = 24, uint64_t seed = 3) {
  ModelConfig config;
  config.family = "llama";
  config.vocab_size = 300;
  config.hidden_size = 16;
  config.intermediate_size = d_ff;
  config.layers = 4;
  config.heads = 4;
  config.kv_heads = 2;
  config.head_dim = 4;
  config.context = 128;
  auto model = Model::random(config, seed, at::kCPU, dtype);
  const at::NoGradGuard no_grad;
  for (const auto& [name, tensor] : model.parameters()) {
    if (tensor.dim() == 2) tensor.mul_(10);
  }
  return model;
}

inline std::vector<int64_t> random_ids(int64_t count, uint64_t seed) {
  std::vector<int64_t> ids;
  uint64_t state = seed * 7919 + 17;
  for (int64_t i = 0; i < count; ++i) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    ids.push_back(static_cast<int64_t>((state >> 33) % 300));
  }
  return ids;
}

/// Three contexts of different lengths; the subject stands at 0, 2 and 4.
inline EditExample example(const std::string& id, uint64_t seed, int64_t target_size = 4) {
  EditExample edit;
  edit.id = id;
  for (int64_t c = 0; c < 3; ++c) {
    edit.contexts.push_back({random_ids(5 + c, seed * 10 + static_cast<uint64_t>(c)), 2 * c});
  }
  edit.target = random_ids(target_size, seed * 10 + 7);
  edit.kl = {random_ids(6, seed * 10 + 8), 3};
  return edit;
}

/// Ids of the tiny checkpoints of every family.
inline std::vector<int64_t> family_ids(int64_t count, uint64_t seed) {
  auto all = random_ids(count, seed);
  for (auto& id : all) id %= 48;
  return all;
}

/// A subject that comes first, one in the middle, one that is the whole prompt, one at the end; a
/// target of one token and of several.
inline std::vector<EditExample> family_edits() {
  std::vector<EditExample> all(2);
  all[0].id = "a";
  all[0].contexts = {{family_ids(6, 1), 2}, {family_ids(9, 2), 0}, {family_ids(4, 3), 3}};
  all[0].target = family_ids(3, 4);
  all[0].kl = {family_ids(5, 5), 2};
  all[1].id = "b";
  all[1].contexts = {{{7}, 0}};
  all[1].target = {11};
  all[1].kl = {{7, 8, 9}, 0};
  return all;
}

/// A folder that goes when the test ends.
struct ScratchFolder {
  std::filesystem::path path;
  ScratchFolder() {
    std::string name =
        (std::filesystem::temp_directory_path() / "resurface-editing-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp failed");
    path = name;
  }
  ~ScratchFolder() { std::filesystem::remove_all(path); }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
};

inline std::string utf8(int code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xC0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3F))};
}

/// GPT-2's byte alphabet, and merges of "T" "o" "k" "y" into one token.
inline Tokenizer byte_tokenizer(const std::filesystem::path& folder) {
  nlohmann::json vocab;
  int other = 256;
  for (int byte = 0; byte < 256; ++byte) {
    const bool printable =
        (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
    vocab[utf8(printable ? byte : other++)] = byte;
  }
  vocab["To"] = 256;
  vocab["ky"] = 257;
  vocab["Toky"] = 258;
  const nlohmann::json level = {{"type", "ByteLevel"},
                                {"add_prefix_space", false},
                                {"trim_offsets", true},
                                {"use_regex", true}};
  const nlohmann::json tokenizer = {{"version", "1.0"},
                                    {"truncation", nullptr},
                                    {"padding", nullptr},
                                    {"added_tokens", nlohmann::json::array()},
                                    {"normalizer", nullptr},
                                    {"pre_tokenizer", level},
                                    {"post_processor", nullptr},
                                    {"decoder", level},
                                    {"model",
                                     {{"type", "BPE"},
                                      {"dropout", nullptr},
                                      {"unk_token", nullptr},
                                      {"continuing_subword_prefix", nullptr},
                                      {"end_of_word_suffix", nullptr},
                                      {"fuse_unk", false},
                                      {"byte_fallback", false},
                                      {"vocab", vocab},
                                      {"merges", {"T o", "k y", "To ky"}}}}};
  std::ofstream(folder / "tokenizer.json") << tokenizer.dump();
  std::ofstream(folder / "tokenizer_config.json") << "{}";
  return Tokenizer::load(folder);
}

inline double largest_difference(const at::Tensor& a, const at::Tensor& b) {
  return (a.to(at::kDouble) - b.to(at::kDouble)).abs().max().item<double>();
}

}  // namespace resurface::testing
