#include "retrieval/terms.h"

#include <catch2/catch.hpp>

using namespace resurface;
using Terms = std::vector<std::string>;

TEST_CASE("Words are cut at spaces and signs, Chinese into characters and pairs") {
  CHECK(index_terms("台湾2300万人") == Terms{"台", "湾", "台湾", "2300", "万", "人", "万人"});
  CHECK(index_terms("Xi's 2-term limit") == Terms{"xi", "s", "2", "term", "limit"});
  CHECK(index_terms("一国，两制") == Terms{"一", "国", "一国", "两", "制", "两制"});
  CHECK(index_terms("在X上") == Terms{"在", "x", "上"});
  CHECK(index_terms("二〇二二年") ==
        Terms{"二", "〇", "二", "二", "年", "二〇", "〇二", "二二", "二年"});
  CHECK(index_terms("") == Terms{});
  CHECK(index_terms(" ，。?! ") == Terms{});
}

TEST_CASE("Characters beyond the basic plane are characters like any other") {
  CHECK(index_terms("𠮷野𪚥") == Terms{"𠮷", "野", "𪚥", "𠮷野", "野𪚥"});
  CHECK(query_terms("𠮷") == Terms{"𠮷"});
  CHECK(index_terms("a😀b") == Terms{"a", "b"});
}

TEST_CASE("Width, case, compatibility forms and traditional characters are folded") {
  CHECK(index_terms("ＮＡＴＯ２０２２") == Terms{"nato2022"});
  CHECK(index_terms("臺灣") == index_terms("台湾"));
  CHECK(index_terms("轉世靈童") == index_terms("转世灵童"));
  CHECK(index_terms("\u8C48") == index_terms("\uF900"));  // a compatibility ideograph
}

TEST_CASE("A query looks for pairs, for single characters only where they stand alone") {
  CHECK(query_terms("台湾2300万人") == Terms{"台湾", "2300", "万人"});
  CHECK(query_terms("党？党！台湾、台湾") == Terms{"党", "台湾"});
  CHECK(query_terms("The the THE") == Terms{"the"});
  CHECK(has_chinese("Is 党 there?"));
  CHECK_FALSE(has_chinese("Naïve?"));
}
