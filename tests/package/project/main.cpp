// A program of somebody else's: loads a checkpoint, takes a training step on made-up ids, and prints the loss
// before and after.
#include <hone/hone.h>

#include <cstdio>

int main(int, char** argv) {
  auto model = hone::AutoModelForCausalLM::from_pretrained(argv[1], {.dtype = "f32", .threads = 1});
  hone::AdamW optimizer(model, {.lr = 1e-2});
  hone::Batch batch;
  batch.rows.push_back({{1, 2, 3, 4, 5}, {-100, 2, 3, 4, 5}});
  model.train();
  auto output = model.forward(batch);
  output.backward();
  optimizer.step();
  model.eval();
  const float after = model.forward(batch).loss;
  std::printf("loss %.4f -> %.4f, %lld parameters\n", output.loss, after,
              static_cast<long long>(model.num_parameters()));
  return after < output.loss ? 0 : 1;
}
