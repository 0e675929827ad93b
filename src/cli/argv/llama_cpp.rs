//! Meaning of each flag of llama.cpp's programs, if this program has no flag of the same name.

/// Meaning of a flag of llama.cpp.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Meaning<'a> {
    /// Names our flag. A value follows the name if that flag takes one.
    Is(&'a str),
    /// Names our switch. It is on unless the word behind it turns it off.
    Switch(&'static str),
    /// Stands for these words of our command line.
    Words(&'static [&'static str]),
    /// Is passed over: the flag asks for the default, or changes only the look of the output.
    Nothing(Values),
    /// Is passed over with a note: the answer is the same without the flag.
    Noted(Values, &'static str),
    /// Is refused with the reason and the remedy: the flag would change the answer.
    Refused(&'static str),
}

/// Words that follow a flag and belong to it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Values {
    None,
    One,
    /// An optional `on`, `off` or `auto`.
    Switch,
}

use Meaning::{Is, Noted, Nothing, Refused, Switch, Words};

/// Returns the meaning of `name`, which may begin with one or two hyphens.
pub(super) fn meaning(name: &str) -> Option<Meaning<'static>> {
    if let Some((_, long)) = SHORT.iter().find(|(short, _)| *short == name) {
        return Some(Is(long));
    }
    let listed = OTHERS.iter().find(|(names, _)| names.split(' ').any(|other| other == name));
    if let Some((_, meaning)) = listed {
        return Some(*meaning);
    }
    // Draft models have dozens of flags.
    let drafts = name.starts_with("--spec-") || name.starts_with("--draft") || name.ends_with("-draft");
    drafts.then_some(DRAFT)
}

/// Short names of several letters, from which an error suggests the nearest.
pub(super) fn short_names() -> impl Iterator<Item = &'static str> {
    SHORT.iter().map(|(short, _)| *short)
}

const DRAFT: Meaning =
    Refused("there are no draft models here, every token comes from the model itself; leave it out");
const SAMPLER: Meaning = Refused(
    "this sampler is not built in; leave it out (--temp, --top-k, --top-p, --min-p and the penalties are there)",
);
const ROPE: Meaning =
    Refused("positions are scaled as the model file says; write the value into the file's metadata instead");
const ADAPTER: Meaning = Refused(
    "adapters are merged when a checkpoint is converted: give the adapter's folder to tools/convert.py with --adapter",
);
const PLACED: &str = "weights lie where --gpu-layers puts them; passed over";
const THREADS: &str = "threads are not bound to cores; passed over (taskset and nice do that)";
const LOG: &str = "passed over; the log goes to stderr, -v and -vv say more";
const CACHE: &str = "passed over; the cache of prompts and pictures keeps itself";
const PAGE: Meaning = Refused("the server has one page of its own; put a web server in front for another");
const TOOLS: Meaning = Refused("the server runs no tools itself; clients send theirs with a request");
const TLS: Meaning =
    Refused("the server speaks plain HTTP; put a proxy in front of it, as docs/serve.md shows");
const EFFORT: Meaning = Refused(
    "an effort is a variable of the chat template: --chat-template-kwargs '{\"reasoning_effort\": \"low\"}'",
);
const THINKING: Meaning = Refused("a thought that is too long is closed by its own mark; leave it out");
const EMBEDDING: Meaning = Refused("there are no embeddings and no ranking here; llama-server has them");
const ELSEWHERE: Meaning =
    Refused("there is no download from there; download the file and give its path, or use -hf user/repo");
const MODELS: Meaning = Refused("a server has one model; deploy/llama-swap.yaml changes between several");

const SHORT: [(&str, &str); 20] = [
    ("-rea", "--reasoning"),
    ("-mm", "--mmproj"),
    ("-hf", "--hf-repo"),
    ("-hfr", "--hf-repo"),
    ("-hff", "--hf-file"),
    ("-sys", "--system-prompt"),
    ("-sysf", "--system-prompt-file"),
    ("-np", "--parallel"),
    ("-ub", "--ubatch-size"),
    ("-tb", "--threads-batch"),
    ("-ngl", "--gpu-layers"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-nr", "--no-repack"),
    ("-lm", "--load-mode"),
    ("-jf", "--json-schema-file"),
    ("-dev", "--device"),
    ("-sm", "--split-mode"),
    ("-ts", "--tensor-split"),
    ("-mg", "--main-gpu"),
];

/// Flag names with one meaning.
const OTHERS: &[(&str, Meaning)] = &[
    ("-fa", Switch("--flash-attn")),
    ("--no-mmap", Words(&["--load-mode=none"])),
    ("--mmap", Words(&["--load-mode=mmap"])),
    // Flags that ask for the default or change only the look.
    (
        "--jinja --warmup --no-warmup -cb --cont-batching -cnv --conversation -st --single-turn -i --interactive \
         -if --interactive-first -mli --multiline-input --display-prompt --no-display-prompt --simple-io --perf \
         --no-perf --show-timings --no-show-timings --mmproj-offload --mmproj-auto --repack --no-escape \
         --no-context-shift --skip-chat-parsing --no-skip-chat-parsing --prefill-assistant --cache-prompt --ui \
         --webui --props --log-disable --log-prefix --no-log-prefix --log-timestamps --no-log-timestamps \
         --kv-offload -kvo --op-offload --in-prefix-bos",
        Nothing(Values::None),
    ),
    ("-co --color --log-colors", Nothing(Values::Switch)),
    ("--poll --poll-batch", Nothing(Values::One)),
    // Flags without which the answer is the same.
    ("-nocb --no-cont-batching", Noted(Values::None, "passed over; -np 1 answers one request after another")),
    ("--context-shift", Noted(Values::None, "passed over; an answer ends where the context is full")),
    (
        "-C --cpu-mask -Cr --cpu-range -Cb --cpu-mask-batch -Crb --cpu-range-batch --numa",
        Noted(Values::One, THREADS),
    ),
    ("--cpu-strict --cpu-strict-batch --prio --prio-batch", Noted(Values::One, THREADS)),
    (
        "-ot --override-tensor -ncmoe --n-cpu-moe -ncffn --n-cpu-ffn -fit --fit -fitt --fit-target -fitc --fit-ctx",
        Noted(Values::One, PLACED),
    ),
    ("-cmoe --cpu-moe --no-host -nkvo --no-kv-offload --no-op-offload", Noted(Values::None, PLACED)),
    ("--mlock", Noted(Values::None, "passed over; weights are not locked into memory")),
    ("--check-tensors", Noted(Values::None, "passed over; illava inspect checks the files")),
    (
        "-kvu --kv-unified -no-kvu --no-kv-unified --swa-full --cache-idle-slots --no-cache-idle-slots",
        Noted(Values::None, CACHE),
    ),
    (
        "-cram --cache-ram -ctxcp --ctx-checkpoints --swa-checkpoints -cms --checkpoint-min-step --cache-reuse",
        Noted(Values::One, CACHE),
    ),
    ("-sps --slot-prompt-similarity -dt --defrag-thold", Noted(Values::One, CACHE)),
    ("--no-cache-prompt", Noted(Values::None, CACHE)),
    ("--log-verbose --verbose-prompt --log-jsonl --no-log-jsonl", Noted(Values::None, LOG)),
    ("-lv --verbosity --log-verbosity --log-file --log-prompts-dir", Noted(Values::One, LOG)),
    ("--threads-http", Noted(Values::One, "passed over; connections cost no thread here")),
    (
        "-to --timeout",
        Noted(Values::One, "passed over; --head-timeout, --body-timeout and --fetch-timeout bound a client"),
    ),
    (
        "--no-ui --no-webui",
        Noted(Values::None, "passed over; the page is served at / and sends nothing elsewhere"),
    ),
    // Flags that would change the answer.
    (
        "--no-jinja",
        Refused(
            "templates are always Jinja; name a built-in one with --chat-template vicuna, mistral or chatml",
        ),
    ),
    (
        "-no-cnv --no-conversation",
        Refused("prompts go through the chat template; serve has /completion for raw ones"),
    ),
    (
        "--no-prefill-assistant",
        Refused("a conversation that ends with an assistant's message is continued; end it with a user's"),
    ),
    (
        "--in-prefix --in-suffix",
        Refused("the chat template puts its own marks around a turn; give --chat-template instead"),
    ),
    ("--reasoning-effort", EFFORT),
    ("--reasoning-budget-message", THINKING),
    ("--audio", Refused("no model with an audio encoder is loaded here; leave it out")),
    (
        "-md --model-draft -hfd -hfrd --hf-repo-draft -td -tbd -ngld -devd -ctkd -ctvd -otd -lcs --lookup-cache-static -lcd --lookup-cache-dynamic",
        DRAFT,
    ),
    (
        "--mirostat --mirostat-lr --mirostat-ent --xtc-probability --xtc-threshold --typical --typical-p --top-nsigma --top-n-sigma",
        SAMPLER,
    ),
    (
        "--dry-multiplier --dry-base --dry-allowed-length --dry-penalty-last-n --dry-sequence-breaker --dynatemp-range --dynatemp-exp",
        SAMPLER,
    ),
    ("--adaptive-target --adaptive-decay --samplers --sampler-seq -bs --backend-sampling", SAMPLER),
    (
        "--rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx --yarn-ext-factor --yarn-attn-factor",
        ROPE,
    ),
    ("--yarn-beta-slow --yarn-beta-fast -gan --grp-attn-n -gaw --grp-attn-w", ROPE),
    ("--override-kv", Refused("metadata is taken from the file; change the file")),
    ("--lora --lora-scaled --lora-init-without-apply", ADAPTER),
    (
        "--control-vector --control-vector-scaled --control-vector-layer-range",
        Refused("there are no control vectors here; llama.cpp has them"),
    ),
    ("-mu --model-url -mmu --mmproj-url -dr --docker-repo", ELSEWHERE),
    (
        "-hft --hf-token",
        Refused(
            "a key on the command line shows in the list of processes; set the variable HF_TOKEN instead",
        ),
    ),
    ("--embedding --embeddings --rerank --reranking --pooling --attention --embd-normalize", EMBEDDING),
    ("--spm-infill", Refused("there is no infill here; llama-server has it")),
    ("--ssl-key-file --ssl-cert-file --api-prefix --reuse-port", TLS),
    ("--path --ui-config --webui-config --ui-config-file --webui-config-file", PAGE),
    (
        "--ui-mcp-proxy --webui-mcp-proxy --tools --tools-runtime --mcp-servers-config --mcp-servers-json -ag --agent",
        TOOLS,
    ),
    (
        "--models-dir --models-preset --models-max --models-autoload --no-models-autoload --sleep-idle-seconds",
        MODELS,
    ),
    (
        "-bf --binary-file -ptc --print-token-count --prompt-cache --prompt-cache-all --prompt-cache-ro",
        Refused("illava has no such thing; batch --resume and the server's cache serve most of it"),
    ),
    ("-sp --special", Refused("special tokens are not printed; /v1/completions with n_probs shows tokens")),
    ("--list-devices", Refused("-v names the devices that a model is loaded on")),
];

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn names() -> impl Iterator<Item = &'static str> {
        SHORT
            .iter()
            .map(|(name, _)| *name)
            .chain(OTHERS.iter().flat_map(|(names, _)| names.split_whitespace()))
    }

    #[test]
    fn each_name_is_listed_once() {
        let mut seen = std::collections::HashSet::new();
        for name in names() {
            assert!(seen.insert(name), "{name} twice");
            assert!(meaning(name).is_some(), "{name}");
        }
    }

    #[test]
    fn what_is_refused_is_no_flag_of_ours() {
        let cli = crate::cli::flags::Cli::command();
        for command in cli.get_subcommands() {
            for arg in command.get_arguments() {
                for long in arg.get_long_and_visible_aliases().unwrap_or_default() {
                    let listed = OTHERS.iter().find(|(names, _)| {
                        names.split(' ').any(|name| name[2..] == *long && name.starts_with("--"))
                    });
                    assert!(listed.is_none(), "{} --{long} is ours and in the table", command.get_name());
                }
            }
        }
    }

    #[test]
    fn a_written_out_name_is_a_flag_of_ours() {
        let cli = crate::cli::flags::Cli::command();
        let ours: Vec<String> = cli
            .get_subcommands()
            .flat_map(|command| {
                command.get_arguments().filter_map(|arg| arg.get_long()).map(|long| format!("--{long}"))
            })
            .collect();
        for (short, long) in SHORT {
            assert!(ours.iter().any(|name| name == long), "{short} -> {long}");
        }
    }
}
