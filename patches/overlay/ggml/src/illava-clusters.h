#pragma once

#include "illava-groups.h"

// SparseVLM (Zhang et al., 2024): the most attended tokens stay. The next 30 % of the others, and one more, become
// clusters of about ten, each a token at the place of its centre; the rest is dropped. Stays and clusters together are
// n - r. tokens.features: the tokens' own values; tokens.scores: [n].
illava_groups illava_make_clusters(const illava_tokens & tokens, size_t r);
