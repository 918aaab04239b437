#include "core/text/chat_formats.h"

#include <array>

namespace resurface {
namespace {

constexpr const char* kChatml =
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}";

constexpr const char* kSmollm2 =
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + "
    "'<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% endif %}";

constexpr const char* kQwen2 = R"({% for message in messages %}
{%- if loop.first and message['role'] != 'system' %}
{{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %})";

constexpr const char* kQwen25 = R"({% for message in messages %}
{%- if loop.first and message['role'] != 'system' %}
{{- '<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.' }}
{{- '<|im_end|>\n' }}
{%- endif %}
{%- if message['role'] in ['system', 'user', 'assistant'] %}
{{- '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{% endif %})";

// Thoughts stay in the answers after the last question only.
constexpr const char* kQwen3 = R"({% set ns = namespace(query=messages|length - 1, sought=true) %}
{%- for message in messages[::-1] %}
{%- if ns.sought and message['role'] == 'user' %}
{%- set ns.query = messages|length - 1 - loop.index0 %}
{%- set ns.sought = false %}
{%- endif %}
{%- endfor %}
{%- for message in messages %}
{%- set content = message['content'] %}
{%- if message['role'] == 'assistant' %}
{%- set thought = '' %}
{%- if '</think>' in content %}
{%- set thought = content.split('</think>')[0].rstrip('\n').split('<think>')[-1].lstrip('\n') %}
{%- set content = content.split('</think>')[-1].lstrip('\n') %}
{%- endif %}
{%- if loop.index0 > ns.query and (loop.last or thought) %}
{%- set content = '<think>\n' + thought.strip('\n') + '\n</think>\n\n' + content.lstrip('\n') %}
{%- endif %}
{%- endif %}
{%- if message['role'] in ['system', 'user', 'assistant'] %}
{{- '<|im_start|>' + message['role'] + '\n' + content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\n\n</think>\n\n' }}
{%- endif %}
{%- endif %})";

constexpr const char* kLlama2 = R"({% set system = namespace() %}
{%- if messages[0]['role'] == 'system' %}
{%- set system.text = messages[0]['content'] %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
{%- set content = message['content'] %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- if loop.first and system.text is defined %}
{%- set content = '<<SYS>>\n' + system.text + '\n<</SYS>>\n\n' + content %}
{%- endif %}
{%- if message['role'] == 'user' %}
{{- bos_token + '[INST] ' + content.strip() + ' [/INST]' }}
{%- elif message['role'] == 'system' %}
{{- '<<SYS>>\n' + content.strip() + '\n<</SYS>>\n\n' }}
{%- elif message['role'] == 'assistant' %}
{{- ' ' + content.strip() + ' ' + eos_token }}
{%- endif %}
{%- endfor %})";

constexpr const char* kLlama3 = R"({% for message in messages %}
{%- if loop.first %}{{- bos_token }}{% endif %}
{{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
{{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %})";

constexpr const char* kMistral = R"({% if messages[0]['role'] == 'system' %}
{%- set system = messages[0]['content'] %}
{%- set messages = messages[1:] %}
{%- endif %}
{{- bos_token }}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{%- if message['role'] == 'user' %}
{{- '[INST] ' + (system + '\n\n' if loop.last and system is defined else '') }}
{{- message['content'] + '[/INST]' }}
{%- elif message['role'] == 'assistant' %}
{{- ' ' + message['content'] | trim + eos_token }}
{%- else %}
{{- raise_exception('Only user, assistant and one system message before them are supported') }}
{%- endif %}
{%- endfor %})";

constexpr const char* kMistral7 = R"({{ bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}
{{- '[INST] ' + message['content'] + '[/INST]' }}
{%- elif message['role'] == 'system' %}
{{- '[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]' }}
{%- elif message['role'] == 'assistant' %}
{{- ' ' + message['content'] + eos_token }}
{%- else %}
{{- raise_exception('Only user, system and assistant roles are supported') }}
{%- endif %}
{%- endfor %})";

// Gemma 2 has no system role; Gemma 3 puts the system prompt before the first question.
constexpr const char* kGemma = R"({{ bos_token }}
{%- if messages[0]['role'] == 'system' %}
{%- set system = messages[0]['content'] + '\n\n' %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- for message in messages %}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
{%- endif %}
{{- '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}
{{- (system if loop.first and system is defined else '') + message['content'] | trim }}
{{- '<end_of_turn>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\n' }}{% endif %})";

constexpr const char* kPhi3 = R"({% for message in messages %}
{%- if message['role'] in ['system', 'user', 'assistant'] %}
{{- '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}
{%- endif %}
{%- endfor %}
{{- '<|assistant|>\n' if add_generation_prompt else eos_token }})";

constexpr const char* kPhi4 = R"({% for message in messages %}
{%- if message['role'] in ['system', 'user'] %}
{{- '<|im_start|>' + message['role'] + '<|im_sep|>' + message['content'] + '<|im_end|>' }}
{%- if message['role'] == 'user' %}{{- '<|im_start|>assistant<|im_sep|>' }}{% endif %}
{%- elif message['role'] == 'assistant' %}
{{- message['content'] + '<|im_end|>' }}
{%- endif %}
{%- endfor %})";

constexpr const char* kDeepseekBegin = "<｜begin▁of▁sentence｜>";
constexpr const char* kDeepseekEnd = "<｜end▁of▁sentence｜>";

constexpr const char* kDeepseek2 = R"({{ bos_token }}
{%- for message in messages %}
{%- if message['role'] == 'user' %}{{- 'User: ' + message['content'] + '\n\n' }}
{%- elif message['role'] == 'assistant' %}{{- 'Assistant: ' + message['content'] + eos_token }}
{%- elif message['role'] == 'system' %}{{- message['content'] + '\n\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- 'Assistant:' }}{% endif %})";

// Answers are shown without their thoughts. R1 begins the next one.
#define RESURFACE_DEEPSEEK(thought)                                                             \
  "{% set ns = namespace(system='') %}"                                                         \
  "{%- for message in messages if message['role'] == 'system' %}"                               \
  "{%- set ns.system = ns.system + ('' if loop.first else '\\n\\n') + message['content'] %}"    \
  "{%- endfor %}{{ bos_token + ns.system }}"                                                    \
  "{%- for message in messages %}"                                                              \
  "{%- if message['role'] == 'user' %}{{ '<｜User｜>' + message['content'] }}"                \
  "{%- elif message['role'] == 'assistant' %}"                                                  \
  "{{ '<｜Assistant｜>' + message['content'].split('</think>')[-1] + eos_token }}{% endif %}" \
  "{%- endfor %}"                                                                               \
  "{%- if add_generation_prompt %}{{ '<｜Assistant｜>" thought "' }}{% endif %}"
constexpr const char* kDeepseek3 = RESURFACE_DEEPSEEK("");
constexpr const char* kDeepseekR1 = RESURFACE_DEEPSEEK("<think>\\n");
#undef RESURFACE_DEEPSEEK

constexpr const char* kKimi = R"({% for message in messages %}
{%- set role = message['role'] %}
{%- if loop.first and role != 'system' %}
{{- '<|im_system|>system<|im_middle|>' }}
{{- 'You are Kimi, an AI assistant created by Moonshot AI.<|im_end|>\n' }}
{%- endif %}
{{- '<|im_' + (role if role in ['user', 'assistant'] else 'system') + '|>' + role }}
{{- '<|im_middle|>' + message['content'] + '<|im_end|>' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_assistant|>assistant<|im_middle|>' }}{% endif %})";

constexpr const char* kMinimax = R"({{ '<begin_of_document>' }}
{%- set system = 'You are a helpful assistant created by Minimax based on MiniMax-M1 model.' %}
{%- if messages[0]['role'] == 'system' %}
{%- set system = messages[0]['content'] | trim %}
{%- set messages = messages[1:] %}
{%- endif %}
{%- if system %}
{{- '<beginning_of_sentence>system ai_setting=assistant\n' + system + '<end_of_sentence>\n' }}
{%- endif %}
{%- set names = {'user': 'user name=user\n', 'assistant': 'ai name=assistant\n'} %}
{%- for message in messages if message['role'] in names %}
{{- '<beginning_of_sentence>' + names[message['role']] + message['content'] | trim }}
{{- '<end_of_sentence>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<beginning_of_sentence>' + names['assistant'] }}{% endif %})";

constexpr const char* kOpenpangu = R"({% set names = {'system': '系统', 'user': '用户',
  'assistant': '助手'} %}
{%- for message in messages %}
{%- if loop.first %}{{- bos_token }}{% endif %}
{%- if loop.first and message['role'] != 'system' %}{{- '[unused9]系统：[unused10]' }}{% endif %}
{%- if message['role'] in names %}
{{- '[unused9]' + names[message['role']] + '：' + message['content'] + '[unused10]' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '[unused9]助手：' }}{% endif %})";

}  // namespace

std::span<const BuiltinChat> builtin_chat_formats() {
  static constexpr auto formats = std::to_array<BuiltinChat>({
      {"chatml", "<|im_start|>", "<|im_end|>", "<|im_end|>", kChatml},
      {"smollm2", "<|im_start|>", "<|im_end|>", "<|im_end|>", kSmollm2},
      {"llama2", "<s>", "</s>", "</s>", kLlama2},
      {"llama3", "<|begin_of_text|>", "<|eot_id|>", "<|eot_id|>", kLlama3},
      {"mistral", "<s>", "</s>", "</s>", kMistral},
      {"mistral-v7", "<s>", "</s>", "</s>", kMistral7},
      {"qwen2", "", "<|im_end|>", "<|im_end|>", kQwen2},
      {"qwen2.5", "", "<|im_end|>", "<|im_end|>", kQwen25},
      {"qwen3", "", "<|im_end|>", "<|im_end|>", kQwen3},
      {"gemma", "<bos>", "<eos>", "<end_of_turn>", kGemma},
      {"phi3", "<s>", "<|endoftext|>", "<|end|>", kPhi3},
      {"phi4", "<|endoftext|>", "<|im_end|>", "<|im_end|>", kPhi4},
      {"deepseek-v2", kDeepseekBegin, kDeepseekEnd, kDeepseekEnd, kDeepseek2},
      {"deepseek-v3", kDeepseekBegin, kDeepseekEnd, kDeepseekEnd, kDeepseek3},
      {"deepseek-r1", kDeepseekBegin, kDeepseekEnd, kDeepseekEnd, kDeepseekR1},
      {"kimi-k2", "[BOS]", "[EOS]", "<|im_end|>", kKimi},
      {"minimax-m1", "<begin_of_document>", "<end_of_sentence>", "<end_of_sentence>", kMinimax},
      {"openpangu", "<s>", "[unused10]", "[unused10]", kOpenpangu},
  });
  return formats;
}

}  // namespace resurface
