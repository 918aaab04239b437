// resurface generate: continuations of prompts.
#include "cli/command.h"
#include "core/model/generate.h"
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
  bool chat = false, greedy = false, logprobs = false;
  ChatSettings format;
  std::optional<int64_t> max_tokens, top_k;
  std::optional<double> repetition_penalty, temperature, top_p, min_p;
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

/// Whether one of the stops is in the last tokens of an answer: a token is a byte at least, so that
/// a stop which has just been completed lies within as many of them.
bool stopped(const Tokenizer& tokenizer, const std::vector<int64_t>& ids,
             const std::vector<std::string>& stops) {
  size_t longest = 0;
  for (const auto& stop : stops) longest = std::max(longest, stop.size());
  const auto last = static_cast<std::ptrdiff_t>(std::min(longest, ids.size()));
  const auto tail = tokenizer.decode({ids.end() - last, ids.end()}, /*skip_special=*/true);
  return cut(tail, stops).size() < tail.size();
}

/// What the checkpoint asks for, and what the command line asks for in its place.
GenerateOptions options_of(const Options& options, const std::filesystem::path& folder) {
  GenerateOptions all;
  read_generation_config(folder, all);
  const auto take = [](const auto& asked, auto& into) {
    if (asked) into = *asked;
  };
  take(options.max_tokens, all.max_tokens);
  take(options.repetition_penalty, all.repetition_penalty);
  take(options.temperature, all.temperature);
  take(options.top_k, all.top_k);
  take(options.top_p, all.top_p);
  take(options.min_p, all.min_p);
  if (options.greedy) all.temperature = 0;
  all.logprobs = options.logprobs;
  return all;
}

void run_generate(Options options, const Globals& globals) {
  const auto folder = text_folder(options.model);
  Tokenizer tokenizer = Tokenizer::load(folder);
  std::optional<ChatFormat> chat;
  if (options.chat || options.format != ChatSettings{}) {
    chat = ChatFormat::load(folder, options.format);
  }
  GenerateOptions how = options_of(options, folder);
  if (chat) {
    int64_t id = tokenizer.token_id(chat->answer_end());
    if (id >= 0) {
      how.stop_ids.push_back(id);
    } else {
      options.stop.push_back(chat->answer_end());
    }
  }
  if (!options.stop.empty()) {
    how.stops = [&](const std::vector<int64_t>& ids) {
      return stopped(tokenizer, ids, options.stop);
    };
  }
  auto encode = [&](const std::string& text) {
    // A chat format prints its own begin-of-text token.
    auto ids =
        chat ? tokenizer.encode(chat->prompt({{"user", text}})) : tokenizer.encode_prompt(text);
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
    how.seed = derive_seed(static_cast<uint64_t>(globals.seed), fmt::format("generate/{}", begin));
    auto answers = continue_prompts(model, ids, how);
    for (size_t i = 0; i < count; ++i) {
      std::string text = cut(tokenizer.decode(answers[i].ids, /*skip_special=*/true), options.stop);
      if (from_file) {
        auto& row = prompts[begin + i].row;
        row["text"] = text;
        row["ids"] = answers[i].ids;
        if (options.logprobs) row["logprobs"] = answers[i].logprob;
        row["ended"] = answers[i].stopped ? "stop" : "length";
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
  parser->add_option("--max-tokens", options->max_tokens, "longest continuation [128]")
      ->check(CLI::PositiveNumber);
  parser->add_option("--temperature", options->temperature, "0: always the likeliest token [0]")
      ->check(CLI::NonNegativeNumber);
  parser->add_option("--top-k", options->top_k, "draw from the k likeliest tokens; 0: off [0]")
      ->check(CLI::NonNegativeNumber);
  parser
      ->add_option("--top-p", options->top_p,
                   "draw from the likeliest tokens of this total; 1: off [1]")
      ->check(CLI::Range(0.0, 1.0));
  parser
      ->add_option("--min-p", options->min_p,
                   "draw from tokens at least so likely, of the likeliest one; 0: off [0]")
      ->check(CLI::Range(0.0, 1.0));
  parser
      ->add_option("--repetition-penalty", options->repetition_penalty,
                   "tokens that were there count so many times less; 1: off [1]")
      ->check(CLI::PositiveNumber);
  parser->add_flag("--greedy", options->greedy, "always the likeliest token");
  parser->add_flag("--logprobs", options->logprobs,
                   "with --input: the log-probability of each token, before any of these settings");
  parser->add_option("--stop", options->stop, "end before this text; may be repeated")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  parser->add_option("--batch", options->batch, "prompts continued together")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  parser->footer(
      "With --prompt the text is printed, with --input each line comes back with \"text\", "
      "\"ids\"\n"
      "(before --stop cuts the text) and how it ended, \"stop\" or \"length\".\n"
      "Outside a chat format a prompt gets the special tokens that the tokenizer puts before a\n"
      "text (Gemma's and Llama's <bos>). What is not given is what the checkpoint's\n"
      "generation_config.json says, and only then the value in brackets. The checkpoint's end\n"
      "tokens always end.");
  return {parser, [options](const Globals& globals) { run_generate(*options, globals); }};
}

}  // namespace resurface
