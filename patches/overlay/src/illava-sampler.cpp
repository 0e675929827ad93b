// llama.cpp's samplers for callers that no exception may reach.

#include "illava.h"

#include "illava-status.h"
#include "llama-grammar.h"
#include "llama-model.h"

#include <algorithm>
#include <cstring>

namespace {

// The parser recurses with every bracket, and the check for left recursion with every rule that may come first.
constexpr size_t max_depth = 1000;
constexpr size_t max_rules = 100000;
constexpr size_t max_quote = 60; // bytes of the grammar in a message

size_t skip_comment(const std::string & text, size_t at) {
    return std::min(text.find_first_of("\r\n", at), text.size());
}

// The end of a literal or a character class that begins at `at`.
size_t skip_quoted(const std::string & text, size_t at) {
    const char end = text[at] == '"' ? '"' : ']';
    for (at++; at < text.size() && text[at] != end; at++) {
        at += text[at] == '\\';
    }
    return at;
}

void check_depth(const std::string & text) {
    size_t depth = 0;
    for (size_t at = 0; at < text.size(); at++) {
        switch (text[at]) {
            case '#': at = skip_comment(text, at); break;
            case '"':
            case '[': at = skip_quoted(text, at);  break;
            case '(': depth++; break;
            case ')': depth -= depth > 0; break;
        }
        if (depth > max_depth) {
            illava_fail(ILLAVA_BAD_ARG, "brackets are deeper than %zu", max_depth);
        }
    }
}

// Parses as llama_sampler_init_grammar() will, which keeps the reason of a failure to itself.
void check_syntax(const llama_vocab & vocab, const std::string & text) {
    llama_grammar_parser parser(&vocab);
    size_t begin = 0;
    // No other white space is skipped there: what passes here must pass there, which prints the text when it fails.
    while (begin < text.size() && strchr(" \t\r\n#", text[begin])) {
        begin = text[begin] == '#' ? skip_comment(text, begin) : begin + 1;
    }
    try {
        for (const char * at = text.c_str() + begin; *at;) {
            at = parser.parse_rule(at);
            if (parser.rules.size() > max_rules) {
                illava_fail(ILLAVA_BAD_ARG, "repetitions make more than %zu rules of it", max_rules);
            }
        }
    } catch (const illava_error &) {
        throw;
    } catch (const std::exception & e) {
        std::string reason = e.what(); // ends in the whole rest of the text
        if (reason.size() > max_quote) {
            reason.resize(max_quote);
            reason += " ...";
        }
        illava_fail(ILLAVA_BAD_ARG, "%s", reason.c_str());
    }
    for (const auto & [name, id] : parser.symbol_ids) {
        if (id >= parser.rules.size() || parser.rules[id].empty()) {
            illava_fail(ILLAVA_BAD_ARG, "there is no rule '%s'", name.c_str());
        }
    }
}

} // namespace

illava_status illava_sampler_grammar(
        const llama_model * model, const char * grammar, const char * root, llama_sampler ** out) {
    return illava_guard([&] {
        illava_require(out, "out");
        *out = nullptr;
        illava_require(model, "model");
        illava_require(grammar, "grammar");
        illava_require(root, "root");

        const std::string text = grammar;
        check_depth(text);
        check_syntax(model->vocab, text);
        *out = text.empty() ? nullptr : llama_sampler_init_grammar(&model->vocab, grammar, root);
        if (!*out) {
            illava_fail(ILLAVA_BAD_ARG, "it has no rule named '%s', or a rule that begins with itself", root);
        }
    });
}

illava_status illava_sampler_apply(llama_sampler * sampler, llama_token_data_array * candidates) {
    return illava_guard([&] {
        illava_require(sampler, "sampler");
        illava_require(candidates, "candidates");
        if (candidates->size == 0) {
            illava_fail(ILLAVA_BAD_ARG, "no candidates to choose from");
        }
        illava_require(candidates->data, "candidates->data");
        llama_sampler_apply(sampler, candidates);
    });
}

illava_status illava_sampler_accept(llama_sampler * sampler, llama_token token) {
    return illava_guard([&] {
        illava_require(sampler, "sampler");
        llama_sampler_accept(sampler, token);
    });
}
