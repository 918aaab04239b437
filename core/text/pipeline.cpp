#include "core/text/pipeline.h"

namespace resurface {
namespace {

/// The ids that `tokenizers` gives to added tokens: the vocabulary's, or the next free one.
std::vector<AddedToken> read_added_tokens(const JsonNode& root, const Vocabulary& vocabulary) {
  std::vector<AddedToken> tokens;
  if (!root.has("added_tokens")) return tokens;
  const auto list = root.at("added_tokens");
  auto next = static_cast<uint32_t>(vocabulary.count());
  std::unordered_map<std::string, size_t> seen;
  for (size_t i = 0; i < list.array().size(); ++i) {
    const auto entry = list.at(i);
    auto token = read_added_token(entry);
    if (!seen.emplace(token.content, i).second) {
      fail("{}: token '{}' is listed twice", entry.where(), token.content);
    }
    const auto known = vocabulary.find(token.content);
    const auto id = known < 0 ? next++ : static_cast<uint32_t>(known);
    if (id != token.id) {
      fail("{}: token '{}' has id {}, but its id must be {} ({})", entry.where(), token.content,
           token.id, id,
           known < 0 ? "added tokens follow the vocabulary without gaps" : "as in the vocabulary");
    }
    tokens.push_back(std::move(token));
  }
  return tokens;
}

}  // namespace

Pipeline read_tokenizer_json(const JsonNode& root) {
  static const nlohmann::json null;
  const auto part = [&](const std::string& key) {
    return root.has(key) ? root.at(key) : JsonNode{null, root.file, key};
  };
  Pipeline pipeline;
  pipeline.normalizers = read_normalizers(part("normalizer"));
  auto pre_tokenizers = read_pre_tokenizers(part("pre_tokenizer"), reads_bytes(root.at("model")));
  pipeline.pre_tokenizers = std::move(pre_tokenizers.steps);
  pipeline.model = read_model(root.at("model"), pre_tokenizers.bytes);
  pipeline.added = read_added_tokens(root, pipeline.model->vocabulary());
  pipeline.decoder = read_decoder(part("decoder"));
  pipeline.post_processor = read_post_processor(part("post_processor"));
  return pipeline;
}

}  // namespace resurface
