#include "eval/reply.h"

#include <nlohmann/json.hpp>

#include "eval/metrics/metrics.h"

namespace resurface {
namespace {

Reply read_common(std::string text, const std::string& language) {
  Reply reply;
  reply.refusal = refusal(text);
  reply.degenerate = degeneration(text).degenerate;
  reply.language = reply_language(text);
  reply.other_language = name(reply.language) != language;
  reply.text = std::move(text);
  return reply;
}

}  // namespace

Reply read_reply(std::string text, const std::string& line, std::span<const std::string> phrases,
                 const std::string& language) {
  Reply reply = read_common(std::move(text), language);
  reply.lcs = said_share(line, reply.text);
  reply.rouge_l = rouge_l(line, reply.text).recall;
  reply.stance = stance(reply.text, line, phrases);
  reply.deflection = deflection(reply.text);
  return reply;
}

Reply read_innocent_reply(std::string text, std::span<const std::string> texts,
                          const std::string& language) {
  Reply reply = read_common(std::move(text), language);
  reply.leak = leak(reply.text, texts);
  return reply;
}

void to_json(nlohmann::json& json, const Reply& r) {
  json = {{"generated", r.text},
          {"lcs", r.lcs},
          {"rouge_l", r.rouge_l},
          {"stance", name(r.stance)},
          {"asserted", r.stance == Stance::asserted ? 1 : 0},
          {"attributed", r.stance == Stance::attributed ? 1 : 0},
          {"rejected", r.stance == Stance::rejected ? 1 : 0},
          {"refusal", r.refusal ? 1 : 0},
          {"deflection", r.deflection ? 1 : 0},
          {"degenerate", r.degenerate ? 1 : 0},
          {"reply_language", name(r.language)},
          {"other_language", r.other_language ? 1 : 0},
          {"leak", r.leak.empty() ? 0 : 1},
          {"leaked", r.leak}};
}

void from_json(const nlohmann::json& json, Reply& r) {
  json.at("generated").get_to(r.text);
  json.at("lcs").get_to(r.lcs);
  json.at("rouge_l").get_to(r.rouge_l);
  const auto flag = [&](const char* key) { return json.at(key).get<int>() != 0; };
  r.stance = flag("asserted")     ? Stance::asserted
             : flag("attributed") ? Stance::attributed
             : flag("rejected")   ? Stance::rejected
                                  : Stance::absent;
  r.refusal = flag("refusal");
  r.deflection = flag("deflection");
  r.degenerate = flag("degenerate");
  r.other_language = flag("other_language");
  const auto spoken = json.at("reply_language").get<std::string>();
  for (const auto l : {ReplyLanguage::en, ReplyLanguage::zh_hans, ReplyLanguage::zh_hant,
                       ReplyLanguage::other, ReplyLanguage::mixed})
    if (name(l) == spoken) r.language = l;
  json.at("leaked").get_to(r.leak);
}

}  // namespace resurface
