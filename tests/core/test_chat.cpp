#include <catch2/catch.hpp>
#include <fstream>
#include <map>

#include "core/run/error.h"
#include "core/text/chat.h"

using namespace resurface;
using Catch::Matchers::Contains;

namespace {

// SmolLM2-Instruct's tokenizer_config.json.
const std::string smollm2_template =
    R"({% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %})";

class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              fmt::format("resurface-chat-{}", static_cast<const void*>(this))) {
    std::filesystem::create_directories(path_);
  }
  Folder(const Folder&) = delete;
  Folder& operator=(const Folder&) = delete;
  ~Folder() { std::filesystem::remove_all(path_); }
  void write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace

// The prompts are those of transformers' apply_chat_template(..., add_generation_prompt=True).
TEST_CASE("smollm2 renders what transformers renders") {
  const auto chat = ChatFormat::named("smollm2");
  CHECK(chat.prompt({{"user", "Is it true?"}}) ==
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
        "Face<|im_end|>\n"
        "<|im_start|>user\nIs it true?<|im_end|>\n<|im_start|>assistant\n");
  CHECK(
      chat.prompt({{"system", "Be brief."}, {"user", "A"}, {"assistant", "B"}, {"user", " C\n"}}) ==
      "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nA<|im_end|>\n"
      "<|im_start|>assistant\nB<|im_end|>\n<|im_start|>user\n "
      "C\n<|im_end|>\n<|im_start|>assistant\n");
  CHECK(chat.answer_end() == "<|im_end|>");
}

TEST_CASE("the format is recognised by the checkpoint's template") {
  const Folder folder;
  CHECK(ChatFormat::load(folder.path()).name() == "plain");
  folder.write("tokenizer_config.json", "{}");
  CHECK(ChatFormat::load(folder.path()).name() == "plain");
  folder.write("tokenizer_config.json", nlohmann::json{{"chat_template", smollm2_template}}.dump());
  CHECK(ChatFormat::load(folder.path()).name() == "smollm2");
  folder.write("tokenizer_config.json", R"({"chat_template": "a\n{{ bos_token | shine }}"})");
  CHECK_THROWS_WITH(ChatFormat::load(folder.path()),
                    Contains("tokenizer_config.json: chat_template, line 2") &&
                        Contains("'shine'") && Contains("{{ bos_token | shine }}"));
  folder.write("chat_template.jinja", smollm2_template + "\n");
  CHECK(ChatFormat::load(folder.path()).name() == "smollm2");
  CHECK_THROWS_WITH(ChatFormat::named("alpaca"), Contains("valid formats: plain, chatml, smollm2"));
  CHECK_THROWS_WITH(ChatFormat::named("qwem3"), Contains("did you mean 'qwen3'?"));
  CHECK(ChatFormat::load(folder.path(), {.format = "qwen3"}).name() == "qwen3");
  CHECK_THROWS_WITH(ChatFormat::load(folder.path(), {.format = "no/such.jinja"}),
                    Contains("no/such.jinja: failed opening: No such file"));
}

TEST_CASE("a checkpoint's template, with its special tokens") {
  const Folder folder;
  const auto named = [](const std::string& name, const std::string& one) {
    return nlohmann::json{{"name", name}, {"template", one}};
  };
  const std::string text =
      "{% for m in messages %}{{ bos_token }}{{ m.role }}: {{ m.content | trim }}{{ eos_token }}\n"
      "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant: {% endif %}";
  nlohmann::json config = {
      {"bos_token", {{"content", "<b>"}, {"lstrip", false}}},
      {"eos_token", "<e>"},
      {"chat_template", nlohmann::json::array({named("tools", "x"), named("default", text)})}};
  folder.write("tokenizer_config.json", config.dump());
  const auto chat = ChatFormat::load(folder.path());
  CHECK(chat.name() == "checkpoint");
  CHECK(chat.prompt({{"user", " A "}}) == "<b>user: A<e>\n<b>assistant: ");
  CHECK(chat.answer_start().empty());
  CHECK(chat.answer_end() == "<e>");
  // The older file for what the config does not name, unless the config has all tokens.
  config.erase("eos_token");
  folder.write("tokenizer_config.json", config.dump());
  folder.write("special_tokens_map.json", R"({"eos_token": {"content": "<f>"}})");
  CHECK(ChatFormat::load(folder.path()).prompt({}) == "<b>assistant: ");
  CHECK(ChatFormat::load(folder.path()).answer_end() == "<f>");
  // Without a token after it an answer ends in all that follows.
  config["added_tokens_decoder"] = {{"0", {{"content", "<b>"}}}};
  folder.write("tokenizer_config.json", config.dump());
  CHECK(ChatFormat::load(folder.path()).answer_end() == "\n");
  config["chat_template"] = nlohmann::json::array({named("tools", "x")});
  folder.write("tokenizer_config.json", config.dump());
  CHECK_THROWS_WITH(ChatFormat::load(folder.path()), Contains("a template named 'default'"));
  config["chat_template"] =
      "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}";
  folder.write("tokenizer_config.json", config.dump());
  CHECK_THROWS_WITH(ChatFormat::load(folder.path()), Contains("does not print an answer"));
}

TEST_CASE("plain begins as the tokenizer would begin a text") {
  const Folder folder;
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "add_bos_token": true})");
  CHECK(ChatFormat::load(folder.path()).prompt({{"user", "A?"}}) == "<s>Question: A?\nAnswer:");
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>", "add_bos_token": false})");
  CHECK(ChatFormat::load(folder.path()).prompt({{"user", "A?"}}) == "Question: A?\nAnswer:");
  folder.write("tokenizer_config.json", R"({"bos_token": "<s>"})");
  folder.write("tokenizer.json", R"({"added_tokens": [], "post_processor": {"type": "Sequence",
    "processors": [{"type": "ByteLevel"}, {"type": "TemplateProcessing", "single": [
      {"SpecialToken": {"id": "<t>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]}]}})");
  CHECK(ChatFormat::load(folder.path()).prompt({{"user", "A?"}}) == "<t>Question: A?\nAnswer:");
}

TEST_CASE("built-in formats render texts as the families' templates do") {
  const std::map<std::string, std::string> family = {{"chatml", "chatml"},
                                                     {"smollm2", "smollm2"},
                                                     {"llama2", "llama2"},
                                                     {"llama3", "llama3"},
                                                     {"mistral", "mistral-v3"},
                                                     {"mistral-v7", "mistral-v7"},
                                                     {"qwen2", "qwen2"},
                                                     {"qwen2.5", "qwen2.5"},
                                                     {"qwen3", "qwen3"},
                                                     {"gemma", "gemma3"},
                                                     {"phi3", "phi3"},
                                                     {"phi4", "phi4"},
                                                     {"deepseek-v2", "deepseek-v2"},
                                                     {"deepseek-v3", "deepseek-v3"},
                                                     {"deepseek-r1", "deepseek-r1"},
                                                     {"kimi-k2", "kimi-k2-instruct"},
                                                     {"minimax-m1", "minimax-m1"},
                                                     {"openpangu", "openpangu"}};
  const auto data = nlohmann::ordered_json::parse(
      std::ifstream(std::string(RESURFACE_TEST_DATA) + "/chat/golden.json"));
  const auto of_texts = [](const nlohmann::ordered_json& conversation) {
    bool fits = !conversation.contains("tools") && !conversation["messages"].empty();
    for (const auto& message : conversation["messages"]) {
      fits = fits && message.size() == 2 && message.contains("content") &&
             message["content"].is_string() && message["role"] != "narrator";
    }
    return fits;
  };
  for (const auto& name : ChatFormat::names()) {
    if (name == "plain") continue;
    REQUIRE(family.contains(name));
    const auto chat = ChatFormat::named(name);
    const auto& expected = data["templates"][family.at(name)]["rendered"];
    int64_t compared = 0;
    for (size_t i = 0; i < expected.size(); ++i) {
      auto variables = data["conversations"][i];
      if (!of_texts(variables)) continue;
      const auto messages = variables["messages"];
      const bool next = variables.value("add_generation_prompt", false);
      variables.erase("messages");
      variables.erase("add_generation_prompt");
      INFO(name << ", conversation " << i);
      if (expected[i].is_null()) {
        CHECK_THROWS_AS(chat.render(messages, next, variables), Error);
      } else {
        CHECK(chat.render(messages, next, variables) == expected[i]);
      }
      ++compared;
    }
    CHECK(compared >= 25);
  }
}

TEST_CASE("prompt, start, answer and end are what the template makes of them") {
  const std::map<std::string, std::pair<std::string, std::string>> ends = {
      {"llama2", {" ", " </s>"}},
      {"llama3", {"", "<|eot_id|>"}},
      {"mistral", {" ", "</s>"}},
      {"qwen2.5", {"", "<|im_end|>"}},
      {"qwen3", {"<think>\n\n</think>\n\n", "<|im_end|>"}},
      {"gemma", {"", "<end_of_turn>"}},
      {"phi3", {"", "<|end|>"}},
      {"deepseek-r1", {"\n</think>\n\n", "<｜end▁of▁sentence｜>"}},
      {"kimi-k2", {"", "<|im_end|>"}},
      {"minimax-m1", {"", "<end_of_sentence>"}}};
  for (const auto& name : ChatFormat::names()) {
    const auto chat = ChatFormat::named(name);
    INFO(name);
    if (ends.contains(name)) {
      CHECK(chat.answer_start() == ends.at(name).first);
      CHECK(chat.answer_end() == ends.at(name).second);
    }
    // R1 shows answers without the thought that its prompts open.
    if (name == "plain" || name == "deepseek-r1") continue;
    const auto whole = chat.render(
        {{{"role", "user"}, {"content", "A?"}}, {{"role", "assistant"}, {"content", "B."}}}, false);
    CHECK(whole.starts_with(chat.prompt({{"user", "A?"}}) + chat.answer_start() + "B." +
                            chat.answer_end()));
  }
}

TEST_CASE("answers in every family's template") {
  const auto data = nlohmann::ordered_json::parse(
      std::ifstream(std::string(RESURFACE_TEST_DATA) + "/chat/golden.json"));
  const Folder folder;
  for (const auto& [name, expected] : data["templates"].items()) {
    INFO(name);
    std::ifstream stream(fmt::format("{}/chat/{}.jinja", RESURFACE_TEST_DATA, name));
    folder.write("chat_template.jinja", {std::istreambuf_iterator<char>(stream), {}});
    folder.write("tokenizer_config.json", expected["tokens"].dump());
    const auto chat = ChatFormat::load(folder.path(), {.date = "2024-07-26"});
    const auto begun = chat.prompt({{"user", "A?"}}) + chat.answer_start();
    const auto whole = chat.render(
        {{{"role", "user"}, {"content", "A?"}}, {{"role", "assistant"}, {"content", "B."}}}, false);
    CHECK_FALSE(chat.answer_end().empty());
    CHECK(whole.find("B." + chat.answer_end()) != std::string::npos);
    // Some show answers without the thought that their prompts open.
    if (!begun.ends_with("</think>\n\n") && !begun.ends_with("</think>")) {
      CHECK(whole.starts_with(begun + "B."));
    }
  }
}

TEST_CASE("thinking: on, off, prefilled") {
  const auto end = [](const std::string& format, const std::string& thinking) {
    const auto chat = ChatFormat::named(format, {.thinking = thinking});
    const auto prompt = chat.prompt({{"user", "A?"}});
    return prompt.substr(prompt.rfind("A?") + 2) + "|" + chat.answer_start();
  };
  const std::string turn = "<|im_end|>\n<|im_start|>assistant\n";
  CHECK(end("qwen3", "default") == turn + "|<think>\n\n</think>\n\n");
  CHECK(end("qwen3", "on") == turn + "|<think>\n\n</think>\n\n");
  CHECK(end("qwen3", "off") == turn + "<think>\n\n</think>\n\n|");
  CHECK(end("qwen3", "empty") == turn + "<think>\n\n</think>\n\n|");
  CHECK(end("qwen3", "open") == turn + "<think>\n|\n</think>\n\n");
  CHECK(end("chatml", "empty") == turn + "<think>\n\n</think>\n\n|");
  CHECK(end("chatml", "open") == turn + "<think>\n|\n</think>\n\n");
  CHECK(end("deepseek-r1", "open") == "<｜Assistant｜><think>\n|\n</think>\n\n");
  CHECK(end("deepseek-r1", "empty") == "<｜Assistant｜><think>\n\n</think>\n\n|");
  CHECK(end("plain", "empty") == "\nAnswer:<think>\n\n</think>\n\n|");
  CHECK_THROWS_WITH(end("chatml", "off"), Contains("no switch for thinking"));
}

TEST_CASE("an answer that begins with a thought of its own") {
  const std::string thought = "<think>\nT\n</think>\n\n";
  const auto begun = [](const std::string& format, const std::string& thinking,
                        const std::string& opening) {
    const auto chat = ChatFormat::named(format, {.thinking = thinking});
    const auto prompt = chat.begin_answer(chat.prompt({{"user", "A?"}}), opening);
    return prompt.substr(prompt.rfind("A?") + 2);
  };
  const std::string turn = "<|im_end|>\n<|im_start|>assistant\n";
  CHECK(begun("chatml", "default", thought) == turn + thought);
  CHECK(begun("qwen3", "default", thought) == turn + thought);
  CHECK(begun("qwen3", "off", thought) == turn + thought);
  CHECK(begun("qwen3", "default", "It") == turn + "<think>\n\n</think>\n\nIt");
  CHECK(begun("deepseek-r1", "default", thought) == "<｜Assistant｜>" + thought);
  CHECK(begun("deepseek-r1", "default", "It") == "<｜Assistant｜><think>\n\n</think>\n\nIt");
  CHECK(begun("plain", "default", thought) == "\nAnswer: " + thought);
}

TEST_CASE("system prompt, date and variables") {
  const auto chat = ChatFormat::named("chatml", {.system = "Be brief."});
  CHECK(chat.prompt({{"user", "A"}}).starts_with("<|im_start|>system\nBe brief.<|im_end|>\n"));
  CHECK(chat.prompt({{"system", "Own."}}).starts_with("<|im_start|>system\nOwn.<|im_end|>\n"));
  const Folder folder;
  folder.write("t.jinja",
               "{{ strftime_now('%d %b %Y %a %j') }} {{ who }} {{ count + 1 }}{% for m in messages "
               "%}|{{ m.content }}{% endfor %}{{ '|' if add_generation_prompt }}");
  const std::string file = (folder.path() / "t.jinja").string();
  const auto dated = ChatFormat::named(
      file, {.date = "2024-07-26", .variables = {"who=some one", "count=2", "eos_token=\"|\""}});
  CHECK(dated.dated());
  CHECK_FALSE(chat.dated());
  CHECK(dated.prompt({{"user", "A"}}) == "26 Jul 2024 Fri 208 some one 3|A|");
  CHECK_THROWS_WITH(ChatFormat::named("chatml", {.date = "2024-02-30"}), Contains("2024-02-30"));
  CHECK_THROWS_WITH(ChatFormat::named("chatml", {.date = "July 26th"}), Contains("2024-07-26"));
  CHECK_THROWS_WITH(ChatFormat::named("chatml", {.variables = {"x"}}), Contains("NAME=VALUE"));
}

TEST_CASE("plain: the answer begins with a space") {
  const auto chat = ChatFormat::named("plain");
  CHECK(chat.prompt({{"user", "A?"}, {"assistant", "B."}, {"user", "C?"}}) ==
        "Question: A?\nAnswer: B.\nQuestion: C?\nAnswer:");
  CHECK(chat.answer_start() == " ");
  CHECK(chat.answer_end() == "\n");
}
