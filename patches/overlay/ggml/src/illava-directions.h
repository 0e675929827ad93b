#pragma once

// Directions of tokens and of groups of them, and how similar two are.

#include "illava-groups.h"

#include <cmath>
#include <vector>

struct illava_directions {
    size_t             n, d;
    std::vector<float> unit;  // [n, d] of length one, or zero
    std::vector<double> size; // [n]

    explicit illava_directions(const illava_tokens & tokens) :
        n(tokens.n), d(tokens.d), unit(tokens.n * tokens.d), size(tokens.n, 1.0) {
        for (size_t i = 0; i < n; i++) {
            const float * row = tokens.features + i * d;
            double square = 0.0;
            for (size_t e = 0; e < d; e++) {
                square += double(row[e]) * row[e];
            }
            const double scale = square > 0.0 ? 1.0 / std::sqrt(square) : 0.0;
            for (size_t e = 0; e < d; e++) {
                unit[i * d + e] = float(row[e] * scale);
            }
            if (tokens.sizes) {
                size[i] = tokens.sizes[i];
            }
        }
    }

    const float * at(size_t i) const { return unit.data() + i * d; }
};

// A sum of directions with its length.
struct illava_direction {
    std::vector<double> sum;
    double              length = 0.0;

    illava_direction() = default;

    explicit illava_direction(size_t d) : sum(d, 0.0) {}

    illava_direction(const float * unit, size_t d, double size) : sum(d, 0.0) {
        add(unit, size);
        measure();
    }

    void add(const float * unit, double size) {
        for (size_t e = 0; e < sum.size(); e++) {
            sum[e] += size * unit[e];
        }
    }

    void add(const illava_direction & other) {
        for (size_t e = 0; e < sum.size(); e++) {
            sum[e] += other.sum[e];
        }
    }

    void measure() {
        double square = 0.0;
        for (double x : sum) {
            square += x * x;
        }
        length = std::sqrt(square);
    }
};

// Less than any cosine.
constexpr double illava_unlike = -2.0;

inline double illava_as_cosine(double product, double length) {
    const double cosine = length == 0.0 ? 0.0 : product / length;
    return std::isnan(cosine) ? illava_unlike : cosine;
}

inline double illava_cosine(const illava_direction & a, const illava_direction & b) {
    double product = 0.0;
    for (size_t e = 0; e < a.sum.size(); e++) {
        product += a.sum[e] * b.sum[e];
    }
    return illava_as_cosine(product, a.length * b.length);
}

inline double illava_cosine(const float * unit, const illava_direction & b) {
    double product = 0.0;
    for (size_t e = 0; e < b.sum.size(); e++) {
        product += unit[e] * b.sum[e];
    }
    return illava_as_cosine(product, b.length);
}
