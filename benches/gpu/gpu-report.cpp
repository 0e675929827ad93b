// Checks and measures the merging on a GPU, and writes one result file.
//
//   gpu-report [--cpu] [--small] [--only ops|pairs|speed]... [--models DIR]... [--work DIR] [--rounds N]
//              [--threads N] [--note KEY=TEXT]... [--out FILE]
//
// --cpu takes the processor in the GPU's place and --small small shapes, to try the program where there
// is no GPU. Ends with 0 if every check passed, 1 if one failed, 2 for wrong usage or no device.

#include "checks.h"
#include "illava.h"

#include <cstring>
#include <ctime>
#include <fstream>
#include <set>
#include <thread>

namespace {

struct options {
    bool cpu = false, small = false;
    std::set<std::string> only;
    std::vector<std::string> models;
    std::string work = ".", out = "result.json";
    gpu::json notes = gpu::json::object();
    int rounds = 50, threads = 0;

    bool wants(const char * part) const { return only.empty() || only.count(part); }
};

options parse(int argc, char ** argv) {
    options o;
    const std::set<std::string> parts = { "ops", "pairs", "speed" };
    for (int i = 1; i < argc; i++) {
        const std::string flag = argv[i];
        const auto value = [&]() -> std::string {
            gpu::require(i + 1 < argc, flag + " needs a value");
            return argv[++i];
        };
        const auto number = [&] {
            const std::string text = value();
            const int n = atoi(text.c_str());
            gpu::require(n > 0, flag + " " + text + ": a number above 0");
            return n;
        };
        if (flag == "--cpu") {
            o.cpu = true;
        } else if (flag == "--small") {
            o.small = true;
        } else if (flag == "--only") {
            const std::string part = value();
            gpu::require(parts.count(part), "--only " + part + ": ops, pairs or speed");
            o.only.insert(part);
        } else if (flag == "--models") {
            o.models.push_back(value());
        } else if (flag == "--work") {
            o.work = value();
        } else if (flag == "--out") {
            o.out = value();
        } else if (flag == "--note") {
            const std::string note = value();
            const size_t      cut  = note.find('=');
            gpu::require(cut != std::string::npos, "--note " + note + ": KEY=TEXT");
            o.notes[note.substr(0, cut)] = note.substr(cut + 1);
        } else if (flag == "--rounds") {
            o.rounds = number();
        } else if (flag == "--threads") {
            o.threads = number();
        } else {
            gpu::require(false, flag + " is none of --cpu --small --only --models --work --rounds --threads --note --out");
        }
    }
    if (o.models.empty()) {
        o.models.push_back("models");
    }
    if (o.threads == 0) {
        o.threads = int(std::max(1u, std::thread::hardware_concurrency()));
    }
    return o;
}

std::string now() {
    char text[32];
    const time_t t = time(nullptr);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", gmtime(&t));
    return text;
}

// What is there of a result is written after every part: a later one that ends the process costs only itself.
void write(const options & o, const gpu::json & result) {
    std::ofstream(o.out) << result.dump(2) << "\n";
}

} // namespace

int main(int argc, char ** argv) {
    options o;
    try {
        o = parse(argc, argv);
    } catch (const std::exception & e) {
        fprintf(stderr, "gpu-report: %s\n", e.what());
        return 2;
    }
    illava_log_set([](ggml_log_level level, const char * text, void *) {
        if (level == GGML_LOG_LEVEL_ERROR) {
            fputs(text, stderr);
        }
    }, nullptr);

    gpu::json result = { { "made", now() }, { "complete", false } };
    bool passed = true;
    try {
        gpu::machine m(o.cpu, o.threads);
        result["machine"] = m.to_json();
        result["notes"] = o.notes;
        result["small_shapes"] = o.small;
        write(o, result);

        const auto checked = [&](const char * name, gpu::report & report) {
            result[name] = report.to_json();
            passed = passed && report.all_passed();
            write(o, result);
        };
        if (o.wants("ops")) {
            gpu::report report;
            gpu::check_ops(m, o.small, report);
            checked("op_checks", report);
        }
        if (o.wants("pairs")) {
            gpu::report report;
            for (const std::string & models : o.models) {
                gpu::check_pairs(m, models, report);
            }
            checked("pair_checks", report);
        }
        if (o.wants("speed")) {
            const double peak = gpu::matrix_peak(m, o.small, o.rounds);
            result["matrix_peak_flops"] = peak;
            result["ops"] = gpu::measure_ops(m, o.small, peak, o.rounds);
            write(o, result);
            result["pairs"] = gpu::measure_pairs(m, o.small, peak, o.rounds, o.work);
        }
    } catch (const std::exception & e) {
        fprintf(stderr, "gpu-report: %s\n", e.what());
        result["error"] = e.what();
        write(o, result);
        return 2;
    }
    result["complete"] = true;
    result["passed"]   = passed;
    write(o, result);
    return passed ? 0 : 1;
}
