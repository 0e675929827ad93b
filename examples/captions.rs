//! Captions a folder: `cargo run --release --example captions -- TEXT.gguf MMPROJ.gguf FOLDER`. Writes NAME.txt beside
//! each picture that has none; a file that is no picture is named and left out.

use std::path::PathBuf;

use illava::{Choice, Generation, LoadSettings, Model, Pixels};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [text, projector, folder] = &arguments[..] else {
        eprintln!("usage: captions TEXT.gguf MMPROJ.gguf FOLDER");
        std::process::exit(2);
    };
    let mut settings = LoadSettings::new(text, projector);
    settings.threads = 2;
    let mut model = Model::load(&settings, &Choice::default())?;
    let how = Generation::greedy(Some(60));
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    files.sort();
    for file in files.iter().filter(|file| file.extension().is_none_or(|ending| ending != "txt")) {
        let caption = file.with_extension("txt");
        if caption.exists() {
            continue;
        }
        match Pixels::open(file).and_then(|pixels| model.ask(&[pixels], "Describe the image.", &how)) {
            Ok(answer) => std::fs::write(caption, answer.report.text.trim())?,
            Err(error) => eprintln!("{error}"),
        }
    }
    Ok(())
}
