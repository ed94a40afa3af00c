// The verbs of the program: one file each. Every function adds its subcommand to the application.
#pragma once

namespace CLI {
class App;
}

namespace hone::cli {

void add_train(CLI::App& app);
void add_generate(CLI::App& app);
void add_eval(CLI::App& app);
void add_check(CLI::App& app);
void add_tokenize(CLI::App& app);
void add_logits(CLI::App& app);
void add_inspect(CLI::App& app);
void add_export(CLI::App& app);
void add_init(CLI::App& app);
void add_bench(CLI::App& app);
void add_doctor(CLI::App& app);

/// Parses the command line, runs the verb, and returns the exit code: 0 done, 2 the user can fix it (one line
/// on stderr), 1 ours.
int run(int argc, const char* const* argv);

}  // namespace hone::cli
