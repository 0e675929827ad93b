//! docs/models.md says of every architecture that the pinned library knows whether its language model merges, and if not,
//! which point of the rule it fails. The list follows from the sources of the graphs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use patched_source::{Layout, Tree, Upstream};

/// Answers in the order of the page.
const ANSWERS: [(&str, &str); 5] = [
    ("merges", "yes"),
    ("range", "its graph takes a layer range; no test stands for it"),
    ("plain", "no: its graph has not been given a layer range"),
    ("cache", "no: its cache is compressed, indexed or of several kinds, or a recurrence has a state"),
    ("none", "no: its graph has no cache of keys and values of its own"),
];

/// Calls by which a graph asks for keys and values of its own.
const PLAIN: [&str; 2] = ["build_attn_inp_kv(", "build_attn_inp_kv_iswa("];
/// Calls by which it asks for another memory.
const OTHER: [&str; 5] = [
    "build_attn_inp_k(",
    "build_attn_inp_k_",
    "build_attn_inp_kv_msa(",
    "build_rs_inp(",
    "build_inp_mem_hybrid",
];

fn source() -> Tree {
    let layout = Layout::of_checkout(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    let cargo = std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from);
    let upstream = Upstream::locate(&cargo, &layout.upstream).expect("the pinned crate");
    layout.patched(&upstream).expect("a series that applies")
}

fn text<'a>(tree: &'a Tree, file: &str) -> &'a str {
    let content = tree.get(file).unwrap_or_else(|| panic!("{file} is not in the source"));
    std::str::from_utf8(content).expect("text")
}

/// The word behind `before` in `line`.
fn word<'a>(line: &'a str, before: &str) -> Option<&'a str> {
    let rest = line.split_once(before)?.1;
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    Some(&rest[..end])
}

/// `LLM_ARCH_*` to the name in files.
fn names(tree: &Tree) -> BTreeMap<String, String> {
    let lines = text(tree, "src/llama-arch.cpp").lines().skip_while(|line| !line.contains("LLM_ARCH_NAMES"));
    lines
        .take_while(|line| !line.starts_with("};"))
        .filter_map(|line| Some((word(line, "{ LLM_ARCH_")?.to_owned(), line.split('"').nth(1)?.to_owned())))
        .filter(|(_, name)| name != "(unknown)")
        .collect()
}

/// `LLM_ARCH_*` to the class of its model.
fn classes(tree: &Tree) -> BTreeMap<String, String> {
    let (mut waiting, mut found) = (Vec::new(), BTreeMap::new());
    for line in text(tree, "src/llama-model.cpp").lines() {
        if let Some(arch) = word(line, "case LLM_ARCH_") {
            waiting.push(arch.to_owned());
        } else if let Some(class) = word(line, "return new llama_model_") {
            found.extend(waiting.drain(..).map(|arch| (arch, class.to_owned())));
        } else {
            waiting.clear();
        }
    }
    found
}

/// The class whose graph `class` builds, if it is another's.
fn whose_graph(tree: &Tree, class: &str) -> Option<String> {
    let mut lines = text(tree, "src/models/models.h")
        .lines()
        .skip_while(|line| !line.starts_with(&format!("struct llama_model_{class} ")));
    let base =
        lines.next().and_then(|line| word(line, ": public llama_model_")).filter(|&base| base != "base");
    let body = lines.take_while(|line| !line.starts_with("};"));
    let used = body.filter_map(|line| word(line, "using graph = llama_model_")).next();
    used.or(base).map(str::to_owned)
}

fn answer(tree: &Tree, class: &str) -> &'static str {
    let file = |name: &str| tree.get(&format!("src/models/{name}.cpp")).map(|_| name.to_owned());
    let stem = file(class).or_else(|| file(&class.replace('_', "-"))).unwrap_or_default();
    let own = if stem.is_empty() { "" } else { text(tree, &format!("src/models/{stem}.cpp")) };
    let defined =
        ["::graph::graph(", "::graph<"].map(|end| own.contains(&format!("llama_model_{class}{end}")));
    if let (false, Some(other)) = (defined.contains(&true), whose_graph(tree, class)) {
        return answer(tree, &other);
    }
    let asks = |calls: &[&str]| calls.iter().any(|call| own.contains(call));
    if own.contains("llama_graph_layers(") {
        "range"
    } else if asks(&OTHER) {
        "cache"
    } else if asks(&PLAIN) {
        "plain"
    } else {
        "none"
    }
}

#[test]
fn the_page_says_which_architectures_merge() {
    let tree = source();
    let merging: Vec<&str> =
        text(&tree, "src/illava-model.cpp").lines().filter_map(|line| word(line, "case LLM_ARCH_")).collect();
    let classes = classes(&tree);
    let mut found: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for (arch, name) in names(&tree) {
        let Some(class) = classes.get(&arch) else { continue };
        let answer = match answer(&tree, class) {
            "range" if merging.contains(&arch.as_str()) => "merges",
            other => {
                assert!(!merging.contains(&arch.as_str()), "{name} merges, and its graph takes no range");
                other
            }
        };
        found.entry(answer).or_default().push(name);
    }
    assert_eq!(found["merges"].len(), merging.len(), "{:?}", found["merges"]);
    assert!(found.values().map(Vec::len).sum::<usize>() > 140, "the names were not read");
    let rows = ANSWERS.map(|(answer, words)| {
        let mut names = found.remove(answer).unwrap_or_default();
        names.sort();
        format!("| {words} | {} | `{}` |", names.len(), names.join(", "))
    });
    let expected = rows.join("\n");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/models.md");
    let page = std::fs::read_to_string(page).expect("the page");
    assert!(page.contains(&expected), "docs/models.md, Architectures, has to say:\n{expected}\n");
}
