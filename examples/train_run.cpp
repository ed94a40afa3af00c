// A whole run from C++, with checkpoints, evaluation and report: train_run MODEL_DIR TRAIN.jsonl EVAL.jsonl
// OUT_DIR Start it again after it was stopped or killed: it goes on with the same bits.
#include <hone/hone.h>

#include <cstdio>
#include <exception>
#include <string>

int main(int argc, char** argv) try {
  if (argc != 5) {
    std::fprintf(stderr, "usage: train_run MODEL_DIR TRAIN.jsonl EVAL.jsonl OUT_DIR\n");
    return 2;
  }
  using std::string;
  hone::Trainer trainer({string("model.path=") + argv[1], string("data.train=") + argv[2],
                         string("data.eval=") + argv[3], string("output=") + argv[4], "train.steps=20",
                         "train.global_batch=16", "train.eval_every=10", "train.optimizer.lr=1e-3"});
  const auto output = trainer.train([](const hone::TrainerStep& s) {
    if (s.step > 0) std::printf("step %lld  loss %.4f\n", static_cast<long long>(s.step), s.loss);
    if (s.eval_loss) std::printf("eval loss %.4f\n", *s.eval_loss);
    return true;  // false would stop here, with a checkpoint
  });
  std::printf("%lld steps; the model is in %s\n", static_cast<long long>(output.steps), output.model.c_str());
  return 0;
} catch (const std::exception& e) {
  std::fprintf(stderr, "train_run: %s\n", e.what());
  return hone::is_user_error(e) ? 2 : 1;
}
