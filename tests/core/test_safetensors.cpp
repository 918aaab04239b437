#include <sys/resource.h>

#include <csignal>

#include "tests/core/checkpoint_files.h"

using namespace resurface;
using Catch::Matchers::Contains;
using Catch::Matchers::EndsWith;
namespace fs = std::filesystem;

namespace {

std::string with_length(const std::string& header, const std::string& data = "") {
  uint64_t length = header.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + header + data;
}

using Tensors = std::vector<std::pair<std::string, at::Tensor>>;

}  // namespace

TEST_CASE("safetensors: a file of the Python package reads as its values") {
  SafetensorsFile file(fs::path(RESURFACE_TEST_DATA) / "checkpoint/python.safetensors");
  CHECK(file.metadata() == std::map<std::string, std::string>{{"note", "from Python: 台湾"}});
  REQUIRE(file.tensors().size() == 9);
  same(file.tensor("double"), at::tensor({0.5, -2.0}, at::kDouble));
  same(file.tensor("float"), at::arange(6, at::kFloat).view({2, 3}) / 4);
  same(file.tensor("half"), at::tensor({1.5, -0.25}).to(at::kHalf).view({2, 1}));
  same(file.tensor("brain"), at::tensor({1.5, -3.0}).to(at::kBFloat16));
  same(file.tensor("long"), at::scalar_tensor(-(int64_t{1} << 40), at::kLong));
  same(file.tensor("int"), at::tensor({7, -7}, at::kInt));
  same(file.tensor("bytes"), at::tensor({0, 127, 255}, at::kByte));
  same(file.tensor("flags"), at::tensor({1, 0, 1}).to(at::kBool));
  same(file.tensor("empty"), at::empty({0, 4}));
  CHECK_THROWS_WITH(file.info("flaot"), Contains("no tensor 'flaot'") && Contains("float"));
}

TEST_CASE("safetensors: the writer's bytes are those of the Python package") {
  fs::path golden = fs::path(RESURFACE_TEST_DATA) / "checkpoint/python.safetensors";
  SafetensorsFile file(golden);
  Tensors tensors;
  for (const TensorInfo& t : file.tensors()) tensors.emplace_back(t.name, file.tensor(t.name));
  Folder folder;
  write_safetensors(folder / "ours.safetensors", tensors, file.metadata());
  CHECK(read(folder / "ours.safetensors") == read(golden));
  CHECK(names_in(folder.path()) == std::set<std::string>{"ours.safetensors"});
}

TEST_CASE("safetensors: any tensor comes back as it was") {
  Folder folder;
  at::Tensor base = at::arange(24, at::kFloat).view({4, 6});
  Tensors tensors = {{"odd", at::tensor({1, 2, 3}, at::kByte)},  // what follows is not aligned
                     {"float after odd", base},
                     {"transposed", base.t()},
                     {"strided", base.slice(1, 1, 6, 2)},
                     {"expanded", at::ones({1}).expand({3, 2})},
                     {"scalar", at::scalar_tensor(2.5)},
                     {"f8", base.to(at::ScalarType::Float8_e4m3fn)},
                     {"quote \" and 台湾", at::zeros({1})}};
  write_safetensors(folder / "x.safetensors", tensors, {});
  at::Tensor kept;
  {
    SafetensorsFile file(folder / "x.safetensors");
    CHECK(file.metadata().empty());
    for (size_t i = 0; i < tensors.size(); ++i) {
      const auto& [name, value] = tensors[i];
      CHECK(file.tensors()[i].name == name);
      CHECK(file.tensor(name).sizes() == value.sizes());
      same(file.tensor(name).to(at::kFloat), value.to(at::kFloat));
      CHECK(file.tensor(name).scalar_type() == value.scalar_type());
    }
    kept = file.tensor("scalar");
  }
  CHECK(kept.item<float>() == 2.5f);  // a view keeps the mapping alive
}

TEST_CASE("safetensors: what cannot be written is refused") {
  Folder folder;
  fs::path path = folder / "x.safetensors";
  at::Tensor t = at::zeros({1});
  CHECK_THROWS_WITH(write_safetensors(path, {{"a", t}, {"a", t}}),
                    Contains("'a' would be written twice"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"a", t.to(at::kComplexFloat)}}),
                    Contains("ComplexFloat"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"a", t.to_sparse()}}), Contains("layout Sparse"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"a", at::Tensor()}}), Contains("'a' is undefined"));
  CHECK_THROWS_WITH(write_safetensors(path, {{"\xff", t}}), Contains("not valid UTF-8"));
  CHECK(names_in(folder.path()).empty());
}

TEST_CASE("safetensors: a failed write leaves the old file and no other") {
  Folder folder;
  fs::path path = folder / "x.safetensors";
  write_safetensors(path, {{"a", at::ones({4})}});
  std::string before = read(path);

  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  rlimit small = old;
  small.rlim_cur = 1 << 20;
  ::setrlimit(RLIMIT_FSIZE, &small);
  std::string message;
  try {
    write_safetensors(path, {{"a", at::ones({1 << 20})}});
  } catch (const Error& error) {
    message = error.what();
  }
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, old_handler);

  CHECK_THAT(message, Contains("x.safetensors: failed writing: File too large"));
  CHECK(read(path) == before);
  CHECK(names_in(folder.path()) == std::set<std::string>{"x.safetensors"});

  // An expanded tensor announces more bytes than any disk has, and holds four.
  at::Tensor huge = at::ones({1}).expand({int64_t{1} << 55});
  CHECK_THROWS_WITH(write_safetensors(path, {{"a", huge}}), Contains("this disk has"));
  CHECK(read(path) == before);
}

TEST_CASE("safetensors: malformed files are refused, saying what is wrong") {
  Folder folder;
  fs::path path = folder / "bad.safetensors";
  auto message = [&](const std::string& bytes) -> std::string {
    write(path, bytes);
    try {
      SafetensorsFile file(path);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  auto entry = [](const std::string& dtype, const std::string& shape, const std::string& offsets) {
    return fmt::format(R"({{"dtype":"{}","shape":{},"data_offsets":{}}})", dtype, shape, offsets);
  };
  auto one = [&](const std::string& dtype, const std::string& shape, const std::string& offsets,
                 size_t bytes) {
    return message(
        with_length("{\"x\":" + entry(dtype, shape, offsets) + "}", std::string(bytes, '\0')));
  };
  REQUIRE(one("F32", "[2]", "[0,8]", 8) == "accepted");

  SECTION("truncated at every length") {
    std::string whole = read(fs::path(RESURFACE_TEST_DATA) / "checkpoint/python.safetensors");
    REQUIRE(message(whole) == "accepted");
    for (size_t n = 0; n < whole.size(); ++n) {
      INFO(n);
      CHECK(message(whole.substr(0, n)) != "accepted");
    }
    CHECK_THAT(message(""), Contains("0 bytes are too few"));
    CHECK_THAT(message(whole.substr(0, 100)), Contains("the file has only 92"));
    CHECK_THAT(message(whole.substr(0, whole.size() - 1)), Contains("lie past the end"));
    CHECK_THAT(message(whole + "z"), Contains("1 bytes at the end belong to no tensor"));
  }
  SECTION("header length") {
    CHECK_THAT(message(std::string(8, '\xff') + "{}"),
               Contains("header of 18446744073709551615 bytes"));
    CHECK_THAT(message(std::string("\x01\xe1\xf5\x05\0\0\0\0", 8) + "{}"),
               Contains("at most 100000000"));
  }
  SECTION("not a JSON object") {
    CHECK_THAT(message(with_length("")), Contains("not a JSON object"));
    CHECK_THAT(message(with_length("[]")), Contains("not a JSON object"));
    CHECK_THAT(message(with_length("{\"x\":")), Contains("not valid JSON"));
    CHECK_THAT(message(with_length("{\"\xff\":1}")), Contains("not valid JSON"));
    CHECK_THAT(message(with_length("{\"x\":[[[[[]]]]]}")), Contains("nested too deep"));
    CHECK_THAT(message(with_length("{\"x\":3}")),
               Contains("tensor 'x': expected an object, got number"));
  }
  SECTION("repeated keys") {
    std::string x = "\"x\":" + entry("U8", "[0]", "[0,0]");
    CHECK_THAT(message(with_length("{" + x + "," + x + "}")),
               Contains("'x' is in the header twice"));
    CHECK_THAT(message(with_length(
                   R"({"x":{"dtype":"U8","dtype":"U8","shape":[0],"data_offsets":[0,0]}})")),
               Contains("'dtype' is in the header twice"));
  }
  SECTION("fields") {
    CHECK_THAT(message(with_length(R"({"x":{"dtype":"U8","shape":[0]}})")),
               Contains("'data_offsets' is missing"));
    CHECK_THAT(
        message(with_length(R"({"x":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"y":1}})")),
        Contains("unknown key 'y'"));
    CHECK_THAT(message(with_length(R"({"x":{"dtype":3,"shape":[0],"data_offsets":[0,0]}})")),
               Contains("dtype: expected a string, got 3"));
    CHECK_THAT(message(with_length(R"({"__metadata__":{"a":1}})")),
               Contains("__metadata__: 'a': expected a string"));
    CHECK_THAT(message(with_length(R"({"__metadata__":"a"})")), Contains("expected an object"));
    CHECK_THAT(one("Q4", "[2]", "[0,8]", 8), Contains("unknown dtype 'Q4'; known: F64, F32"));
  }
  SECTION("shape") {
    CHECK_THAT(one("F32", "[-2]", "[0,8]", 8),
               Contains("shape: expected a whole number") && Contains("got -2"));
    CHECK_THAT(one("F32", "[2.0]", "[0,8]", 8), Contains("got 2.0"));
    CHECK_THAT(one("F32", "2", "[0,8]", 8), Contains("shape: expected a list, got 2"));
    CHECK_THAT(one("F32", "[18446744073709551615]", "[0,8]", 8),
               Contains("got 18446744073709551615"));
    CHECK_THAT(one("F32", "[99999999999999999999999]", "[0,8]", 8),
               Contains("shape: expected a whole number"));
    CHECK_THAT(one("F32", "[4611686018427387904,4]", "[0,0]", 0), Contains("overflow 64 bits"));
    CHECK_THAT(
        one("F32", "[8, 16]", "[0,480]", 480),
        EndsWith("tensor 'x': expected 512 bytes (shape [8, 16], F32), data_offsets give 480"));
  }
  SECTION("offsets") {
    CHECK_THAT(one("F32", "[2]", "[0,16]", 8),
               Contains("lie past the end: the file holds 8 bytes"));
    CHECK_THAT(one("F32", "[2]", "[8,0]", 8), Contains("end before they begin"));
    CHECK_THAT(one("F32", "[2]", "[-8,0]", 8), Contains("data_offsets: expected a whole number"));
    CHECK_THAT(one("F32", "[2]", "[0]", 8), Contains("expected [begin, end]"));
    CHECK_THAT(one("F32", "[2]", "[4,12]", 12),
               Contains("4 bytes before tensor 'x' belong to no tensor"));
    auto two = [&](const std::string& a, const std::string& b, size_t bytes) {
      return message(
          with_length("{\"a\":" + entry("U8", "[4]", a) + ",\"b\":" + entry("U8", "[4]", b) + "}",
                      std::string(bytes, '\0')));
    };
    CHECK(two("[4,8]", "[0,4]", 8) == "accepted");
    CHECK_THAT(two("[0,4]", "[2,6]", 6), Contains("tensors 'a' and 'b' overlap by 2 bytes"));
    CHECK_THAT(two("[0,4]", "[0,4]", 4), Contains("overlap by 4 bytes"));
    CHECK_THAT(two("[0,4]", "[6,10]", 10), Contains("2 bytes before tensor 'b'"));
  }
  CHECK_THROWS_WITH(SafetensorsFile(folder / "none"), Contains("No such file"));
  CHECK_THROWS_WITH(SafetensorsFile(folder.path()), Contains("not a regular file"));
}
