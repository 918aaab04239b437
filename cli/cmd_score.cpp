// resurface score: log-probabilities of answers, teacher-forced.
#include "cli/command.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/interrupt.h"
#include "core/run/progress.h"
#include "core/text/chat.h"
#include "core/text/tokenizer.h"
#include "eval/score.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path model, input;
  bool chat = false;
  ChatSettings format;
  int64_t batch_tokens = 2048;
};

/// One field of a row, as text ("prompt") or as ids ("prompt_ids").
class RowReader {
 public:
  RowReader(const Options& options, const ModelConfig& config)
      : folder_(text_folder(options.model)),
        vocabulary_(config.vocab_size),
        context_(config.context) {
    if (options.chat || options.format != ChatSettings{}) {
      chat_ = ChatFormat::load(folder_, options.format);
    }
  }

  Example example(const nlohmann::ordered_json& row) {
    if (!row.is_object()) fail("expected a JSON object, got {}", row.dump());
    Example example{.prompt = ids(row, "prompt"), .answer = ids(row, "answer"), .tags = {}};
    if (example.prompt.empty()) {
      fail("the prompt has no tokens, so the answer's first token has no position before it");
    }
    if (example.answer.empty()) fail("the answer has no tokens");
    if (example.size() > context_) {
      fail("prompt and answer have {} tokens; the model's context is {}", example.size(), context_);
    }
    return example;
  }

 private:
  std::vector<int64_t> ids(const nlohmann::ordered_json& row, const std::string& field) {
    std::string id_field = field + "_ids";
    if (row.contains(field) && row.contains(id_field)) {
      fail("give either '{}' or '{}', not both", field, id_field);
    }
    if (row.contains(id_field)) return ids_of(row[id_field], id_field, vocabulary_);
    if (!row.contains(field))
      fail("missing field '{}' (text) or '{}' (token ids)", field, id_field);
    const std::string text = text_of(row, field);
    // Opened when first needed: ids can be scored of a model that has no tokenizer.
    if (!tokenizer_) tokenizer_ = Tokenizer::load(folder_);
    if (field != "prompt") return tokenizer_->encode(text);
    // A chat format prints its own begin-of-text token.
    return chat_ ? tokenizer_->encode(chat_->prompt({{"user", text}}))
                 : tokenizer_->encode_prompt(text);
  }

  std::filesystem::path folder_;
  int64_t vocabulary_, context_;
  std::optional<ChatFormat> chat_;
  std::optional<Tokenizer> tokenizer_;
};

void run_score(const Options& options, const Globals& globals) {
  Model model = globals.load_model(options.model);
  RowReader reader(options, model.config());
  std::vector<nlohmann::ordered_json> rows;
  std::vector<Example> examples;
  for_each_json_line(options.input, [&](const nlohmann::ordered_json& row, int64_t) {
    examples.push_back(reader.example(row));
    rows.push_back(row);
  });

  Output output(globals.out);
  Progress progress("score", static_cast<int64_t>(rows.size()), "answers");
  constexpr size_t kAtOnce = 512;  // results appear, and Ctrl-C is heard, this often
  for (size_t begin = 0; begin < rows.size(); begin += kAtOnce) {
    check_interrupted();
    size_t count = std::min(kAtOnce, rows.size() - begin);
    auto scores = score(model, std::span(examples).subspan(begin, count), options.batch_tokens);
    for (size_t i = 0; i < count; ++i) {
      auto& row = rows[begin + i];
      row["logprob"] = scores[i].logprob;
      row["tokens"] = scores[i].tokens;
      row["exact"] = scores[i].greedy_match;
      row["exact_memorization"] = scores[i].exact_memorization;
      row["extraction_strength"] = scores[i].extraction_strength;
      output.line(row);
    }
    progress.add(static_cast<int64_t>(count));
  }
  output.finish();
}

}  // namespace

Command add_score(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand("score", "log-probabilities of answers given prompts");
  add_model(*parser, options->model);
  add_input(*parser, options->input,
            "JSON lines {\"prompt\", \"answer\"} or {\"prompt_ids\", \"answer_ids\"}");
  parser->add_flag("--chat", options->chat,
                   "put text prompts into the checkpoint's chat format, as the user's turn; the "
                   "options that choose a format do so, too");
  add_chat(*parser, options->format);
  parser->add_option("--batch-tokens", options->batch_tokens, "tokens computed at once")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  parser->footer(
      "Each line comes back with \"logprob\" (nats, summed over the answer), \"tokens\", \"exact\" "
      "(every\n"
      "token is the model's first choice), \"exact_memorization\" and \"extraction_strength\".\n"
      "Prompt and answer are encoded apart. A prompt outside a chat format gets the special "
      "tokens\n"
      "that the tokenizer puts before a text (Gemma's and Llama's <bos>); nothing is added to the "
      "answer.");
  return {parser, [options](const Globals& globals) { run_score(*options, globals); }};
}

}  // namespace resurface
