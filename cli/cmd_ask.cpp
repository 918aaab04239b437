// resurface ask: answers from retrieved passages, with their sources and what each answer cost.
#include "cli/command.h"
#include "core/model/generate.h"
#include "core/run/error.h"
#include "core/run/files.h"
#include "core/run/interrupt.h"
#include "core/run/seeds.h"
#include "retrieval/ask.h"

namespace resurface {
namespace {

struct Options {
  std::filesystem::path model, index, demonstrations, input;
  std::vector<std::string> questions;
  std::optional<int64_t> count;
  bool no_retrieval = false;
  AskSettings ask;
  ChatSettings format;
};

nlohmann::ordered_json answer_row(const std::string& question, const SourcedAnswer& answer) {
  nlohmann::ordered_json row = {{"question", question},
                                {"answer", answer.text},
                                {"sources", nlohmann::ordered_json::array()}};
  for (size_t i = 0; i < answer.sources.size(); ++i) {
    const auto& [hit, cited] = answer.sources[i];
    row["sources"].push_back({{"number", i + 1},
                              {"id", hit.passage.id},
                              {"title", hit.passage.title},
                              {"language", hit.passage.language},
                              {"source", hit.passage.source},
                              {"score", hit.score},
                              {"cited", cited}});
    if (!hit.passage.url.empty()) row["sources"].back()["url"] = hit.passage.url;
  }
  row["left_out"] = answer.left_out;
  row["prompt_tokens"] = answer.prompt_tokens;
  row["tokens"] = answer.tokens;
  row["flops"] = answer.flops;
  row["seconds"] = answer.seconds;
  return row;
}

void run_ask(Options options, const Globals& globals) {
  std::optional<PassageIndex> index;
  std::optional<Demonstrations> facts;
  if (!options.demonstrations.empty()) {
    facts.emplace(load_suite(options.demonstrations));
    options.ask.passages = 16;
  } else if (!options.no_retrieval) {
    if (options.index.empty()) {
      throw ConfigError(
          "ask: --index is missing: a file that `resurface index` wrote; or say --demonstrations "
          "or --no-retrieval");
    }
    index = PassageIndex::open(options.index);
  }
  if (options.count) options.ask.passages = *options.count;
  const auto& language = options.ask.language;
  if (index && !language.empty() && !index->languages().contains(language)) {
    fail("{}: has no passages in '{}'", options.index.string(), language);
  }
  if (options.questions.empty()) {
    for_each_json_line(options.input, [&](const nlohmann::ordered_json& row, int64_t) {
      if (!row.is_object()) fail("expected a JSON object, got {}", row.dump());
      options.questions.push_back(text_of(row, "question"));
    });
  }
  const auto folder = text_folder(options.model);
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const ChatFormat chat = ChatFormat::load(folder, options.format);
  options.ask.generate.stop_ids = end_ids(folder);
  const Model model = globals.load_model(options.model);

  Output output(globals.out);
  for (size_t i = 0; i < options.questions.size(); ++i) {
    check_interrupted();
    options.ask.generate.seed =
        derive_seed(static_cast<uint64_t>(globals.seed), fmt::format("ask/{}", i));
    const auto& question = options.questions[i];
    output.line(answer_row(
        question,
        facts ? ask_in_context(model, tokenizer, chat, *facts, question, options.ask)
              : ask(model, tokenizer, chat, index ? &*index : nullptr, question, options.ask)));
  }
  output.finish();
}

}  // namespace

Command add_ask(CLI::App& app) {
  auto options = std::make_shared<Options>();
  auto* parser = app.add_subcommand("ask", "answer questions from retrieved passages");
  add_model(*parser, options->model);
  auto* index = parser->add_option("--index", options->index, "a file that `resurface index` wrote")
                    ->type_name("FILE")
                    ->check(CLI::ExistingFile);
  auto* demonstrations =
      parser
          ->add_option("--demonstrations", options->demonstrations,
                       "in-context editing instead: a suite whose factual answers are shown")
          ->type_name("SUITE")
          ->check(CLI::ExistingFile)
          ->excludes(index);
  auto* question =
      parser->add_option("-q,--question", options->questions, "a question; may be repeated")
          ->expected(1)
          ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  add_input(*parser, options->input, "JSON lines {\"question\"}")->excludes(question);
  add_chat(*parser, options->format);
  parser
      ->add_option("--k", options->count,
                   "passages put before a question (default: 3), or demonstrations (16)")
      ->check(CLI::PositiveNumber);
  parser->add_option("--language", options->ask.language,
                     "of the passages and the instruction (default: any, and the question's)");
  parser->add_flag("--no-retrieval", options->no_retrieval, "ask plainly, for comparison")
      ->excludes(demonstrations);
  parser->add_option("-n,--max-tokens", options->ask.generate.max_tokens, "longest answer")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  parser
      ->add_option("--temperature", options->ask.generate.temperature,
                   "0: always the likeliest token")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  parser->footer(
      "A JSON line each: \"answer\", \"sources\" (as numbered in the prompt, with their BM25 "
      "score\n"
      "and whether the answer names them; of demonstrations the facts that they show),\n"
      "\"left_out\" (passages or demonstrations without room in the context), and the cost of the "
      "question: \"prompt_tokens\", \"tokens\", \"flops\", \"seconds\".");
  return {parser, [options](const Globals& globals) { run_ask(*options, globals); }};
}

}  // namespace resurface
