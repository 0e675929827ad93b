//! `illava run`: one answer, or a chat.

use std::io::IsTerminal;

use super::progress::Progress;
use super::{answering, chat, flags, images, interrupt, output, settings, video, words};
use crate::answer::{Answer, Engine, Finish, LlamaEngine, Session, Sizing};
use crate::error::{Error, Result, worded};
use crate::prompt::{Message, Part, Role};
use crate::report::Trace;
use crate::schedule::Grid;
use crate::see::VisualInput;

/// Cells of the KV cache if nothing says how long a conversation gets.
const CHAT_CELLS: u32 = 4096;

pub(super) fn run(settings: &settings::Run) -> Result<()> {
    let prompt = match &settings.prompt {
        Some(prompt) => Some(prompt.clone()),
        None if std::io::stdin().is_terminal() => None,
        None => Some(flags::text::piped()?),
    };
    let (mut session, mut parts) = begin(settings, prompt.is_none(), |_| ())?;
    match prompt {
        Some(prompt) => {
            parts.push(Part::Text(prompt));
            once(&mut session, settings, parts)
        }
        None => chat::chat(session, settings, parts),
    }
}

/// Answers the prompt, which must be there. Returns the answer and the facts of its spans; nothing is
/// printed.
pub(super) fn answered(settings: &settings::Run) -> Result<(Answer, Vec<VisualInput>)> {
    let mut seen = Vec::new();
    let (mut session, mut parts) = begin(settings, false, |shown| seen.push(shown.clone()))?;
    parts.extend(settings.prompt.clone().map(Part::Text));
    let progress = Progress::new();
    progress.say("answering".into());
    let mut answer = session.answer(&conversation(settings, parts), &settings.how, &mut |_| ())?;
    name_files(settings, &mut answer.trace);
    match answer.finish {
        Finish::Cancelled => Err(Error::interrupted()),
        _ => Ok((answer, seen)),
    }
}

/// Loads the pair and encodes pictures and videos. Each of them goes to `seen` first.
fn begin(
    settings: &settings::Run,
    interactive: bool,
    mut seen: impl FnMut(&VisualInput),
) -> Result<(Session<LlamaEngine>, Vec<Part>)> {
    interrupt::install(settings.load.stop)?;
    // Pictures are read first: a misspelt path should not cost the time of loading a model.
    if settings.load.projector.is_none() && !(settings.images.is_empty() && settings.videos.is_empty()) {
        return Err(Error::usage(
            "no image projector: pictures and videos need one; give its GGUF file with -mm (--mmproj)",
        ));
    }
    let pictures = settings.images.iter().map(|name| images::open(name)).collect::<Result<Vec<_>>>()?;
    let videos = settings.videos.iter().map(|what| video::open(what)).collect::<Result<Vec<_>>>()?;
    let progress = Progress::new();
    let bar = progress.clone();
    let (engine, remarks) = LlamaEngine::load(&settings.load, move |stage| bar.loading(stage))?;
    if settings.load.stop.is_asked() {
        return Err(Error::interrupted());
    }
    // The default schedule may not fit this model.
    let choice = video::choice(&settings.choice, !settings.videos.is_empty(), &engine);
    let schedule = engine.facts().schedule(&choice).or_else(|_| engine.facts().schedule(&settings.choice))?;
    let has_other_grid = engine.facts().shape.pooled <= 1;
    let sizing = sizing(settings, interactive, engine.facts().pair.n_ctx_train);
    progress.clear();
    // Without a picture there is nothing to merge.
    let merging =
        schedule.remark.as_ref().filter(|_| interactive || !pictures.is_empty() || !videos.is_empty());
    for line in remarks.iter().chain(merging) {
        eprintln!("note: {}", worded(line, words::flag));
    }
    let mut session = Session::new(engine, schedule, sizing, settings.load.stop);
    let mut parts = Vec::new();
    let count = pictures.len();
    session.expect_images(count);
    for (i, (pixels, decode_ms)) in pictures.into_iter().enumerate() {
        if let Some(line) = &pixels.remark {
            eprintln!("note: {line}");
        }
        let progress = Progress::new();
        progress.say(format!("encoding picture {} of {count}", i + 1));
        let input = VisualInput::Image(pixels);
        seen(&input);
        parts.push(Part::Image(session.add_input(input, decode_ms)?));
    }
    for source in &videos {
        parts.extend(video::add(&mut session, source, settings, &mut seen)?);
    }
    // A tower whose patches are averaged has no other grid.
    if has_other_grid {
        advise(&session, &parts);
    }
    Ok((session, parts))
}

/// Returns one line if merging in the encoder saves hardly any rows of the decoder.
fn advise(session: &Session<LlamaEngine>, parts: &[Part]) {
    let shares = parts.iter().find_map(|part| match part {
        Part::Image(number) => session.image(*number)?.plan.kept_by_pooling(),
        Part::Text(_) | Part::Call(_) | Part::CallId(_) | Part::Thought(_) => None,
    });
    if let Some((encoder, rows)) = shares.filter(|_| session.schedule().grid == Grid::Faithful) {
        eprintln!(
            "note: the encoder keeps {:.0} % of its tokens, but the prompt {:.0} % of its rows, since cells that are pooled or capped seldom lose all their parts; --grid reference keeps the saving",
            100.0 * encoder,
            100.0 * rows
        );
    }
}

fn sizing(settings: &settings::Run, interactive: bool, trained: u32) -> Sizing {
    match settings.cells {
        Some(cells) => Sizing::Cells(cells),
        None if interactive || settings.how.limits.max_tokens.is_none() => {
            Sizing::Cells(CHAT_CELLS.min(trained))
        }
        None => Sizing::Fit,
    }
}

fn conversation(settings: &settings::Run, parts: Vec<Part>) -> Vec<Message> {
    let system = settings.system.iter().map(|system| Message::text(Role::System, system));
    system.chain([Message { role: Role::User, parts }]).collect()
}

fn once(session: &mut Session<LlamaEngine>, settings: &settings::Run, parts: Vec<Part>) -> Result<()> {
    let mut answer = answering::stream(session, settings, &conversation(settings, parts))?;
    name_files(settings, &mut answer.trace);
    output::say("\n")?;
    answering::write(settings, &answer)?;
    match answer.finish {
        Finish::Cancelled => Err(Error::interrupted()),
        _ => Ok(()),
    }
}

/// Names the sources in the trace, unless a video went in as many pictures.
fn name_files(settings: &settings::Run, trace: &mut Trace) {
    let images = settings.images.iter().map(|name| images::shown(name));
    let videos = settings.videos.iter().map(|what| what.to_string_lossy().into_owned());
    let files: Vec<String> = images.chain(videos).collect();
    if trace.images.last().is_some_and(|tile| tile.index + 1 == files.len()) {
        trace.files = files;
    }
}
