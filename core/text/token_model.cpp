#include "core/text/token_model.h"

#include "core/text/bpe.h"

namespace resurface {
namespace {

/// Files of old have no type: its keys tell, in the order in which `tokenizers` tries.
std::string type_of(const JsonNode& node) {
  if (node.has("type")) return node.at("type").string();
  if (node.has("merges")) return "BPE";
  if (node.has("continuing_subword_prefix")) return "WordPiece";
  return node.has("unk_token") ? "WordLevel" : "Unigram";
}

}  // namespace

bool reads_bytes(const JsonNode& node) {
  const auto empty = [&](const std::string& key) {
    return !node.has(key) || node.at(key).string().empty();
  };
  return type_of(node) == "BPE" && !node.flag("byte_fallback", false) &&
         empty("continuing_subword_prefix") && empty("end_of_word_suffix");
}

std::unique_ptr<const TokenModel> read_model(const JsonNode& node, bool bytes) {
  const auto type = type_of(node);
  if (type == "BPE") return std::make_unique<const Bpe>(node, bytes);
  if (type == "Unigram") return read_unigram(node);
  if (type == "WordPiece") return read_word_piece(node);
  if (type == "WordLevel") return read_word_level(node);
  node.unsupported(fmt::format("model '{}'", type));
}

}  // namespace resurface
