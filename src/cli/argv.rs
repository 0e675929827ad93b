//! llama.cpp's short flags of several letters, which clap would take for one letter and a value.

use std::ffi::OsString;

const SHORT: [(&str, &str); 14] = [
    ("-mm", "--mmproj"),
    ("-hf", "--hf-repo"),
    ("-hfr", "--hf-repo"),
    ("-hff", "--hf-file"),
    ("-sys", "--system-prompt"),
    ("-np", "--parallel"),
    ("-ub", "--ubatch-size"),
    ("-tb", "--threads-batch"),
    ("-ngl", "--gpu-layers"),
    ("-fa", "--flash-attn"),
    ("-ctk", "--cache-type-k"),
    ("-ctv", "--cache-type-v"),
    ("-nr", "--no-repack"),
    ("-lm", "--load-mode"),
];

/// The arguments with those flags written out; what follows `--` is left alone.
pub(super) fn long(args: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut literal = false;
    args.into_iter()
        .map(|arg| {
            literal |= arg == "--";
            let found = SHORT.iter().find(|(short, _)| !literal && arg == *short);
            found.map_or(arg, |(_, long)| OsString::from(long))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_out() {
        let cases: [(&[&str], &[&str]); 3] = [
            (
                &["illava", "run", "-mm", "p.gguf", "-m", "t.gguf"],
                &["illava", "run", "--mmproj", "p.gguf", "-m", "t.gguf"],
            ),
            (
                &["-sys", "-ub", "-tb", "-ngl", "-fa", "-ctk", "-ctv"],
                &[
                    "--system-prompt",
                    "--ubatch-size",
                    "--threads-batch",
                    "--gpu-layers",
                    "--flash-attn",
                    "--cache-type-k",
                    "--cache-type-v",
                ],
            ),
            (&["-mm", "--", "-mm"], &["--mmproj", "--", "-mm"]),
        ];
        for (args, expected) in cases {
            let args = long(args.iter().map(OsString::from));
            assert_eq!(args, expected.iter().map(OsString::from).collect::<Vec<_>>());
        }
    }
}
