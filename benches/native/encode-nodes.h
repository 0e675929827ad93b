// Where the time of one merged encode goes, seen from its graph: the scheduler calls back at chosen nodes.

#pragma once

#include "ggml.h"
#include "illava.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace bench {

class encode_nodes {
  public:
    // vision and image outlive this. steps: none with r = 0. balanced: bipartite merging with sizes.
    encode_nodes(illava_vision & vision, const illava_image & image, std::vector<illava_merge_step> steps, bool balanced,
        int32_t threads);

    // Time in the nodes that exist only because of merging (score, plan, merge), over the time of the whole graph.
    // The graph stops only where such nodes begin or end, so that the clock disturbs it as little as can be.
    std::vector<double> merge_shares(int repeats);

    // Milliseconds by operation, the most expensive first, as a JSON object. Stops after every node.
    std::string profile();

  private:
    struct clock;

    void run(clock & c);
    // Which nodes of the graph are there for merging.
    std::vector<bool> find_merging(const std::vector<ggml_tensor *> & nodes) const;

    illava_vision &                vision_;
    const illava_image &           image_;
    std::vector<illava_merge_step> steps_;
    bool                           balanced_;
    int32_t                        threads_;
};

} // namespace bench
