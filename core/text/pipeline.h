// The parts of a tokenizer, whichever file describes it.
#pragma once

#include <filesystem>
#include <memory>
#include <vector>

#include "core/text/added_tokens.h"
#include "core/text/decoder.h"
#include "core/text/post_processor.h"
#include "core/text/rewrite.h"
#include "core/text/token_model.h"

namespace resurface {

struct Pipeline {
  std::vector<Normalizer> normalizers;
  std::vector<PreTokenizer> pre_tokenizers;
  std::unique_ptr<const TokenModel> model;
  std::vector<AddedToken> added;  ///< each content once, with the id that it has
  Decoder decoder;
  PostProcessor post_processor;
};

/// tokenizer.json; `root` is the whole file. Throws Error naming file, key and component.
Pipeline read_tokenizer_json(const JsonNode& root);

}  // namespace resurface
