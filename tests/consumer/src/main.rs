//! Asks the demo pair through the library, with nothing of illava's that is not public.

#![forbid(unsafe_code)]

use illava::{Choice, Finish, Generation, Kind, LoadSettings, MergeFlag, Model, Pixels};

fn main() -> illava::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or_else(|| "../../models/demo".into());
    let settings = LoadSettings::new(format!("{folder}/text.gguf"), format!("{folder}/mmproj.gguf"));
    let off = Choice { merge: Some(MergeFlag::Off), ..Choice::default() };
    let picture = Pixels::open(format!("{folder}/images/scene-448.png"))?;
    let mut model = Model::load(&settings, &Choice::default())?;
    let how = Generation::greedy(Some(8));
    let merged = model.ask(&[picture.clone()], "What color is the star?", &how)?;
    model.set_merge(&off)?;
    let mut streamed = String::new();
    let whole = model.ask_with(&[picture], "What color is the star?", &how, &mut |text| streamed += text)?;
    assert_eq!((&streamed, &whole.finish), (&whole.report.text, &Finish::Stop));
    let left = |answer: &illava::Answer| answer.report.tokens.visual_kv.last().map(|kv| kv.tokens);
    println!("{} ({:?} of {:?} visual tokens)", merged.report.text.trim(), left(&merged), left(&whole));
    let missing = Model::load(&LoadSettings::new("missing.gguf", "missing.gguf"), &off).err();
    assert_eq!(missing.map(|error| error.kind()), Some(Kind::File));
    Ok(())
}
