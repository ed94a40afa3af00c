// A group of one rank, the checks that every kind of group shares, and the mesh of ones.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "comm/communicator.h"
#include "comm/mesh.h"

namespace hone::comm {
namespace {

using testing::ElementsAre;
using testing::StartsWith;

std::string message_of(const std::function<void()>& f, ErrorKind kind) {
  try {
    f();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), kind);
    return e.what();
  }
  return "no error";
}

class Self : public testing::Test {
 protected:
  Tensor floats(std::vector<float> values, Shape shape) {
    return Tensor::from<float>(stream_, values, std::move(shape));
  }
  std::string internal(const std::function<void()>& f) { return message_of(f, ErrorKind::kInternal); }

  std::shared_ptr<device::Allocator> allocator_ = device::make_allocator({});
  device::CpuStream stream_{allocator_, 1};
  std::shared_ptr<Communicator> self_ = make_self_communicator();
};

TEST_F(Self, IsRankZeroOfOne) {
  EXPECT_EQ(self_->rank(), 0);
  EXPECT_EQ(self_->size(), 1);
  self_->barrier(stream_);
}

TEST_F(Self, ReductionsAreTheIdentity) {
  const Tensor x = floats({1, -2, 3, 4}, {2, 2});
  for (const auto reduction : {Reduction::kSum, Reduction::kAverage, Reduction::kMax})
    self_->all_reduce(x, reduction, stream_);
  self_->broadcast(x, 0, stream_);
  EXPECT_THAT(x.span<float>(), ElementsAre(1, -2, 3, 4));
}

TEST_F(Self, ExchangesCopy) {
  const Tensor x = floats({1, 2, 3, 4, 5, 6}, {3, 2});
  const auto target = [&] { return floats({0, 0, 0, 0, 0, 0}, {3, 2}); };
  const Tensor gathered = target();
  const Tensor scattered = target();
  const Tensor exchanged = target();
  self_->all_gather(x, gathered, stream_);
  self_->reduce_scatter(x, scattered, Reduction::kSum, stream_);
  self_->all_to_all(x, {3}, exchanged, {3}, stream_);
  for (const Tensor& t : {gathered, scattered, exchanged})
    EXPECT_THAT(t.span<float>(), ElementsAre(1, 2, 3, 4, 5, 6));
}

TEST_F(Self, PartMayBeItsOwnPlaceInWhole) {
  const Tensor x = floats({1, 2}, {2});
  self_->all_gather(x.rows(0, 2), x, stream_);
  self_->reduce_scatter(x, x.rows(0, 2), Reduction::kAverage, stream_);
  EXPECT_THAT(x.span<float>(), ElementsAre(1, 2));
}

TEST_F(Self, WorksOnMetaTensors) {
  device::MetaStream meta(1);
  const Tensor a = Tensor::empty(meta.allocator(), {4, 2}, DType::kBF16);
  const Tensor b = Tensor::empty(meta.allocator(), {4, 2}, DType::kBF16);
  self_->all_reduce(a, Reduction::kSum, meta);
  self_->all_gather(a, b, meta);
  self_->all_to_all(a, {4}, b, {4}, meta);
}

TEST_F(Self, ArgumentsThatDoNotFitAreNamed) {
  const Tensor a = floats({1, 2, 3, 4}, {2, 2});
  const Tensor b = floats({1, 2}, {1, 2});
  EXPECT_THAT(internal([&] { self_->all_reduce({}, Reduction::kSum, stream_); }),
              StartsWith("[comm.all_reduce] tensor is undefined"));
  EXPECT_THAT(internal([&] { self_->all_reduce(a.columns(0, 1), Reduction::kSum, stream_); }),
              StartsWith("[comm.all_reduce] tensor (2, 1) is not contiguous"));
  const Tensor ints = Tensor::empty(*allocator_, {2}, DType::kI32);
  self_->all_reduce(ints, Reduction::kMax, stream_);
  EXPECT_THAT(internal([&] { self_->all_reduce(ints, Reduction::kAverage, stream_); }),
              StartsWith("[comm.all_reduce] cannot average i32"));
  EXPECT_THAT(internal([&] { self_->all_gather(a, b, stream_); }),
              StartsWith("[comm.all_gather] part f32 (2, 2) and whole f32 (1, 2) over 1 ranks"));
  EXPECT_THAT(internal([&] { self_->reduce_scatter(a, b, Reduction::kSum, stream_); }),
              StartsWith("[comm.reduce_scatter] part f32 (1, 2) and whole f32 (2, 2) over 1 ranks"));
  EXPECT_THAT(internal([&] { self_->broadcast(a, 1, stream_); }),
              StartsWith("[comm.broadcast] from rank 1 of 1"));
  EXPECT_THAT(internal([&] { self_->all_to_all(a, {1}, a, {2}, stream_); }),
              StartsWith("[comm.all_to_all] send (2, 2) in 1 pieces over 1 ranks, which do not add up"));
  EXPECT_THAT(internal([&] { self_->all_to_all(a, {2}, b, {1}, stream_); }),
              StartsWith("[comm.all_to_all] rank 0 sends itself 2 rows and takes 1"));
  EXPECT_THAT(internal([&] {
                self_->all_to_all(a, {2}, floats({1, 2}, {2, 1}), {2}, stream_);
              }),
              StartsWith("[comm.all_to_all] rows of f32 (2, 2) and of f32 (2, 1)"));
}

TEST(Mesh, OfOnesHasEveryDimension) {
  const Mesh mesh = Mesh::ones();
  EXPECT_EQ(mesh.size(), 1);
  for (const auto dim : {MeshDim::kPp, MeshDim::kDpReplicate, MeshDim::kDpShard, MeshDim::kCp, MeshDim::kTp,
                         MeshDim::kEpShard, MeshDim::kEp}) {
    EXPECT_EQ(mesh.size(dim), 1) << name_of(dim);
    EXPECT_EQ(mesh.rank(dim), 0) << name_of(dim);
  }
  EXPECT_EQ(mesh.data().size(), 1);
  EXPECT_EQ(mesh.world().size(), 1);
  EXPECT_EQ(mesh.str(), "1 rank");
}

TEST(Mesh, TakesOnesFromARecipe) {
  EXPECT_EQ(Mesh::parse({}).size(), 1);
  EXPECT_EQ(
      Mesh::parse(
          {{"pp", 1}, {"dp_replicate", 1}, {"dp_shard", 1}, {"cp", 1}, {"tp", 1}, {"ep_shard", 1}, {"ep", 1}})
          .size(),
      1);
}

TEST(Mesh, RefusesOtherSizesByName) {
  const auto message = [](const std::string& name, std::int64_t size, std::string_view where = {}) {
    return message_of([&] { Mesh::parse({{"tp", 1}, {name, size}}, where); }, ErrorKind::kUser);
  };
  EXPECT_EQ(message("ep", 8),
            "mesh.ep: 8 ranks; only a mesh of ones exists yet, so leave it out or set it to 1");
  EXPECT_EQ(
      message("dp_shard", 2, "sft.yaml:9"),
      "sft.yaml:9: mesh.dp_shard: 2 ranks; only a mesh of ones exists yet, so leave it out or set it to 1");
  EXPECT_EQ(message("cp", 0), "mesh.cp: 0 ranks; a dimension has at least 1");
  EXPECT_EQ(message("pp", -1), "mesh.pp: -1 ranks; a dimension has at least 1");
  EXPECT_EQ(message("dp_shards", 1), "mesh.dp_shards: unknown dimension; did you mean 'dp_shard'?");
  EXPECT_THAT(message("expert_parallel_size", 1),
              StartsWith("mesh.expert_parallel_size: unknown dimension; known: pp, "));
}

}  // namespace
}  // namespace hone::comm
