// resurface convert: a checkpoint in another dtype, cut into shards, out of another container, from
// and to GGUF.
#include <algorithm>
#include <charconv>

#include "cli/command.h"
#include "core/checkpoint/convert.h"
#include "core/run/error.h"
#include "core/run/nearest.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path source, target, base;
  std::string shard_size;
};

std::optional<at::ScalarType> stored_dtype(const std::string& text) {
  const std::map<std::string, std::optional<at::ScalarType>> known = {
      {"auto", std::nullopt}, {"fp32", at::kFloat}, {"bf16", at::kBFloat16}, {"fp16", at::kHalf}};
  auto found = known.find(text);
  if (found != known.end()) return found->second;
  throw ConfigError(fmt::format(
      "unknown dtype '{}'; valid: auto (as it is), fp32, bf16, fp16, q8_0 (GGUF)", text));
}

/// "2GB", "500 MB", "100000": bytes, in powers of ten.
uint64_t bytes_of(const std::string& text) {
  if (text.empty()) return 0;
  double number = -1;
  const auto* end = std::from_chars(text.data(), text.data() + text.size(), number).ptr;
  std::string unit(std::find_if(end, text.data() + text.size(), [](char c) { return c != ' '; }),
                   text.data() + text.size());
  const std::map<std::string, double> units = {
      {"", 1}, {"B", 1}, {"KB", 1e3}, {"MB", 1e6}, {"GB", 1e9}};
  if (!(number > 0) || !(number < 1e15) || !units.contains(unit)) {
    throw ConfigError(
        fmt::format("--shard-size: expected a size like 2GB or 500MB, got '{}'", text));
  }
  return static_cast<uint64_t>(number * units.at(unit));
}

}  // namespace

Command add_convert(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand(
      "convert", "a checkpoint in another dtype (--dtype) or shards; .bin, .pt, adapters, GGUF");
  parser
      ->add_option("src", options->source,
                   "HF folder, file of weights beside its config.json, PEFT adapter, or GGUF file")
      ->required()
      ->check(CLI::ExistingPath);
  parser->add_option("dst", options->target, "HF folder to write, or a file that ends in .gguf")
      ->required();
  parser->add_option("--shard-size", options->shard_size,
                     "largest shard, as in 2GB; one file without");
  parser->add_option("--base", options->base, "base of a PEFT adapter, where its config names none")
      ->check(CLI::ExistingPath);
  parser->footer(
      "--dtype fp32, bf16 or fp16 is the stored dtype, for .gguf also q8_0; auto keeps it (GGUF: "
      "fp32). docs/checkpoints.md says what is read and written.");
  return {parser, [options](const Globals& globals) {
            const bool q8_0 = globals.dtype == "q8_0";
            convert_checkpoint(options->source, options->target,
                               {.dtype = q8_0 ? std::nullopt : stored_dtype(globals.dtype),
                                .shard_size = bytes_of(options->shard_size),
                                .base = options->base,
                                .q8_0 = q8_0});
            fmt::print(stderr, "wrote {}\n", options->target.string());
          }};
}

}  // namespace resurface
