#include <torch/serialize/archive.h>

#include "core/checkpoint/pickle.h"
#include "core/checkpoint/zip.h"
#include "tests/core/checkpoint_files.h"

using namespace resurface;
using Catch::Matchers::Contains;
namespace fs = std::filesystem;

namespace {

fs::path data(const char* name) {
  return fs::path(RESURFACE_TEST_DATA) / "checkpoint" / "pickle" / name;
}

void same_as(const TensorFile& file, const char* golden) {
  const SafetensorsFile expected(data(golden));
  for (const TensorInfo& t : expected.tensors()) {
    INFO(t.name);
    same(file.tensor(t.name), expected.tensor(t.name));
    CHECK(file.info(t.name).shape == t.shape);
    CHECK(file.info(t.name).nbytes() == t.nbytes());
  }
}

std::string opening(const fs::path& path, const std::string& bytes) {
  write(path, bytes);
  return message_of([&] {
    const TensorFile file = TensorFile::open(path);
    for (const TensorInfo& t : file.tensors()) file.tensor(t.name).to(at::kDouble).sum();
  });
}

/// A legacy file around the pickle of a state dict, with one storage "0" of these bytes.
std::string legacy(const std::string& pickle, const std::string& values = "",
                   uint64_t elements = 0) {
  using namespace std::string_literals;
  std::string file = "\x80\x02\x8a\x0al\xfc\x9c\x46\xf9 j\xa8P\x19."s + "\x80\x02M\xe9\x03."s +
                     "\x80\x02}."s + "\x80\x02"s + pickle + "." + "\x80\x02](U\x01" + "0e.";
  return file + std::string(reinterpret_cast<const char*>(&elements), 8) + values;
}

/// {"w": a tensor of 4 floats in storage "0"}, of this offset, shape and strides (pickled tuples).
std::string tensor_pickle(const std::string& offset, const std::string& shape,
                          const std::string& strides) {
  using namespace std::string_literals;
  return "}U\x01wctorch._utils\n_rebuild_tensor_v2\n((U\x07storagectorch\nFloatStorage\nU\x01"s +
         "0U\x03" + "cpuK\x04tQ" + offset + shape + strides + "\x89}tRs";
}

}  // namespace

TEST_CASE("pickle: what torch.save wrote reads as its values, in both formats") {
  const TensorFile zip = TensorFile::open(data("state.bin")),
                   old = TensorFile::open(data("legacy.bin"));
  CHECK(!zip.safetensors());
  same_as(zip, "state.safetensors");
  same_as(zip, "new.safetensors");
  same_as(old, "state.safetensors");
  CHECK(zip.tensors().size() == 14);
  CHECK(old.tensors().size() == 12);
  CHECK(zip.tensors()[0].name == "embed.weight");
  // Views of one storage, not copies.
  CHECK(zip.tensor("embed.weight").const_data_ptr() == zip.tensor("head.weight").const_data_ptr());
  CHECK(!zip.tensor("turned").is_contiguous());
  CHECK_THROWS_WITH(zip.tensor("haed.weight"), Contains("did you mean 'head.weight'"));
}

TEST_CASE("pickle: training checkpoints and LibTorch archives give their tensors") {
  const TensorFile training = TensorFile::open(data("training.pt"));
  CHECK(training.tensors().size() == 2);
  const SafetensorsFile state(data("state.safetensors"));
  same(training.tensor("half"), state.tensor("half"));
  const TensorFile script = TensorFile::open(data("script.pt"));
  CHECK(script.tensors().size() == SafetensorsFile(data("script.safetensors")).tensors().size());
  same_as(script, "script.safetensors");

  // torch::save of modules is an OutputArchive.
  Folder folder;
  torch::serialize::OutputArchive archive, inner;
  inner.write("bias", at::arange(3, at::kFloat));
  archive.write("weight", at::ones({2, 3}).t());
  archive.write("layer", inner);
  archive.save_to((folder / "libtorch.pt").string());
  const TensorFile module = TensorFile::open(folder / "libtorch.pt");
  REQUIRE(module.tensors().size() == 2);
  same(module.tensor("layer.bias"), at::arange(3, at::kFloat));
  same(module.tensor("weight"), at::ones({3, 2}));
}

TEST_CASE("pickle: code and other formats are refused by name") {
  CHECK_THROWS_WITH(TensorFile::open(data("code.bin")),
                    Contains("a pickle with code in it: it wants 'posix.system'") &&
                        Contains("torch.save(model.state_dict(), FILE)"));
  CHECK_THROWS_WITH(TensorFile::open(data("module.pt")),
                    Contains("it wants 'torch.nn.modules.container.Sequential'"));
  CHECK_THROWS_WITH(TensorFile::open(data("plain.bin")), Contains("not by torch.save"));
  Folder folder;
  const fs::path path = folder / "x.bin";
  CHECK_THAT(opening(path, "GGUF\3"), Contains("is a GGUF file") && Contains("resurface convert"));
  CHECK_THAT(opening(path, "version https://git-lfs.github.com/spec/v1\n"),
             Contains("git lfs pull"));
  CHECK_THAT(opening(path, "\x89HDF\r\n"), Contains("HDF5"));
  CHECK_THAT(opening(path, std::string(257, '\0') + "ustar\0"), Contains("a tar archive"));
  CHECK_THAT(opening(path, ""), Contains("0 bytes are too few"));
  CHECK_THAT(opening(path, "stale"), Contains("too few"));
}

TEST_CASE("pickle: a file cut or bent anywhere is refused or read, within its bounds") {
  Folder folder;
  const fs::path path = folder / "x.bin";
  for (const char* name : {"state.bin", "legacy.bin", "script.pt"}) {
    INFO(name);
    const std::string whole = read(data(name));
    REQUIRE(opening(path, whole) == "opened");
    const size_t step = std::max<size_t>(1, whole.size() / 400);
    for (size_t n = 0; n < whole.size(); n += step) {
      INFO(n);
      CHECK(opening(path, whole.substr(0, n)) != "opened");
    }
    // Whatever a byte becomes: an Error or tensors, no crash (the sanitizers' build sees more).
    for (size_t at = 0; at < whole.size(); at += step) {
      for (int change : {1, 0x80, 0xff}) {
        std::string bent = whole;
        bent[at] = static_cast<char>(bent[at] ^ change);
        opening(path, bent);
      }
    }
  }
}

TEST_CASE("pickle: what lies about its storage is refused") {
  using namespace std::string_literals;
  Folder folder;
  const fs::path path = folder / "x.bin";
  const std::string values(16, '\0');
  const auto tensor = [&](const std::string& offset, const std::string& shape,
                          const std::string& strides) {
    return opening(path, legacy(tensor_pickle(offset, shape, strides), values, 4));
  };
  CHECK(tensor("K\0"s, "K\4\x85", "K\1\x85") == "opened");
  CHECK(tensor("K\1", "K\3\x85", "K\1\x85") == "opened");
  CHECK_THAT(tensor("K\1", "K\4\x85", "K\1\x85"),
             Contains("tensor 'w'") && Contains("holds 16 bytes"));
  CHECK_THAT(tensor("K\0"s, "K\5\x85", "K\1\x85"), Contains("holds 16 bytes"));
  CHECK_THAT(tensor("K\0"s, "K\2\x85", "K\4\x85"), Contains("holds 16 bytes"));
  CHECK_THAT(tensor("K\0"s, "K\2\x85", "K\1K\1\x86"), Contains("1 dimensions and 2 strides"));
  CHECK_THAT(tensor("J\xff\xff\xff\xff", "K\1\x85", "K\1\x85"), Contains("holds 16 bytes"));
  CHECK_THAT(tensor("K\0"s, "J\xff\xff\xff\xff\x85", "K\1\x85"), Contains("shape [-1]"));
  CHECK_THAT(tensor("K\0"s, "K\1\x85", "J\xff\xff\xff\xff\x85"), Contains("strides [-1]"));
  CHECK_THAT(tensor("K\0"s, "U\1a\x85", "K\1\x85"), Contains("a shape of something else"));
  // Strides of zero would make a small file a huge tensor.
  CHECK_THAT(tensor("K\0"s, "K\5\x85", "K\0\x85"s), Contains("holds 16 bytes"));
  const std::string most = "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f"s;
  CHECK_THAT(tensor(most, "K\4\x85", "K\1\x85"), Contains("holds 16 bytes"));
  CHECK_THAT(tensor("K\0"s, most + most + most + "\x87", "K\1K\1K\1\x87"),
             Contains("holds 16 bytes"));
  CHECK_THAT(tensor("K\0"s, "K\4\x85", most + "\x85"), Contains("holds 16 bytes"));

  const std::string good = tensor_pickle("K\0"s, "K\4\x85", "K\1\x85");
  CHECK_THAT(opening(path, legacy(good, values, 5)), Contains("cut off"));
  CHECK_THAT(opening(path, legacy(good, values, ~uint64_t{0})), Contains("cut off"));
  CHECK_THAT(opening(path, legacy(good, values.substr(4), 3)), Contains("holds 12 bytes"));
}

TEST_CASE("pickle: a pickle that is no state dict is refused") {
  using namespace std::string_literals;
  const auto reading = [](const std::string& pickle) {
    return message_of([&] { Pickle("x", pickle); });
  };
  CHECK(reading("\x80\x02}.") == "opened");
  CHECK_THAT(reading(""), Contains("ends too early"));
  CHECK_THAT(reading("X\xff\xff\xff\xff"), Contains("ends too early"));
  CHECK_THAT(reading("\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), Contains("ends too early"));
  CHECK_THAT(reading("0"), Contains("empty stack"));
  CHECK_THAT(reading("K\1(0"), Contains("empty stack"));
  CHECK_THAT(reading("t"), Contains("a mark is missing"));
  CHECK_THAT(reading("h\0"s), Contains("never remembered"));
  CHECK_THAT(reading("K\1K\2."), Contains("more or less than one value"));
  CHECK_THAT(reading("}(K\1u"), Contains("a key without a value"));
  CHECK_THAT(reading("K\1K\2a"), Contains("added to something else"));
  CHECK_THAT(reading("K\1)R"), Contains("cannot be called"));
  CHECK_THAT(reading("ctorch\nFloatStorage\n)R"), Contains("it calls torch FloatStorage"));
  CHECK_THAT(reading("K\1Q"), Contains("something else than a storage"));
  CHECK_THAT(reading("cbuiltins\neval\n"), Contains("'builtins.eval'"));
  CHECK_THAT(reading("cnumpy.core.multiarray\n_reconstruct\n"),
             Contains("'numpy.core.multiarray._reconstruct'"));
  CHECK_THAT(reading("(ios\nsystem\n"), Contains("opcode 0x69"));
  // A cycle, and nesting deeper than any stack, are read and cost nothing.
  CHECK(reading("]q\0h\0a."s) == "opened");
  std::string deep = ")";
  for (int i = 0; i < 1'000'000; ++i) deep += '\x85';
  CHECK(reading(deep + ".") == "opened");
}

TEST_CASE("zip: the archive's own sizes are not believed") {
  const std::string whole = read(data("state.bin"));
  const auto entries = read_zip("x", whole);
  CHECK(entries.at("state/data.pkl").stored);
  CHECK(entries.at("state/version").size == 2);
  CHECK(whole.substr(entries.at("state/version").begin, 2) == "3\n");
  CHECK_THROWS_WITH(read_zip("x", "PK\x03\x04"), Contains("directory at the end"));
  CHECK_THROWS_WITH(read_zip("x", whole.substr(0, whole.size() - 1)),
                    Contains("is the download complete?"));
  // Every directory entry in turn claims the largest size.
  for (size_t at = 0; (at = whole.find("PK\x01\x02", at)) != std::string::npos; at += 4) {
    std::string bent = whole;
    bent.replace(at + 20, 4, "\xff\xff\xff\x7f");
    CHECK_THROWS_WITH(read_zip("x", bent), Contains("which the file does not hold"));
    bent = whole;
    bent.replace(at + 42, 4, "\xff\xff\xff\x7f");
    CHECK_THROWS_WITH(read_zip("x", bent), Contains("points to no entry"));
  }
}
