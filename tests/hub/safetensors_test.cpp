// Reading and writing safetensors files: what the library writes, and every way in which a header can lie.
#include "hub/safetensors.h"

#include <sys/resource.h>
#include <unistd.h>

#include <csignal>

#include "json/node.h"
#include "tests/hub/support.h"

namespace hone::hub {
namespace {

using test::error_of;
using test::file_of;
using test::is_internal_error;
using test::read_text;
using test::TemporaryDirectory;
using test::write_text;

const fs::path kData = fs::path(HONE_TEST_DATA) / "hub";

std::shared_ptr<const SafetensorsFile> open_text(const TemporaryDirectory& directory,
                                                 std::string_view content) {
  write_text(directory / "m.safetensors", content);
  return SafetensorsFile::open(directory / "m.safetensors");
}

TEST(SafetensorsFile, ReadsWhatTheLibraryWrote) {
  const auto file = SafetensorsFile::open(kData / "all_dtypes.safetensors");
  const auto headers = JsonNode::read(kData / "headers.json");
  EXPECT_EQ(file->header(), headers.at("all_dtypes.safetensors").as_string());
  ASSERT_EQ(file->tensors().size(), 23U);
  EXPECT_EQ(file->metadata(), (Metadata{{"format", "pt"}}));
  EXPECT_EQ(file->tensors().front().spec.name, "b.uint64");
  const auto* scalar = file->find("a.scalar");
  ASSERT_NE(scalar, nullptr);
  EXPECT_EQ(scalar->spec.shape, Shape());
  EXPECT_EQ(scalar->spec.type->name, "F32");
  float value = 0;
  ASSERT_EQ(file->bytes(*scalar).size(), sizeof value);
  std::memcpy(&value, file->bytes(*scalar).data(), sizeof value);
  EXPECT_EQ(value, 1.5F);
  EXPECT_EQ(file->find("c.empty")->spec.shape, (Shape{0, 5}));
  EXPECT_TRUE(file->bytes(*file->find("c.empty")).empty());
  EXPECT_EQ(file->find("b.float8_e8m0fnu")->spec.type->dtype, std::nullopt);
  EXPECT_EQ(file->find("b.bfloat16")->spec.type->dtype, DType::kBF16);
  EXPECT_NE(file->find("quote \" backslash \\ tab \t and é"), nullptr);
  EXPECT_EQ(file->find("absent"), nullptr);
}

TEST(SafetensorsFile, ReadsAFileWithoutTensors) {
  const auto file = SafetensorsFile::open(kData / "empty.safetensors");
  EXPECT_TRUE(file->tensors().empty());
  EXPECT_EQ(file->metadata(), std::nullopt);
}

TEST(SafetensorsFile, TakesWhatTheLibraryTakes) {
  const TemporaryDirectory directory;
  const std::vector<std::pair<std::string, std::string>> legal{
      {" {}", ""},
      {"{}\n", ""},
      {"{\"__metadata__\":null}", ""},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0],\"unknown\":1}}", ""},
      {"{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", "xy"},
      {"{\"a\":{\"dtype\":\"F6_E2M3\",\"shape\":[2,2],\"data_offsets\":[0,3]}}", "xyz"},
      {"{\"a\":{\"dtype\":\"U8\",\"shape\":[0,9223372036854775807],\"data_offsets\":[0,0]}}", ""},
      // Header order need not be the order of the data; empty tensors may lie anywhere a tensor ends.
      {R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},)"
       R"("e":{"dtype":"F32","shape":[0],"data_offsets":[1,1]},"f":{"dtype":"F32","shape":[0],"data_offsets":[3,3]}})",
       "xyz"},
  };
  for (const auto& [header, data] : legal)
    EXPECT_NO_THROW(open_text(directory, file_of(header, data))) << header;
}

struct Lie {
  const char* header;
  const char* data;
  const char* message;
};

TEST(SafetensorsFile, RefusesEveryLieInOneLine) {
  const std::vector<Lie> lies{
      {"", "", "header):1:1: not valid JSON"},
      {"[]", "", "the header is not a JSON object"},
      {"nonsense", "", "not valid JSON"},
      {"{\"a\":", "", "not valid JSON"},
      {"{} x", "", "not valid JSON"},
      {"{\"\xff\":1}", "", "not valid JSON"},
      {R"({"a":1})", "", "tensor a is not described by an object"},
      {R"({"a":{}})", "", "tensor a has no dtype"},
      {R"({"a":{"dtype":"F32","shape":[1]}})", "", "tensor a has no data_offsets"},
      {R"({"a":{"dtype":"F32","data_offsets":[0,4]}})", "1234", "tensor a has no shape"},
      {R"({"a":{"dtype":7,"shape":[1],"data_offsets":[0,4]}})", "1234", "dtype is not a string"},
      {R"({"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}})", "1234",
       "unknown dtype \"F33\"; known: BOOL, F4"},
      {R"({"a":{"dtype":"F32","shape":4,"data_offsets":[0,4]}})", "1234", "shape is not a list"},
      {R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", "1234", "shape holds -1"},
      {R"({"a":{"dtype":"F32","shape":[1.0],"data_offsets":[0,4]}})", "1234", "shape holds 1.0"},
      {R"({"a":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", "1234", "shape holds \"1\""},
      {R"({"a":{"dtype":"F32","shape":[true],"data_offsets":[0,4]}})", "1234", "shape holds true"},
      {R"({"a":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}})", "1234",
       "from 0 to 2^63-1"},
      {R"({"a":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,4]}})", "1234",
       "from 0 to 2^63-1"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]}})", "",
       "is not a number of bytes"},
      {R"({"a":{"dtype":"F32","shape":[4294967296,4294967296,0],"data_offsets":[0,0]}})", "",
       "not a number of bytes"},
      {R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]}})", "",
       "is not a number of bytes"},
      {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,2]}})", "12", "is not a number of bytes"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", "1234", "data_offsets has 1 numbers"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,4]}})", "1234", "data_offsets has 3 numbers"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":{}}})", "1234", "data_offsets is not a list"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", "1234", "data_offsets holds -4"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", "1234",
       "[4, 0] do not lie in the file's 4 bytes"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})", "1234",
       "[4, 8] do not lie in the file's 4 bytes"},
      {R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,9223372036854775807]}})", "1234", "do not lie"},
      {R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", "1234",
       "hold 4 bytes, F32 of shape (2) has 8"},
      {R"({"a":{"dtype":"F32","shape":[],"data_offsets":[0,0]}})", "", "hold 0 bytes, F32 of shape () has 4"},
      {R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,4]}})", "1234",
       "hold 4 bytes, U8 of shape (0) has 0"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})", "1234",
       "begins at byte 2, but the bytes from 0 on"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "1234", "tensor b begins at byte 2, but the bytes from 1 on belong to no tensor"},
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
       "1234", "tensor b begins at byte 2, inside tensor a that ends at 3"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
       "1234", "begins at byte 0, inside tensor"},
      {R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"z":{"dtype":"U8","shape":[0],"data_offsets":[2,2]}})",
       "1234", "tensor z begins at byte 2, inside tensor a"},
      {R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", "1234",
       "cover 3 bytes, but 4 bytes of data follow"},
      {"{}", "1", "cover 0 bytes, but 1 bytes of data follow"},
      {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
       "1", "key \"a\" appears twice"},
      {R"({"a":{"dtype":"U8","dtype":"U8","shape":[1],"data_offsets":[0,1]}})", "1",
       "key \"dtype\" appears twice"},
      {R"({"__metadata__":[]})", "", "__metadata__ is not an object of strings"},
      {R"({"__metadata__":{"format":1}})", "", "__metadata__.format is not a string"},
      {"{\"a\\nb\":1}", "", "tensor a\\nb is not described"},
  };
  const TemporaryDirectory directory;
  for (const auto& lie : lies) {
    const std::string what = error_of([&] { open_text(directory, file_of(lie.header, lie.data)); });
    EXPECT_CONTAINS(what, lie.message);
    EXPECT_CONTAINS(what, (directory / "m.safetensors").string());
  }
}

TEST(SafetensorsFile, RefusesAFileCutShortOrOfAnotherKind) {
  const TemporaryDirectory directory;
  const std::string good = file_of(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})", "1234");
  for (std::size_t length = 0; length < good.size(); ++length) {
    const std::string what = error_of([&] { open_text(directory, good.substr(0, length)); });
    EXPECT_CONTAINS(what, "m.safetensors: ");
  }
  EXPECT_CONTAINS(error_of([&] { open_text(directory, std::string(8, '\xff')); }),
                  "18446744073709551615 bytes");
  std::string huge = good;
  const std::uint64_t too_long = kMaxHeaderBytes + 1;
  std::memcpy(huge.data(), &too_long, 8);
  EXPECT_CONTAINS(error_of([&] { open_text(directory, huge); }), "above the format's limit of 100000000");
  EXPECT_CONTAINS(
      error_of([&] { open_text(directory, "version https://git-lfs.github.com/spec/v1\noid sha256:0\n"); }),
      "git lfs pull");
  EXPECT_CONTAINS(error_of([&] { SafetensorsFile::open(directory / "absent"); }), "cannot open");
  EXPECT_CONTAINS(error_of([&] { SafetensorsFile::open(directory.path()); }), "is a directory");
}

TEST(SafetensorsFile, CutsLongNamesInMessages) {
  const TemporaryDirectory directory;
  const std::string name(100000, 'n');
  error_of([&] {
    open_text(directory, file_of("{\"" + name + "\":{\"dtype\":\"" + name + "\",\"shape\":[]}}", ""));
  });
  error_of([&] { open_text(directory, file_of("{\"" + name + "\":1,\"" + name + "\":1}", "")); });
  std::string dims = "1";
  for (int i = 0; i < 1000; ++i) dims += ",1";
  error_of([&] {
    open_text(directory,
              file_of("{\"a\":{\"dtype\":\"F32\",\"shape\":[" + dims + "],\"data_offsets\":[0,0]}}", ""));
  });
}

std::vector<TensorSpec> specs_of(const SafetensorsFile& file) {
  std::vector<TensorSpec> specs;
  for (const auto& tensor : file.tensors()) specs.push_back(tensor.spec);
  return specs;
}

TEST(SafetensorsWriter, WritesTheLibrarysBytesWhateverTheOrder) {
  const TemporaryDirectory directory;
  for (const char* name : {"all_dtypes.safetensors", "empty.safetensors"}) {
    const auto source = SafetensorsFile::open(kData / name);
    auto specs = specs_of(*source);
    std::reverse(specs.begin(), specs.end());
    if (specs.size() > 2) std::swap(specs.front(), specs[specs.size() / 2]);
    SafetensorsWriter writer(directory / name, specs, source->metadata());
    for (const auto& spec : specs) writer.write(spec.name, source->bytes(*source->find(spec.name)));
    EXPECT_TRUE(writer.is_complete());
    EXPECT_FALSE(fs::exists(directory / name));
    writer.finish();
    EXPECT_EQ(read_text(directory / name), read_text(kData / name));
  }
}

TEST(SafetensorsWriter, OrdersEveryTypeByRank) {
  // From the library's Dtype enum, largest first; the reference file has all that torch can write.
  const std::vector<std::string> order{"U64",         "I64",     "F64",     "C64",     "F32", "U32",
                                       "I32",         "BF16",    "F16",     "U16",     "I16", "F8_E5M2FNUZ",
                                       "F8_E4M3FNUZ", "F8_E8M0", "F8_E4M3", "F8_E5M2", "I8",  "U8",
                                       "F6_E3M2",     "F6_E2M3", "F4",      "BOOL"};
  std::vector<TensorSpec> specs;
  for (std::size_t i = 0; i < order.size(); ++i)
    specs.push_back({fmt::format("t{}", (i * 7) % order.size()), find_stored_type(order[i]), Shape{8}});
  std::vector<StoredTensor> placed;
  make_header(specs, std::nullopt, &placed);
  ASSERT_EQ(placed.size(), order.size());
  for (std::size_t i = 0; i < order.size(); ++i) EXPECT_EQ(placed[i].spec.type->name, order[i]);
}

TEST(SafetensorsWriter, KeepsAForeignHeaderByteForByte) {
  const TemporaryDirectory directory;
  const std::string odd = file_of(
      "  {\"b\": {\"shape\": [2], \"dtype\": \"U8\", \"data_offsets\": [1, 3], \"x\": null},\n "
      "\"__metadata__\": {\"z\": "
      "\"1\", \"a\": \"2\"}, \"a\": {\"dtype\": \"U8\", \"shape\": [1], \"data_offsets\": [0, 1]}}\n",
      "xyz");
  const auto source = open_text(directory, odd);
  SafetensorsWriter writer(directory / "copy", *source);
  writer.write("b", source->bytes(*source->find("b")));
  writer.write("a", source->bytes(*source->find("a")));
  writer.finish();
  EXPECT_EQ(read_text(directory / "copy"), odd);
}

TEST(SafetensorsWriter, TakesTensorsInParts) {
  const TemporaryDirectory directory;
  SafetensorsWriter writer(directory / "f", {{"a", find_stored_type("U8"), Shape{6}}}, std::nullopt);
  const std::string text = "abcdef";
  const auto bytes = std::as_bytes(std::span(text));
  writer.write_part("a", 4, bytes.subspan(4));
  writer.write_part("a", 0, bytes.first(3));
  EXPECT_FALSE(writer.is_complete());
  EXPECT_TRUE(is_internal_error([&] { writer.finish(); }));
  EXPECT_TRUE(is_internal_error([&] { writer.write_part("a", 5, bytes.first(2)); }));
  EXPECT_TRUE(is_internal_error([&] { writer.write_part("b", 0, bytes.first(1)); }));
  EXPECT_TRUE(is_internal_error([&] { writer.write("a", bytes.first(2)); }));
  writer.write_part("a", 3, bytes.subspan(3, 1));
  writer.finish();
  const auto file = SafetensorsFile::open(directory / "f");
  const auto written = file->bytes(*file->find("a"));
  EXPECT_EQ(std::string(reinterpret_cast<const char*>(written.data()), written.size()), text);
}

TEST(SafetensorsWriter, RefusesTwoTensorsOfOneName) {
  const TemporaryDirectory directory;
  const TensorSpec spec{"a", find_stored_type("U8"), Shape{1}};
  EXPECT_TRUE(is_internal_error([&] { SafetensorsWriter(directory / "f", {spec, spec}, std::nullopt); }));
  EXPECT_TRUE(test::names_in(directory.path()).empty());
}

TEST(SafetensorsWriter, LeavesTheOldFileWhereItIsNotFinished) {
  const TemporaryDirectory directory;
  write_text(directory / "f", "old");
  {
    SafetensorsWriter writer(directory / "f", {{"a", find_stored_type("U8"), Shape{1}}}, std::nullopt);
    EXPECT_EQ(read_text(directory / "f"), "old");
  }
  EXPECT_EQ(test::names_in(directory.path()), std::vector<std::string>{"f"});
  EXPECT_EQ(read_text(directory / "f"), "old");
}

/// No file may grow beyond `bytes` meanwhile: stands for a full disk.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : old_handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, old_handler_);
  }

 private:
  rlimit old_{};
  void (*old_handler_)(int);
};

TEST(SafetensorsWriter, RemovesTheTemporaryWhenAWriteFails) {
  const TemporaryDirectory directory;
  write_text(directory / "f", "old");
  std::string what;
  {
    const FileSizeLimit limit(4096);
    what = error_of([&] {
      SafetensorsWriter(directory / "f", {{"a", find_stored_type("U8"), Shape{100000}}}, std::nullopt);
    });
  }
  EXPECT_CONTAINS(what, (directory / "f").string() + ": cannot reserve its space: File too large");
  EXPECT_EQ(test::names_in(directory.path()), std::vector<std::string>{"f"});
  EXPECT_EQ(read_text(directory / "f"), "old");
}

TEST(SafetensorsWriter, NamesThePathItCannotCreate) {
  const TemporaryDirectory directory;
  write_text(directory / "file", "");
  const auto open = [&](const std::string& path) {
    return error_of([&] { SafetensorsWriter(directory / path, {}, std::nullopt); });
  };
  EXPECT_CONTAINS(open("absent/f"), "absent/f: cannot create: No such file or directory");
  EXPECT_CONTAINS(open("file/f"), "file/f: cannot create: Not a directory");
  fs::create_directory(directory / "taken");
  write_text(directory / "taken/x", "");
  EXPECT_CONTAINS(open("taken"), "taken: cannot create: Is a directory");
  EXPECT_EQ(test::names_in(directory.path()), (std::vector<std::string>{"file", "taken"}));
}

TEST(StoredType, KnowsEveryDType) {
  for (const DType dtype :
       {DType::kF32, DType::kBF16, DType::kF16, DType::kF64, DType::kF8E4M3, DType::kF8E5M2, DType::kI64,
        DType::kI32, DType::kI16, DType::kI8, DType::kU8, DType::kBool}) {
    const auto& type = stored_type(dtype);
    EXPECT_EQ(type.dtype, dtype);
    EXPECT_EQ(static_cast<std::size_t>(type.bits), 8 * size_of(dtype));
    EXPECT_EQ(find_stored_type(type.name), &type);
  }
  EXPECT_EQ(find_stored_type("F128"), nullptr);
}

}  // namespace
}  // namespace hone::hub
