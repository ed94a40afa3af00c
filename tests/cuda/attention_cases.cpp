// Cases: attention at the thresholds of kernels/cuda/attention*.cu, whose tiles have 64 packed rows (queries
// times heads of a group) and 64, 32 or 16 keys, or 128 of either, and of rows that begin at 16 bytes.
#include "tests/cuda/card_cases.h"
#include "tests/kernels/attention_shape.h"

namespace hone::test {

std::vector<Case> attention_tile_cases() {
  std::vector<AttentionShape> shapes = {
      // rows and keys around a tile, heads of each size that there is a kernel of, and one that is padded
      {{64}, {}, 1, 1, 64, 0},
      {{63, 1, 65}, {}, 2, 2, 64, 0},
      {{22, 21, 43}, {}, 6, 2, 40, 0},
      {{33, 127}, {}, 2, 1, 128, 0},
      {{17, 66}, {}, 2, 1, 192, 0, 128},
      {{31, 35}, {}, 2, 2, 256, 0},
      {{130}, {}, 1, 1, 32, 0},
      // windows around a tile
      {{140}, {}, 1, 1, 64, 64},
      {{150}, {}, 2, 1, 32, 65},
      {{200}, {}, 1, 1, 64, 63},
      {{100}, {}, 1, 1, 128, 33},
      // more sequences than a warp has lanes, also empty ones
      {{1, 0, 3, 2, 5, 1, 1, 0, 0, 2, 1, 4, 1, 1, 1,  2, 9, 0,
        1, 1, 2, 2, 0, 1, 1, 3, 1, 1, 2, 1, 1, 1, 70, 0, 1, 66},
       {},
       2,
       1,
       32,
       0},
      // keys in parts: some of a row's parts empty, all of one outside the window, one row of many heads
      {{1, 1}, {300, 1100}, 8, 1, 64, 0},
      {{1, 3}, {1500, 40}, 4, 2, 32, 100},
      {{2}, {1023}, 2, 1, 128, 0},
      {{1, 1}, {1290, 70}, 4, 4, 32, 0, 0, 0, true},
      {{1, 2}, {700, 1001}, 4, 2, 64, 0, 0, 3, false},
      // keys of no query in whole tiles
      {{0, 3, 0}, {130, 64, 65}, 2, 1, 64, 0},
      {{5}, {300}, 2, 1, 64, 20},
      // groups that divide no tile, heads that fill no slab, tiles of 128 keys or rows (compute
      // capability 9.0)
      {{65, 1, 129}, {}, 7, 1, 96, 0},
      {{300}, {}, 2, 2, 80, 0},
      {{129, 64}, {40, 3}, 8, 2, 72, 50},
      {{190}, {}, 3, 1, 128, 0, 0, 3, false},
      // the first query sees all keys of a tile but the last
      {{64}, {62}, 1, 1, 64, 0},
      {{170, 3}, {}, 4, 1, 120, 129, 0, 0, true},
      // a window of one key: a softmax of one number, of whose gradient nothing is left
      {{129, 3}, {}, 2, 1, 64, 1},
      // a window of so many rows that half a tile's keys are of no row of more steps than there are buffers
      {{200}, {}, 40, 1, 16, 20},
      // sinks and softcap
      {{70, 5}, {}, 8, 2, 64, 0, 0, 0, true},
      {{90}, {}, 2, 1, 64, 40, 0, 2, true},
      // sinks so far from the scores that exp of the distance is no number
      {{9, 66}, {}, 8, 2, 32, 0, 0, 0, true, true, 300}};
  std::vector<Case> cases;
  for (AttentionShape& shape : shapes) {
    shape.aligned = true;
    for (Case& c : attention_cases_of(shape)) cases.push_back(std::move(c));
  }
  return cases;
}

}  // namespace hone::test
