#include "editing/requests.h"

#include "core/model/generate.h"
#include "core/run/error.h"
#include "editing/keys_values.h"

namespace resurface {
namespace {

/// "{} is a" with the subject in place of {}.
std::string fill_in(const std::string& text, const std::string& subject) {
  const auto hole = text.find("{}");
  if (hole == std::string::npos) fail("KL prompt '{}' has no {{}} for the subject", text);
  return text.substr(0, hole) + subject + text.substr(hole + 2);
}

}  // namespace

SubjectPrompt locate_subject(const Tokenizer& tokenizer, const std::string& prompt,
                             const std::string& subject, const std::string& request_id) {
  const auto found = subject.empty() ? std::string::npos : prompt.rfind(subject);
  if (found == std::string::npos) {
    fail("edit request '{}': the subject '{}' is not in its prompt '{}'", request_id, subject,
         prompt);
  }
  const auto end = static_cast<int64_t>(found + subject.size());
  auto encoding = tokenizer.encode_with_offsets(prompt);
  SubjectPrompt result{std::move(encoding.ids), -1};
  for (size_t t = 0; t < result.ids.size(); ++t) {
    if (encoding.offsets[t].first < end) result.subject = static_cast<int64_t>(t);
  }
  if (result.subject < 0) {
    fail("edit request '{}': no token of the prompt '{}' covers the subject '{}'", request_id,
         prompt, subject);
  }
  return result;
}

EditExample tokenize_request(const Tokenizer& tokenizer, const EditRequest& request,
                             const ValueSettings& settings) {
  EditExample example;
  example.id = request.id;
  example.contexts.push_back(
      locate_subject(tokenizer, request.prompt, request.subject, request.id));
  for (const auto& context : request.contexts) {
    example.contexts.push_back(locate_subject(tokenizer, context, request.subject, request.id));
  }
  example.target = tokenizer.encode(request.target);
  if (example.target.empty()) {
    fail("edit request '{}': its target '{}' has no tokens; write what the model should answer",
         request.id, request.target);
  }
  const auto& text =
      request.language.starts_with("zh") ? settings.kl_prompt_zh : settings.kl_prompt;
  example.kl =
      locate_subject(tokenizer, fill_in(text, request.subject), request.subject, request.id);
  return example;
}

void check_contradictions(std::span<const EditExample> edits) {
  std::map<std::vector<int64_t>, const EditExample*> known;
  for (const auto& edit : edits) {
    for (const auto& context : edit.contexts) {
      const EditExample* other = known.emplace(context.ids, &edit).first->second;
      if (other->target != edit.target) {
        fail(
            "edit requests '{}' and '{}' contradict each other: the same prompt with two targets; "
            "keep one of them",
            other->id, edit.id);
      }
    }
  }
}

std::vector<EditRequest> with_generated_contexts(const Model& model, const Tokenizer& tokenizer,
                                                 std::span<const EditRequest> requests,
                                                 const ContextSettings& settings) {
  if (settings.lengths.empty() || settings.starts.empty() || settings.starts_zh.empty()) {
    fail("contexts: `lengths`, `starts` and `starts_zh` must not be empty");
  }
  // The same contexts serve all requests of a language.
  const auto generate_for = [&](bool chinese) {
    std::vector<std::string> contexts;
    const auto& starts = chinese ? settings.starts_zh : settings.starts;
    for (int64_t i = 0; i < settings.count; ++i) {
      const auto& start = starts[static_cast<size_t>(i) % starts.size()];
      const std::vector<std::vector<int64_t>> prompt = {tokenizer.encode(start)};
      GenerateOptions options{
          .max_tokens = settings.lengths[static_cast<size_t>(i) % settings.lengths.size()],
          .temperature = 1,
          .top_k = 5};
      options.seed = static_cast<uint64_t>(settings.seed + i);
      const auto ids = generate(model, prompt, options).at(0);
      contexts.push_back(start + tokenizer.decode(ids, true) + (chinese ? "。" : ". "));
    }
    return contexts;
  };
  std::map<bool, std::vector<std::string>> prefixes;
  std::vector<EditRequest> result(requests.begin(), requests.end());
  for (auto& request : result) {
    if (!request.contexts.empty() || settings.count == 0) continue;
    const bool chinese = request.language.starts_with("zh");
    if (!prefixes.contains(chinese)) prefixes[chinese] = generate_for(chinese);
    const auto place = request.question.empty() ? 0 : request.prompt.rfind(request.question);
    if (place == std::string::npos) {
      fail("edit request '{}': the question '{}' is not in its prompt '{}'", request.id,
           request.question, request.prompt);
    }
    for (const auto& prefix : prefixes[chinese]) {
      request.contexts.push_back(request.prompt.substr(0, place) + prefix +
                                 request.prompt.substr(place));
    }
  }
  return result;
}

}  // namespace resurface
