// Parameters of a graph over a part of the decoder: the layers it runs and the query rows it scores.

#pragma once

#include <cstdint>
#include <utility>
#include <vector>

// half-open range of layers one graph runs
struct llama_layer_range {
    int  begin;
    int  end;
    bool last; // the graph ends in the output head; otherwise in the residual that enters layer `end`
};

// Query rows of a ubatch that are scored at the last layer of the range: runs of the first row and how many, ascending.
using llama_score_rows = std::vector<std::pair<int64_t, int64_t>>;

static const llama_score_rows LLAMA_SCORE_ROWS_NONE;
