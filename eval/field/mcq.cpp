// Prompts and figures of EleutherAI/lm-evaluation-harness (lm_eval/tasks/mmlu/default, "letters",
// and lm_eval/tasks/mmlu/continuation, "texts"; lm_eval/api/task.py):
//   letters    "The following are multiple choice questions (with answers) about {subject}.\n\n",
//              the worked examples, each with its answer and "\n\n", then
//              "{question}\nA. {choice}\n...\nAnswer:", to be continued by " A", " B", ...
//   texts      "The following are questions (with answers) about {subject}.\n\n", then likewise
//              "Question: {question}\nAnswer:", to be continued by " {choice}"
//   acc        share of questions where the right choice has the highest summed log-prob
//   acc_norm   the same of the log-prob over the choice's length in characters
//   acc_bytes  the same over its length in UTF-8 bytes
// Where we differ: prompt and choice are encoded apart, where the harness cuts the encoding of both
// together; a prompt beyond the context is an error, where the harness drops its beginning; `limit`
// counts questions of the file, not of each subject; no chat template is used, which is the
// harness's default too.
#include "eval/field/mcq.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/run/config.h"
#include "core/run/error.h"
#include "eval/characters.h"
#include "eval/field/records.h"
#include "eval/field/statistics.h"
#include "eval/score.h"

namespace resurface {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kLetters = 26;

struct Question {
  std::string where, subject, text;
  std::vector<std::string> choices;
  size_t answer = 0;
};

std::string letter(size_t choice) { return {static_cast<char>('A' + choice)}; }

/// Python's str.strip of ASCII white space.
std::string stripped(const std::string& text) {
  const char* const space = " \t\n\v\f\r";
  const size_t first = text.find_first_not_of(space);
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(space) + 1 - first);
}

size_t find_label(const JsonNode& labels, const JsonNode& answer) {
  for (size_t i = 0; i < labels.array().size(); ++i) {
    if (labels.at(i).string() == answer.string()) return i;
  }
  answer.wrong("one of " + labels.json.dump());
}

size_t answer_index(const JsonNode& answer, size_t choices) {
  size_t index = choices;
  if (answer.json.is_number_unsigned()) {
    index = answer.json.get<size_t>();
  } else if (answer.json.is_string() && answer.string().size() == 1) {
    index = static_cast<size_t>(static_cast<unsigned char>(answer.string()[0])) - 'A';
  }
  if (index >= choices) {
    answer.wrong(fmt::format("an index of 0 to {} or a letter of A to {}", choices - 1,
                             letter(choices - 1)));
  }
  return index;
}

Question read_question(const JsonNode& record, const McqSettings& settings) {
  Question question{.where = record.where(),
                    .subject = record.has("subject") ? record.at("subject").string() : "",
                    .text = text_field(record, "question")};
  if (question.subject.empty()) question.subject = settings.subject;
  std::replace(question.subject.begin(), question.subject.end(), '_', ' ');
  const JsonNode given = record.at("choices");
  const bool labelled = given.json.is_object();
  const JsonNode texts = labelled ? given.at("text") : given;
  for (size_t i = 0; i < texts.array().size(); ++i) {
    question.choices.push_back(texts.at(i).string());
    // A letter stands for an empty choice too; its own likelihood is none.
    if (settings.score == "texts" && question.choices.back().empty())
      texts.at(i).wrong("some text");
  }
  const size_t count = question.choices.size();
  if (count < 2 || count > kLetters) texts.wrong(fmt::format("2 to {} choices", kLetters));
  question.answer = labelled ? find_label(given.at("label"), record.at("answerKey"))
                             : answer_index(record.at("answer"), count);
  if (question.answer >= count) given.at("label").wrong(fmt::format("{} labels", count));
  return question;
}

std::vector<Question> read_questions(const std::filesystem::path& path, int64_t limit,
                                     const McqSettings& settings) {
  const Records records(path, limit);
  std::vector<Question> questions;
  for (size_t i = 0; i < records.size(); ++i) {
    questions.push_back(read_question(records[i], settings));
  }
  return questions;
}

/// The question up to "Answer:".
std::string asked(const Question& question, bool letters) {
  if (!letters) return fmt::format("Question: {}\nAnswer:", stripped(question.text));
  std::string text = stripped(question.text);
  for (size_t i = 0; i < question.choices.size(); ++i) {
    text += fmt::format("\n{}. {}", letter(i), question.choices[i]);
  }
  return text + "\nAnswer:";
}

std::string answered(const Question& question, size_t choice, bool letters) {
  return " " + (letters ? letter(choice) : question.choices[choice]);
}

/// What stands before the questions of each subject.
std::map<std::string, std::string> beginnings(const std::vector<Question>& questions,
                                              const McqSettings& settings) {
  const bool letters = settings.score == "letters";
  const auto examples =
      settings.shots > 0 ? read_questions(settings.dev, 0, settings) : std::vector<Question>{};
  std::map<std::string, std::string> all;
  for (const Question& question : questions) {
    const std::string& subject = question.subject;
    if (all.contains(subject)) continue;
    std::string text = settings.prefix;
    if (!subject.empty()) {
      text += fmt::format("The following are {}questions (with answers) about {}.\n\n",
                          letters ? "multiple choice " : "", subject);
    }
    int64_t shots = 0;
    for (const Question& example : examples) {
      if (example.subject != subject || shots == settings.shots) continue;
      text += asked(example, letters) + answered(example, example.answer, letters) + "\n\n";
      ++shots;
    }
    if (shots < settings.shots) {
      fail("{}: expected {} worked examples{}, got {}", settings.dev.string(), settings.shots,
           subject.empty() ? " without a subject" : fmt::format(" about '{}'", subject), shots);
    }
    all[subject] = text;
  }
  return all;
}

size_t best(const std::vector<double>& values) {
  return static_cast<size_t>(std::max_element(values.begin(), values.end()) - values.begin());
}

/// Whether the right choice was picked, by figure, one entry a question.
using Picks = std::map<std::string, std::vector<double>>;

Json shares(const Picks& picks) {
  const auto& acc = picks.at("acc");
  const auto n = static_cast<double>(acc.size());
  Json out = {{"items", acc.size()}};
  for (const auto& [name, right] : picks) out[name] = mean(right);
  const double p = out["acc"].get<double>();
  out["acc_stderr"] = acc.size() > 1 ? Json(std::sqrt(p * (1 - p) / (n - 1))) : Json();
  return out;
}

}  // namespace

void McqSettings::check() const {
  if (data.empty()) throw ConfigError("mcq needs data: a file of questions");
  if (dev.empty() != (shots == 0)) throw ConfigError("mcq: dev and shots need each other");
}

Json run_mcq(const McqSettings& settings, const FieldInputs& inputs) {
  settings.check();
  const bool letters = settings.score == "letters";
  const auto questions = read_questions(settings.data, settings.limit, settings);
  const auto before = beginnings(questions, settings);
  std::vector<Example> examples;
  for (const Question& question : questions) {
    const std::string prompt = before.at(question.subject) + asked(question, letters);
    for (size_t i = 0; i < question.choices.size(); ++i) {
      examples.push_back(text_example(inputs.model, inputs.tokenizer, prompt,
                                      answered(question, i, letters), question.where));
    }
  }
  const auto scores = score(inputs.model, examples, settings.batch_tokens);

  Picks all;
  std::map<std::string, Picks> by_subject;
  Json rows = Json::array();
  auto next = scores.begin();
  for (const Question& question : questions) {
    std::vector<double> logprob, by_character, by_byte;
    for (const std::string& choice : question.choices) {
      logprob.push_back(next++->logprob);
      if (letters) continue;
      by_character.push_back(logprob.back() / static_cast<double>(code_points(choice).size()));
      by_byte.push_back(logprob.back() / static_cast<double>(choice.size()));
    }
    rows.push_back({{"index", rows.size()},
                    {"subject", question.subject},
                    {"question", question.text},
                    {"choices", question.choices},
                    {"answer", question.answer},
                    {"logprob", logprob},
                    {"picked", best(logprob)}});
    const auto keep = [&](const char* name, const std::vector<double>& values) {
      const bool right = best(values) == question.answer;
      all[name].push_back(right);
      by_subject[question.subject][name].push_back(right);
      rows.back()[name] = right;
    };
    keep("acc", logprob);
    if (letters) continue;
    keep("acc_norm", by_character);
    keep("acc_bytes", by_byte);
  }
  Json aggregates = shares(all);
  if (by_subject.size() > 1) {
    for (const auto& [subject, picks] : by_subject) {
      aggregates["subjects"][subject.empty() ? "none" : subject] = shares(picks);
    }
  }
  return {{"benchmark", "mcq"},
          {"settings", to_json(settings)},
          {"aggregates", aggregates},
          {"items", rows}};
}

}  // namespace resurface
