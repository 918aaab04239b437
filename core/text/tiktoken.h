// tiktoken's vocabulary files: one token a line, base64, with its rank.
#pragma once

#include <filesystem>

#include "core/text/pipeline.h"

namespace resurface {

/// tiktoken.model with the pattern and special tokens of Kimi-K2's tokenization_kimi.py;
/// qwen.tiktoken with those of Qwen's tokenization_qwen.py. `config` is tokenizer_config.json (or
/// null), whose added_tokens_decoder names Kimi's special tokens. Throws Error naming file and
/// line.
Pipeline read_tiktoken(const std::filesystem::path& file, const JsonNode& config);

}  // namespace resurface
