#include <catch2/catch.hpp>
#include <fstream>

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
  folder.write("tokenizer_config.json", R"({"chat_template": "{{ bos_token }}"})");
  CHECK_THROWS_WITH(ChatFormat::load(folder.path()),
                    Contains("{{ bos_token }}") && Contains("plain, chatml, smollm2"));
  folder.write("chat_template.jinja", smollm2_template + "\n");
  CHECK(ChatFormat::load(folder.path()).name() == "smollm2");
  CHECK_THROWS_WITH(ChatFormat::named("alpaca"), Contains("valid formats: plain, chatml, smollm2"));
}

TEST_CASE("plain: the answer begins with a space") {
  const auto chat = ChatFormat::named("plain");
  CHECK(chat.prompt({{"user", "A?"}, {"assistant", "B."}, {"user", "C?"}}) ==
        "Question: A?\nAnswer: B.\nQuestion: C?\nAnswer:");
  CHECK(chat.answer_start() == " ");
  CHECK(chat.answer_end() == "\n");
}
