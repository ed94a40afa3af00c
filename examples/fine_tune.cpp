// A fine-tuning loop of one's own: fine_tune MODEL_DIR TRAIN.jsonl OUT_DIR
#include <hone/hone.h>

#include <cstdio>
#include <exception>
#include <fstream>
#include <string>

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fprintf(stderr, "usage: fine_tune MODEL_DIR TRAIN.jsonl OUT_DIR\n");
    return 2;
  }
  const auto tokenizer = hone::AutoTokenizer::from_pretrained(argv[1]);
  auto model = hone::AutoModelForCausalLM::from_pretrained(argv[1], {.dtype = "f32"});
  hone::AdamW optimizer(model, {.lr = 1e-3, .weight_decay = 0.1});

  std::vector<hone::Example> examples;
  std::ifstream rows(argv[2]);
  for (std::string row; std::getline(rows, row) && examples.size() < 512;)
    examples.push_back(tokenizer.encode_row(row));

  constexpr std::size_t kBatch = 16;
  float first = 0, last = 0;
  model.train();
  for (std::size_t at = 0; at + kBatch <= examples.size(); at += kBatch) {
    hone::Batch batch;
    for (std::size_t i = at; i < at + kBatch; ++i) batch.rows.push_back(examples[i]);
    auto output = model.forward(batch);
    output.backward();
    const double norm = optimizer.step();
    if (at == 0) first = output.loss;
    last = output.loss;
    std::printf("step %zu  loss %.4f  |g| %.2f\n", at / kBatch + 1, output.loss, norm);
  }
  model.eval();
  model.save_pretrained(argv[3]);

  const auto prompt = tokenizer.apply_chat_template({{"user", "hello"}}, {.add_generation_prompt = true});
  const auto answer = model.generate(tokenizer.encode(prompt, false), {.max_new_tokens = 16});
  std::printf("loss %.4f -> %.4f; to \"hello\" it says: %s\n", first, last,
              tokenizer.decode(answer, true).c_str());
  return last < first ? 0 : 1;
} catch (const std::exception& e) {
  std::fprintf(stderr, "fine_tune: %s\n", e.what());
  return 2;
}
