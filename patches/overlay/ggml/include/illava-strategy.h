#pragma once

// Treatment of the tokens that go. The numbers are part of the C boundary.

#ifdef __cplusplus
extern "C" {
#endif

enum illava_strategy {
    ILLAVA_STRATEGY_MERGE     = 0, // the r + 1 least attended become one
    ILLAVA_STRATEGY_PRUNE     = 1, // the r least attended are dropped
    ILLAVA_STRATEGY_RANDOM    = 2, // r are drawn and dropped
    ILLAVA_STRATEGY_BIPARTITE = 3, // ToMe: of two alternating halves, the most similar pairs merge
    ILLAVA_STRATEGY_KMEANS    = 4, // clusters of similar tokens, five iterations
    ILLAVA_STRATEGY_GREEDY    = 5, // the most similar pair merges, again and again
    ILLAVA_STRATEGY_PRUMERGE  = 6, // outliers of the attention stay, the others merge into the nearest of them;
                                   // image encoder only, as one step behind its last layer
    ILLAVA_STRATEGY_ASSIGN    = 7, // the r least attended each merge into the most similar of the others
    ILLAVA_STRATEGY_VISIONZIP = 8, // the most attended stay; of the others some at even distances each take up those most
                                   // similar to them; image encoder only, as one step behind its last layer
    ILLAVA_STRATEGY_SPARSEVLM = 9, // the most attended stay, clusters of the next become one each, the rest is dropped;
                                   // language model only
};

#ifdef __cplusplus
}
#endif
