// Parameters of a graph over a part of the decoder: the layers it runs and the query rows it scores.

#pragma once

// half-open range of layers one graph runs
struct llama_layer_range {
    int  begin;
    int  end;
    bool last; // the graph ends in the output head; otherwise in the residual that enters layer `end`
};

// which query rows of a ubatch are scored at the last layer of the range
enum llama_score_rows {
    LLAMA_SCORE_ROWS_NONE,
    LLAMA_SCORE_ROWS_ALL,
    LLAMA_SCORE_ROWS_LAST,
};
