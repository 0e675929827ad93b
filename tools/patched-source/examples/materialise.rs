//! `materialise DIR [--stock]` makes DIR the patched llama.cpp tree, or with `--stock` the
//! pristine one. What is right already is left alone.

use std::path::Path;
use std::process::ExitCode;

use patched_source::{Error, Layout, Tree, Upstream};

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let (Some(dir), option) = (args.next(), args.next()) else {
        eprintln!("usage: materialise DIR [--stock]");
        return ExitCode::from(2);
    };
    let stock = match option.as_deref() {
        None => false,
        Some("--stock") => true,
        Some(other) => {
            eprintln!("materialise: {other}: the only option is --stock");
            return ExitCode::from(2);
        }
    };
    match materialise(Path::new(&dir), stock) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("materialise: {error}");
            ExitCode::FAILURE
        }
    }
}

fn materialise(dir: &Path, stock: bool) -> Result<(), Error> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let layout = Layout::of_checkout(&root);
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let upstream = Upstream::locate(Path::new(&cargo), &layout.upstream)?;
    let tree = if stock { Tree::pristine(&upstream.source())? } else { layout.patched(&upstream)? };
    let done = tree.write_to(dir)?;
    eprintln!("{}: {} files written, {} removed", dir.display(), done.written, done.removed);
    Ok(())
}
