// resurface generate: continuations of prompts.
#include "cli/command.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/interrupt.h"
#include "core/run/progress.h"
#include "core/run/seeds.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path model, input;
  std::vector<std::string> prompts;
  bool chat = false;
  ChatSettings format;
  GenerateOptions generate;
  std::vector<std::string> stop;
  int64_t batch = 16;
};

struct Prompt {
  std::vector<int64_t> ids;
  nlohmann::ordered_json row;
};

/// The text up to the first of the stops.
std::string cut(const std::string& text, const std::vector<std::string>& stops) {
  size_t end = text.size();
  for (const auto& stop : stops) end = std::min(end, text.find(stop));
  return text.substr(0, end);
}

void run_generate(Options options, const Globals& globals) {
  Tokenizer tokenizer = Tokenizer::load(options.model);
  std::optional<ChatFormat> chat;
  if (options.chat || options.format != ChatSettings{}) {
    chat = ChatFormat::load(options.model, options.format);
  }
  options.generate.stop_ids = end_ids(options.model);
  if (chat) {
    int64_t id = tokenizer.token_id(chat->answer_end());
    if (id >= 0) {
      options.generate.stop_ids.push_back(id);
    } else {
      options.stop.push_back(chat->answer_end());
    }
  }
  auto encode = [&](const std::string& text) {
    auto ids = tokenizer.encode(chat ? chat->prompt({{"user", text}}) : text);
    if (ids.empty()) fail("the prompt has no tokens");
    return ids;
  };

  std::vector<Prompt> prompts;
  for (const auto& text : options.prompts) prompts.push_back({encode(text), {}});
  bool from_file = options.prompts.empty();
  if (from_file) {
    for_each_json_line(options.input, [&](const nlohmann::ordered_json& row, int64_t) {
      if (!row.is_object()) fail("expected a JSON object, got {}", row.dump());
      prompts.push_back({encode(text_of(row, "prompt")), row});
    });
  }
  Model model = globals.load_model(options.model);
  for (size_t i = 0; i < prompts.size(); ++i) {
    auto size = static_cast<int64_t>(prompts[i].ids.size());
    if (size >= model.config().context) {
      fail("prompt {} has {} tokens, which leaves no room in a context of {}", i + 1, size,
           model.config().context);
    }
  }

  Output output(globals.out);
  Progress progress("generate", static_cast<int64_t>(prompts.size()), "prompts");
  auto batch = static_cast<size_t>(options.batch);
  for (size_t begin = 0; begin < prompts.size(); begin += batch) {
    check_interrupted();
    size_t count = std::min(batch, prompts.size() - begin);
    std::vector<std::vector<int64_t>> ids;
    for (size_t i = begin; i < begin + count; ++i) ids.push_back(prompts[i].ids);
    options.generate.seed =
        derive_seed(static_cast<uint64_t>(globals.seed), fmt::format("generate/{}", begin));
    auto answers = generate(model, ids, options.generate);
    for (size_t i = 0; i < count; ++i) {
      std::string text = cut(tokenizer.decode(answers[i], /*skip_special=*/true), options.stop);
      if (from_file) {
        auto& row = prompts[begin + i].row;
        row["text"] = text;
        row["ids"] = answers[i];
        output.line(row);
      } else {
        output.text(text + "\n");
      }
    }
    progress.add(static_cast<int64_t>(count));
  }
  output.finish();
}

}  // namespace

Command add_generate(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand("generate", "continue prompts");
  add_model(*parser, options->model);
  auto* prompt = parser->add_option("-p,--prompt", options->prompts, "a prompt; may be repeated")
                     ->expected(1)
                     ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_input(*parser, options->input, "JSON lines {\"prompt\"}")->excludes(prompt);
  parser->add_flag("--chat", options->chat,
                   "put prompts into the checkpoint's chat format, as the user's turn; the options "
                   "that choose a format do so, too");
  add_chat(*parser, options->format);
  GenerateOptions& generate = options->generate;
  parser->add_option("--max-tokens", generate.max_tokens, "longest continuation")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  parser->add_option("--temperature", generate.temperature, "0: always the likeliest token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  parser->add_option("--top-k", generate.top_k, "draw from the k likeliest tokens; 0: off")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  parser
      ->add_option("--top-p", generate.top_p,
                   "draw from the likeliest tokens of this total; 1: off")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  parser->add_option("--stop", options->stop, "end before this text; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  parser->add_option("--batch", options->batch, "prompts continued together")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  parser->footer(
      "With --prompt the text is printed, with --input each line comes back with \"text\" and\n"
      "\"ids\" (before --stop cuts the text). The checkpoint's end tokens always end.");
  return {parser, [options](const Globals& globals) { run_generate(*options, globals); }};
}

}  // namespace resurface
