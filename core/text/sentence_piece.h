// A bare SentencePiece model (tokenizer.model), run by libsentencepiece.
#pragma once

#include <filesystem>

#include "core/text/pipeline.h"

namespace resurface {

/// Control and unknown pieces are special tokens, found in the text; `config` is
/// tokenizer_config.json (or null), whose added_tokens_decoder adds others (without it: the
/// folder's added_tokens.json), and which says whether bos (unless it says no) and eos (if it says
/// so) go around a text. Throws Error naming the file.
Pipeline read_sentence_piece(const std::filesystem::path& file, const JsonNode& config);

/// added_tokens_decoder of tokenizer_config.json: {"ID": {content, flags}}; empty without it.
std::vector<AddedToken> read_added_tokens_decoder(const JsonNode& config);

}  // namespace resurface
