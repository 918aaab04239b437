// resurface tokenize: JSON strings to lists of token ids and back, a line each.
#include "cli/command.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/interrupt.h"
#include "core/text/tokenizer.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path model, input;
  bool decode = false, skip_special = false, special = false, offsets = false;
};

void tokenize(const Options& options, const Globals& globals) {
  Tokenizer tokenizer = Tokenizer::load(text_folder(options.model));
  Output output(globals.out);
  for_each_json_line(options.input, [&](const nlohmann::ordered_json& value, int64_t) {
    check_interrupted();
    if (options.decode) {
      auto ids = ids_of(value, "--decode", tokenizer.vocab_size());
      output.line(tokenizer.decode(ids, options.skip_special));
    } else {
      if (!value.is_string()) fail("expected a JSON string, got {}", value.dump());
      const auto text = value.get<std::string>();
      if (!options.offsets && !options.special) {
        output.line(tokenizer.encode(text));
        return;
      }
      const auto [ids, offsets] =
          options.special ? tokenizer.encode_special(text) : tokenizer.encode_with_offsets(text);
      if (options.offsets) {
        output.line(nlohmann::ordered_json{{"ids", ids}, {"offsets", offsets}});
      } else {
        output.line(ids);
      }
    }
  });
  output.finish();
}

}  // namespace

Command add_tokenize(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser =
      app.add_subcommand("tokenize", "JSON lines: strings to lists of token ids, or back");
  add_model(*parser, options->model);
  add_input(*parser, options->input, "JSON lines: strings, or lists of ids with --decode");
  parser->add_flag("--decode", options->decode, "lists of ids to strings");
  parser->add_flag("--skip-special", options->skip_special,
                   "with --decode: leave special tokens out of the text");
  parser->add_flag("--special", options->special,
                   "add the special tokens that the tokenizer puts around a text");
  parser->add_flag("--offsets", options->offsets,
                   "{\"ids\", \"offsets\"}: of each token, the bytes of the text it came from");
  parser->footer(
      "Special tokens written in a text are recognised.\n"
      "  echo '\"Hello\"' | resurface tokenize --model models/smollm2-135m");
  return {parser, [options](const Globals& globals) { tokenize(*options, globals); }};
}

}  // namespace resurface
