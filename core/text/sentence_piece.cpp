#include "core/text/sentence_piece.h"

#include <sentencepiece_processor.h>

#include <fstream>
#include <set>

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
  std::ifstream stream(file, std::ios::binary);
  const std::string bytes{std::istreambuf_iterator<char>(stream), {}};
  if (!stream) fail("{}: cannot be read", file.string());
  auto processor = std::make_shared<Processor>();
  const auto status = processor->LoadFromSerializedProto(bytes);
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
    tokens.assign(1, std::move(text));
  };
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
  pipeline.added = read_added_tokens_decoder(config);
  std::set<std::string> added;
  for (const auto& token : pipeline.added) {
    if (!added.insert(token.content).second) config.wrong("each added token once");
    if (token.id >= static_cast<size_t>(processor->GetPieceSize()) + pipeline.added.size()) {
      config.wrong(fmt::format("an id for '{}' that follows the model's", token.content));
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
