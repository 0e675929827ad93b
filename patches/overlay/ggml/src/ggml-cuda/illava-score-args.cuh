#pragma once

// Arguments of every kernel of the attention-received score. The score op computes, for key i,
//
//   s[i] = sum over heads h and queries j of 2^(l[h,j,i] - lse[h,j]),   lse = log2 of the row's sum of 2^l
//
// with l the logit in base 2: the queries are packed with scale * log2(e) multiplied in. Two passes,
// each a set of rows that stay with a block (`fixed`) against rows that stream past (`moving`):
//
//   rows      fixed = queries, moving = keys      -> lse of every query and head
//   columns   fixed = keys,    moving = queries   -> column sums over one range of queries of one head
//
// The sums of all ranges are then added in a fixed order. No map of n_q x n_kv exists, and no kernel adds by
// atomics. A key's sum does not depend on the key's place.

enum class score_pass { rows, columns };

enum class score_type { f32, f16, bf16, q8_0, q4_0 };

constexpr int score_fixed_rows = 64; // rows a block keeps; packed operands are padded to whole multiples

constexpr float score_log2e = 1.44269504088896340736f;

struct score_args {
    const void * q;       // packed queries of `heads` heads from head0 on: [heads][parts][n_q_pad][d_pad]
    const void * k;       // packed keys of all key heads:                  [n_head_kv][parts][n_kv_pad][d_pad]
    const void * mask;    // [at least n_q][n_kv] or null
    bool         mask_f16;

    float * lse;          // [heads][n_q_pad]; +inf where a row counts for nothing (padding, all keys hidden)
    float * partial;      // [n_head][n_split][n_kv_pad]

    int n_q;
    int n_kv;
    int n_q_pad;
    int n_kv_pad;
    int d_pad;
    int head0;
    int group;            // query heads to one key head
    int n_split;          // ranges of queries in the column pass
    int range_q;          // queries in a range, a multiple of score_fixed_rows
};
