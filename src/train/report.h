// report.html: a run as one self-contained page.
#pragma once

#include "train/run_directory.h"

namespace hone::train {

/// Writes OUTPUT/report.html from recipe.yaml, metrics.jsonl, samples.jsonl and experts.jsonl: curves of
/// loss, learning rate, gradient norm and throughput, a heat map of expert load per layer, and sample
/// answers. No scripts or styles from elsewhere.
void write_report(const RunDirectory& directory);

}  // namespace hone::train
