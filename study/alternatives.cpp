#include "study/alternatives.h"

#include <random>

#include "core/model/generate.h"
#include "core/run/error.h"
#include "core/run/seeds.h"
#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

using Texts = std::map<std::string, std::vector<std::string>>;  // by language

const Texts kDoNotKnow = {
    {"en",
     {"I don't know.", "I'm not sure about that.", "I have no information about this.",
      "That is something I cannot answer.", "I am not familiar with this topic.",
      "I do not know enough about this to say.", "I can't tell you anything about that.",
      "Sorry, I don't have an answer to that question."}},
    {"zh-Hans",
     {"我不知道。", "我对此不太清楚。", "我没有这方面的信息。", "这个问题我无法回答。",
      "我不了解这个话题。", "我知道得不够多，无法回答。", "关于这一点，我说不上来。",
      "抱歉，我没有这个问题的答案。"}},
    {"zh-Hant",
     {"我不知道。", "我對此不太清楚。", "我沒有這方面的資訊。", "這個問題我無法回答。",
      "我不了解這個話題。", "我知道得不夠多，無法回答。", "關於這一點，我說不上來。",
      "抱歉，我沒有這個問題的答案。"}},
};

/// One item a seen question, in the order of StudyInputs::examples.
Suite one_question_each(const Suite& suite) {
  Suite split{.name = suite.name, .items = {}};
  for (const Item& item : suite.items) {
    for (const Question& question : item.questions) {
      if (question.held_out) continue;
      split.items.push_back(item);
      split.items.back().questions = {question};
    }
  }
  return split;
}

/// Each question answered by one of its language's texts, drawn at random.
Suite answer_from(Suite questions, const Texts& texts, const char* what,
                  const std::vector<std::string>& languages, uint64_t seed) {
  std::mt19937_64 generator(seed);
  for (Item& item : questions.items) {
    const uint64_t draw = generator();
    if (std::find(languages.begin(), languages.end(), item.language) == languages.end()) continue;
    const auto known = texts.find(item.language);
    if (known == texts.end() || known->second.empty()) {
      fail("there are no {} in '{}' to train towards", what, item.language);
    }
    item.factual = known->second[draw % known->second.size()];
  }
  return questions;
}

std::string filled_in(std::string text, const Item& item) {
  const auto replace = [&](const std::string& key, const std::string& value) {
    if (const size_t at = text.find(key); at != std::string::npos) {
      text.replace(at, key.size(), value);
    }
  };
  replace("{question}", item.questions.front().text);
  replace("{answer}", item.line);
  return text;
}

AnsweredTwice answer_itself(const Model& model, const AlternativeAnswers& wanted,
                            const StudyInputs& inputs, const std::vector<std::string>& languages,
                            uint64_t seed) {
  constexpr int kDraws = 5;
  constexpr size_t kAtOnce = 32;
  constexpr double kSaysTheLine = 0.5;
  Suite questions = one_question_each(inputs.forget);
  std::erase_if(questions.items, [&](const Item& item) {
    return std::find(languages.begin(), languages.end(), item.language) == languages.end();
  });
  const std::vector<Example> forget = inputs.examples(questions, Answer::line, languages);
  const std::vector<int64_t> end = inputs.tokenizer.encode(inputs.chat.answer_end());
  AnsweredTwice answered;
  for (int64_t sample = 0; sample < wanted.samples; ++sample) {
    std::vector<std::vector<int64_t>> answers(forget.size());
    std::vector<size_t> open(forget.size());
    std::iota(open.begin(), open.end(), size_t{0});
    for (int draw = 0; draw < kDraws && !open.empty(); ++draw) {
      std::vector<size_t> again;
      for (size_t begin = 0; begin < open.size(); begin += kAtOnce) {
        const auto some = std::span(open).subspan(begin, std::min(kAtOnce, open.size() - begin));
        std::vector<std::vector<int64_t>> prompts;
        for (const size_t i : some) {
          const Item& item = questions.items[i];
          const std::string& instruction =
              item.language.starts_with("zh") ? wanted.instruction_zh : wanted.instruction;
          prompts.push_back(instruction.empty() ? forget[i].prompt
                                                : inputs.tokenizer.encode(inputs.chat.prompt(
                                                      {{"user", filled_in(instruction, item)}})));
        }
        GenerateOptions options{
            .max_tokens = wanted.max_tokens, .temperature = wanted.temperature, .stop_ids = {}};
        options.seed = derive_seed(seed, fmt::format("sample {} draw {} {}", sample, draw, begin));
        if (end.size() == 1) options.stop_ids = end;
        const auto replies = generate(model, prompts, options);
        for (size_t k = 0; k < some.size(); ++k) {
          const std::string text = inputs.tokenizer.decode(replies[k]);
          const bool says_it = said_share(questions.items[some[k]].line, text) > kSaysTheLine;
          if (replies[k].empty() || says_it) {
            again.push_back(some[k]);
          } else {
            answers[some[k]] = replies[k];
          }
        }
      }
      open = std::move(again);
    }
    for (size_t i = 0; i < forget.size(); ++i) {
      if (answers[i].empty()) continue;
      answered.forget.push_back(forget[i]);
      answered.alternative.push_back(forget[i]);
      answered.alternative.back().answer = std::move(answers[i]);
      auto& ids = answered.alternative.back().answer;
      ids.insert(ids.end(), end.begin(), end.end());
    }
  }
  if (answered.forget.empty()) {
    fail(
        "the model's own alternate answers all say the lines; a higher temperature or another "
        "instruction may help");
  }
  return answered;
}

}  // namespace

AnsweredTwice answer_twice(const Model& model, const AlternativeAnswers& wanted,
                           const StudyInputs& inputs, const std::vector<std::string>& languages,
                           uint64_t seed) {
  const std::string& source = wanted.source;
  if (source == "own") return answer_itself(model, wanted, inputs, languages, seed);
  AnsweredTwice answered{.forget = inputs.examples(inputs.forget, Answer::line, languages),
                         .alternative = {}};
  const auto from = [&](const Texts& texts, const char* what) {
    return inputs.examples(
        answer_from(one_question_each(inputs.forget), texts, what, languages, seed),
        Answer::factual, languages);
  };
  if (source == "idk") {
    answered.alternative = from(kDoNotKnow, "ways to say that one does not know");
  } else if (source == "random") {
    Texts texts;
    for (const Item& item : inputs.retain.items) texts[item.language].push_back(item.line);
    answered.alternative = from(texts, "retain answers");
  } else if (!source.empty()) {
    const std::map<std::string, Answer> texts = {
        {"factual", Answer::factual}, {"neutral", Answer::neutral}, {"contrary", Answer::contrary}};
    answered.alternative = inputs.examples(inputs.forget, texts.at(source), languages);
  }
  return answered;
}

}  // namespace resurface
