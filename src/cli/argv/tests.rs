use super::*;

fn words(line: &str) -> Result<Read> {
    read(line.split(' ').map(OsString::from))
}

fn said(line: &str) -> String {
    match words(line) {
        Ok(read) => format!("{:?}", read.args),
        Err(error) => error.worded(crate::cli::words::flag),
    }
}

#[test]
fn what_clap_reads() {
    for (typed, expected) in [
        ("illava run -mm p.gguf -m t.gguf", "illava run --mmproj p.gguf -m t.gguf"),
        ("illava run -sys s -ub 1 -tb 2", "illava run --system-prompt s --ubatch-size 1 --threads-batch 2"),
        (
            "illava run -ngl -1 -ctk f16 -ctv f16",
            "illava run --gpu-layers -1 --cache-type-k f16 --cache-type-v f16",
        ),
        // A value is a value, whatever it looks like.
        ("illava run -p -fa -m -ngl", "illava run -p -fa -m -ngl"),
        ("illava run --prompt --jinja", "illava run --prompt --jinja"),
        ("illava run -p=-fa --keep=0.3", "illava run -p=-fa --keep=0.3"),
        ("illava run -m t -- -mm", "illava run -m t -- -mm"),
        // Flash attention was a switch once.
        ("illava run -fa -m t", "illava run --flash-attn=on -m t"),
        ("illava run -fa off", "illava run --flash-attn=off"),
        ("illava run -fa", "illava run --flash-attn=on"),
        ("illava run --no-mmap --mmap", "illava run --load-mode=none --load-mode=mmap"),
        // Flags that ask for the default.
        ("illava run --jinja -co on --color -m t", "illava run -m t"),
        ("illava run --no-warmup -st -cnv -cb --log-disable --no-display-prompt", "illava run"),
        ("illava run --poll 50 --poll-batch 1 -v", "illava run -v"),
        // clap's own short forms.
        ("illava run -vv -n128 -c4096 -n-1", "illava run -vv -n128 -c4096 -n-1"),
        ("illava run --temp -1 -n -1 --image a.jpg b.jpg", "illava run --temp -1 -n -1 --image a.jpg b.jpg"),
        ("illava --version", "illava --version"),
        ("illava", "illava"),
    ] {
        let expected: Vec<OsString> = expected.split(' ').map(OsString::from).collect();
        assert_eq!(words(typed).unwrap().args, expected, "{typed}");
    }
}

#[test]
fn a_note_for_what_somebody_may_miss() {
    for (typed, flag) in [
        ("illava serve -m t --cache-reuse 256 -np 2", "--cache-reuse: "),
        ("illava run --numa distribute", "--numa: "),
        ("illava run -ot exps=CPU", "-ot: "),
        ("illava run --log-file=x", "--log-file=x: "),
    ] {
        let read = words(typed).unwrap();
        assert_eq!(read.notes.len(), 1, "{typed}");
        assert!(read.notes[0].starts_with(flag), "{:?}", read.notes);
        assert!(
            !read.args.iter().any(|arg| arg == "256" || arg == "distribute" || arg == "exps=CPU"),
            "{read:?}"
        );
    }
}

#[test]
fn refused_with_a_line_of_its_own() {
    for (typed, part) in [
        ("illava run -hfd x", "-hfd: there are no draft models"),
        ("illava run --spec-draft-n-max 4", "--spec-draft-n-max: there are no draft models"),
        ("illava run -md draft.gguf", "-md: there are no draft models"),
        ("illava run --lora a.gguf", "--lora: adapters are merged"),
        ("illava run --mirostat 2", "--mirostat: this sampler"),
        ("illava run --audio a.wav", "--audio: no model with an audio encoder"),
        ("illava serve --ssl-key-file k", "--ssl-key-file: the server speaks plain HTTP"),
        ("illava run -smx none", "-smx: there is no such flag; did you mean -sm?"),
        ("illava run -xyz", "-xyz: there is no such flag; --help lists them"),
    ] {
        assert!(said(typed).starts_with(part), "{typed}: {}", said(typed));
    }
}
