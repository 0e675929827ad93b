// The limits of the processor: multiply-adds on registers in f32, bf16 and int8, and bytes read from memory.
//
//   bench-peaks [threads = 1]
//
// Answers each line of standard input with one JSON object: giga-operations a second of all threads (a multiply-add
// counts two) and gigabytes a second. A kind of number that the processor has no instruction for is 0. One thread is
// timed by its processor time, several by the clock on the wall.

#include "peaks.h"

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <numeric>
#include <string>
#include <thread>
#include <vector>

namespace {

// Work of one thread, `amount` in billions, done by all of them at once.
double rate(int n_threads, double amount, const std::function<void(int)> & work) {
    const double begin = peaks::seconds(n_threads);
    std::vector<std::thread> threads;
    for (int i = 1; i < n_threads; i++) {
        threads.emplace_back(work, i);
    }
    work(0);
    for (std::thread & thread : threads) {
        thread.join();
    }
    return amount * n_threads / (peaks::seconds(n_threads) - begin);
}

double operations(int n_threads, const std::vector<peaks::loop> & loops) {
    double best = 0;
    for (const peaks::loop & loop : loops) {
        if (loop.runs()) {
            best = std::max(best, rate(n_threads, loop.giga_operations, [&](int) { loop.run(); }));
        }
    }
    return best;
}

} // namespace

int main(int argc, char ** argv) {
    const int n_threads = argc > 1 ? std::max(1, atoi(argv[1])) : 1;
    // Larger than any cache, for each thread.
    const std::vector<uint64_t> memory(size_t(n_threads) << 25, 1);
    const size_t part = memory.size() / size_t(n_threads);
    std::vector<uint64_t> sums(static_cast<size_t>(n_threads));
    for (std::string line; std::getline(std::cin, line);) {
        const double bytes = rate(n_threads, double(part) * sizeof(uint64_t) / 1e9, [&](int i) {
            const auto begin = memory.begin() + ptrdiff_t(part * size_t(i));
            sums[size_t(i)] = std::accumulate(begin, begin + ptrdiff_t(part), uint64_t(0));
        });
        printf("{\"f32\": %.1f, \"bf16\": %.1f, \"int16\": %.1f, \"int8\": %.1f, \"gigabytes\": %.2f, \"ms\": 0, \"cpu_ms\": 0, \"sum\": %d}\n",
            operations(n_threads, peaks::f32()), operations(n_threads, peaks::bf16()), operations(n_threads, peaks::int16()),
            operations(n_threads, peaks::int8()), bytes, int(sums[0] % 2));
        fflush(stdout);
    }
    return 0;
}
