#include "core/text/sentence_piece.h"

#include <sentencepiece_processor.h>

#include <set>

#include "core/run/files.h"
#include "core/text/chat_files.h"

namespace resurface {
namespace {

using Processor = sentencepiece::SentencePieceProcessor;

class SentencePiece : public TokenModel {
 public:
  explicit SentencePiece(std::shared_ptr<const Processor> processor)
      : processor_(std::move(processor)) {
    std::vector<std::string> tokens;
    for (int id = 0; id < processor_->GetPieceSize(); ++id) {
      tokens.push_back(processor_->IdToPiece(id));
    }
    vocabulary_ = Vocabulary(std::move(tokens));
  }

  void encode(std::string_view word, Scratch& scratch) const override {
    sentencepiece::ImmutableSentencePieceText text;
    const auto status = processor_->Encode(word, text.mutable_proto());
    if (!status.ok()) fail("SentencePiece: {}", status.ToString());
    scratch.pieces.clear();
    for (const auto& piece : text.pieces()) {
      scratch.pieces.push_back({piece.id(), piece.begin(), piece.end()});
    }
    // Of the bytes of a character, only the last one is given its place.
    for (size_t i = scratch.pieces.size(); i-- > 1;) {
      auto& byte = scratch.pieces[i - 1];
      const auto& next = scratch.pieces[i];
      const bool bytes = processor_->IsByte(static_cast<int>(byte.id)) &&
                         processor_->IsByte(static_cast<int>(next.id));
      if (bytes && byte.begin == byte.end) byte = {byte.id, next.begin, next.end};
    }
  }
  const Vocabulary& vocabulary() const override { return vocabulary_; }

 private:
  std::shared_ptr<const Processor> processor_;
  Vocabulary vocabulary_;
};

std::shared_ptr<const Processor> load(const std::filesystem::path& file) {
  auto processor = std::make_shared<Processor>();
  const auto status = processor->LoadFromSerializedProto(read_text(file));
  if (!status.ok()) {
    fail("{}: not a SentencePiece model ({}); a tiktoken file is to be named tiktoken.model",
         file.string(), status.ToString());
  }
  return processor;
}

/// Text between added tokens is SentencePiece's; they stand for themselves.
Decoder decoder_of(std::shared_ptr<const Processor> processor, std::set<std::string> added) {
  return [processor = std::move(processor),
          added = std::move(added)](std::vector<std::string>& tokens) {
    std::string text;
    std::vector<std::string> run;
    const auto flush = [&] {
      std::string part;
      const auto status = processor->Decode(run, &part);
      if (!status.ok()) fail("SentencePiece: {}", status.ToString());
      text += part;
      run.clear();
    };
    for (auto& token : tokens) {
      if (!added.contains(token)) {
        run.push_back(std::move(token));
        continue;
      }
      flush();
      text += token;
    }
    flush();
    tokens = {std::move(text)};
  };
}

/// added_tokens.json, {"TOKEN": ID}, of folders older than added_tokens_decoder. Those with a name
/// (bos_token, ...) are special, as in transformers.
std::vector<AddedToken> read_added_tokens_json(const std::filesystem::path& file) {
  std::vector<AddedToken> tokens;
  if (!std::filesystem::exists(file)) return tokens;
  const auto json = read_json(file);
  std::set<std::string> named;
  for (const auto& value : read_chat_files(file.parent_path()).tokens) {
    if (value.is_string()) named.insert(value.get<std::string>());
    if (value.is_array()) named.insert(value.begin(), value.end());
  }
  const JsonNode root{json, file.string(), ""};
  for (const auto& [content, id] : root.object().items()) {
    const bool special = named.contains(content);
    const nlohmann::json entry{{"content", content}, {"id", id}, {"special", special}};
    tokens.push_back(read_added_token({entry, root.file, "['" + content + "']"}));
  }
  return tokens;
}

}  // namespace

std::vector<AddedToken> read_added_tokens_decoder(const JsonNode& config) {
  std::vector<AddedToken> tokens;
  if (!config.has("added_tokens_decoder")) return tokens;
  const auto list = config.at("added_tokens_decoder");
  for (const auto& [key, value] : list.object().items()) {
    auto entry = value;
    if (!entry.is_object()) list.at(key).wrong("an object");
    const auto parsed = nlohmann::json::parse(key, nullptr, false);
    entry["id"] = parsed.is_discarded() ? nlohmann::json(key) : parsed;
    tokens.push_back(read_added_token({entry, list.file, list.path + "['" + key + "']"}));
  }
  return tokens;
}

Pipeline read_sentence_piece(const std::filesystem::path& file, const JsonNode& config) {
  const auto processor = load(file);
  Pipeline pipeline;
  pipeline.model = std::make_unique<const SentencePiece>(processor);
  const auto older = file.parent_path() / "added_tokens.json";
  const bool decoder = config.has("added_tokens_decoder");
  pipeline.added = decoder ? read_added_tokens_decoder(config) : read_added_tokens_json(older);
  std::set<std::string> added;
  for (const auto& token : pipeline.added) {
    const auto where = decoder ? config.file : older.string();
    const auto limit = static_cast<size_t>(processor->GetPieceSize()) + pipeline.added.size();
    if (!added.insert(token.content).second) {
      fail("{}: expected each added token once, got '{}' again", where, token.content);
    }
    if (token.id >= limit) {
      fail("{}: token '{}' has id {}; with {} pieces in {} it must be below {}", where,
           token.content, token.id, processor->GetPieceSize(), file.filename().string(), limit);
    }
  }
  for (int id = 0; id < processor->GetPieceSize(); ++id) {
    const auto& piece = processor->IdToPiece(id);
    const bool special = processor->IsControl(id) || processor->IsUnknown(id);
    if (!special || piece.empty() || !added.insert(piece).second) continue;
    AddedToken token;
    token.content = piece;
    token.id = static_cast<uint32_t>(id);
    token.special = true;
    token.normalized = false;
    pipeline.added.push_back(token);
  }
  pipeline.decoder = decoder_of(processor, std::move(added));
  std::vector<uint32_t> before, after;
  const auto add = [](int id, std::vector<uint32_t>& ids) {
    if (id >= 0) ids.push_back(static_cast<uint32_t>(id));
  };
  if (config.flag("add_bos_token", true)) add(processor->bos_id(), before);
  if (config.flag("add_eos_token", false)) add(processor->eos_id(), after);
  pipeline.post_processor = surround(std::move(before), std::move(after));
  return pipeline;
}

}  // namespace resurface
