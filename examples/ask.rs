//! Asks about a picture: `cargo run --release --example ask -- TEXT.gguf MMPROJ.gguf PICTURE QUESTION`.

use illava::{Choice, Generation, LoadSettings, Model, Pixels};

fn main() -> illava::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [text, projector, picture, question] = &arguments[..] else {
        eprintln!("usage: ask TEXT.gguf MMPROJ.gguf PICTURE QUESTION");
        std::process::exit(2);
    };
    let mut model = Model::load(&LoadSettings::new(text, projector), &Choice::default())?;
    let answer = model.ask(&[Pixels::open(picture)?], question, &Generation::greedy(Some(300)))?;
    println!("{}", answer.report.text);
    eprintln!("{} visual tokens", answer.report.tokens.visual);
    Ok(())
}
