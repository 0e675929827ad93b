//! A request as it was sent, made into one that the slots take: its schedule chosen for this
//! model, its text tokenised, its numbers checked.

use std::sync::Arc;
use std::time::Instant;

use crate::answer::{Generation, Job, PictureSource, PromptPicture, Spent, Thought};
use crate::error::{Error, Field, Kind, Result};
use crate::media::Pixels;
use crate::pair::{TextSide, usual_choice};
use crate::prompt::{self, Chunk, Conversation, Part, ThoughtForm};
use crate::request::{self, Raw, Request, Thinking};
use crate::schedule::{Choice, Schedule, not_cut};
use crate::see::{Expected, Key, Outline, Visual, VisualInput};

/// No token stands for more bytes of text than this; so a text of more bytes than tokens fit
/// times this need not be tokenised to be refused.
const TOKEN_BYTES: usize = 1024;

/// Facts of a worker that requests are held against.
pub(super) struct Resolver {
    pub text: TextSide,
    /// The rules for the tokens of pictures; `None` without an image encoder.
    pub outline: Option<Outline>,
    /// The choice given to the worker when it was started.
    pub choice: Choice,
    pub default: Schedule,
    pub merge_layers: Vec<u32>,
    pub slot_cells: u32,
}

impl Resolver {
    /// # Errors
    /// Faults that the sender can mend; with the tokens of the prompt and of a slot if it is too long.
    pub(super) fn job(&self, request: Request) -> Result<Job> {
        let arrived = Instant::now();
        let facts = &self.text.facts;
        let video = facts.takes_videos() && request.media.iter().any(|one| one.frames.is_some());
        self.check_length(&request)?;
        let schedule = self.schedule(request.merge.as_ref(), video)?;
        let schedule =
            if request.media.is_empty() { schedule } else { schedule.asked(&question(&request))? };
        let (prompt, thought) = self.prompt(&request)?;
        // They may be special tokens.
        let marks = thought.iter().flat_map(|thought| [thought.open.clone(), thought.close.clone()]);
        let marks = request.marks.into_iter().chain(marks).collect();
        let pictures = request.media.iter().filter(|one| one.frames.is_none()).count();
        let several = facts.counts_pictures && pictures > 1;
        let media_ms = request.media.iter().fold(0.0, |sum, picture| sum + picture.decode_ms);
        let expected = |visual: &Visual<'_>| {
            self.outline
                .as_ref()
                .map_or_else(Expected::default, |outline| outline.expected(visual, &schedule))
        };
        let shown = request.media.into_iter().enumerate();
        let shown = shown.map(|(i, picture)| Ok((picture.key, input(i, picture)?)));
        let mut shown: Vec<(Key, VisualInput)> = shown.collect::<Result<_>>()?;
        if schedule.strategy.chooses_frames() {
            shown = compared(shown);
        }
        let pictures = shown.into_iter().map(|(key, input)| {
            let several = several && input.is_image();
            let expected = expected(&input.visual(several));
            PromptPicture { key, source: PictureSource::Pixels { input: Arc::new(input), several }, expected }
        });
        let pictures = pictures.collect();
        let mut sampling = request.sampling;
        for (text, bias) in &request.text_bias {
            let tokens = self.text.tokenize_text(text, false, false);
            sampling.logit_bias.extend(tokens.into_iter().map(|(token, _)| (token, *bias)));
        }
        Ok(Job {
            id: request.id,
            scope: request.scope,
            prompt,
            pictures,
            schedule,
            how: Generation {
                limits: request.limits,
                sampling,
                grammar: request.grammar,
                logprobs: request.logprobs,
                marks,
                thought,
            },
            trace: request.trace,
            slot: request.slot.map(|slot| slot as usize),
            arrived,
            spent: Spent { media_ms, ..Spent::default() },
        })
    }

    /// The choice asked for, or the usual one: with a video that of [`usual_choice`].
    fn schedule(&self, asked: Option<&Choice>, video: bool) -> Result<Schedule> {
        let facts = &self.text.facts;
        let select = |choice: &Choice| facts.schedule(choice);
        let own = || asked.map_or_else(|| Ok(self.default.clone()), select);
        let schedule = if video {
            // The default schedule may not fit this model.
            select(&usual_choice(asked.unwrap_or(&self.choice), facts)).or_else(|_| own())?
        } else {
            own()?
        };
        match schedule.merge_layers().into_iter().find(|layer| !self.merge_layers.contains(layer)) {
            Some(layer) => Err(not_cut(layer, &self.merge_layers)),
            None => Ok(schedule),
        }
    }

    /// The prompt as tokens and places of pictures, and the thought that may follow it.
    pub(super) fn prompt(&self, request: &Request) -> Result<(Vec<Chunk>, Option<Thought>)> {
        if !request.raw.is_empty() {
            let parts = request.raw.iter().enumerate();
            let chunks = parts
                .map(|(i, part)| match part {
                    Raw::Text(text) => Chunk::Tokens(self.text.tokenize_piece(text, i == 0)),
                    Raw::Tokens(tokens) => Chunk::Tokens(tokens.clone()),
                    Raw::Image(number) => Chunk::Image(*number),
                })
                .collect();
            return Ok((chunks, None));
        }
        let (chunks, begun) = self.text.tokenize_conversation(conversation(request))?;
        let form = ThoughtForm::of(self.text.template.source());
        let Thinking { asked, most } = request.thinking;
        let thought = form.map(|form| Thought {
            open: form.open.into(),
            close: form.close.into(),
            begun,
            // The model may still open one of itself.
            most: if asked == Some(false) { Some(0) } else { most },
        });
        Ok((chunks, thought))
    }

    /// The prompt as text, with a mark for each picture, and about how many tokens it is.
    ///
    /// # Errors
    /// As [`Resolver::job`].
    pub(super) fn describe(&self, request: Request) -> Result<(String, u32)> {
        let text = self.text.shown(conversation(&request))?;
        let job = self.job(request)?;
        let tokens = job.prompt.iter().map(|chunk| match chunk {
            Chunk::Tokens(tokens) => u32::try_from(tokens.len()).unwrap_or(u32::MAX),
            Chunk::Image(number) => job.pictures.get(*number).map_or(1, |picture| picture.expected.about),
        });
        Ok((text, tokens.fold(0, u32::saturating_add)))
    }

    fn check_length(&self, request: &Request) -> Result<()> {
        let parts = request.messages.iter().flat_map(|message| &message.parts).map(Part::bytes);
        let raw = request.raw.iter().map(|part| if let Raw::Text(text) = part { text.len() } else { 0 });
        let bytes: usize = parts.chain(raw).sum();
        let most = TOKEN_BYTES * self.slot_cells as usize;
        if bytes <= most {
            return Ok(());
        }
        Err(Error::new(
            Kind::Context,
            format!(
                "the prompt has {bytes} bytes of text, which no {} tokens hold, and a slot takes no more: shorten it, or give a larger context ({}), which the slots share",
                self.slot_cells,
                Field::ContextSize
            ),
        ))
    }
}

fn conversation(request: &Request) -> Conversation<'_> {
    Conversation {
        messages: &request.messages,
        tools: request.tools.as_ref(),
        variables: Some(&request.variables),
        headless: request.headless,
        thinks: request.thinking.asked,
    }
}

/// The text that a strategy looks for in the pictures.
fn question(request: &Request) -> String {
    let texts = request.raw.iter().filter_map(|part| match part {
        Raw::Text(text) => Some(text.trim()),
        Raw::Tokens(_) | Raw::Image(_) => None,
    });
    match request.raw.is_empty() {
        true => prompt::question(&request.messages),
        false => texts.filter(|text| !text.is_empty()).collect::<Vec<_>>().join(" "),
    }
}

/// Pixels of picture `i` of a request.
///
/// # Errors
/// [`Kind::Media`] for pixels that are no picture or video of the size they are said to have.
fn input(i: usize, picture: request::Picture) -> Result<VisualInput> {
    let (width, height, bytes) = (picture.width, picture.height, picture.rgb.len());
    let sides = [width, height, picture.frames.unwrap_or(1)];
    let whole = sides.iter().try_fold(3_u64, |product, &side| product.checked_mul(u64::from(side)));
    if bytes == 0 || whole != Some(bytes as u64) {
        let what = match picture.frames {
            None => format!("{width}x{height} picture"),
            Some(frames) => format!("video of {frames} frames of {width}x{height}"),
        };
        return Err(Error::new(Kind::Media, format!("picture {}: {bytes} bytes are no {what}", i + 1)));
    }
    let pixels = |rgb, moment| Pixels { width, height, rgb, remark: None, moment };
    Ok(match picture.frames {
        None => VisualInput::Image(pixels(picture.rgb, None)),
        Some(frames) => {
            let moments = picture.moments.into_iter().map(Some).chain(std::iter::repeat(None));
            let frames = picture.rgb.chunks_exact(bytes / frames as usize).zip(moments);
            VisualInput::Video(frames.map(|(frame, moment)| pixels(frame.to_vec(), moment)).collect())
        }
    })
}

/// The same pictures, each among all of them: what becomes of one depends on the others. Videos stay.
fn compared(shown: Vec<(Key, VisualInput)>) -> Vec<(Key, VisualInput)> {
    if shown.iter().filter(|(_, input)| input.is_image()).count() < 2 {
        return shown;
    }
    let mut hash = blake3::Hasher::new();
    hash.update(b"among");
    let mut pictures = Vec::new();
    let mut videos = Vec::new();
    for (key, input) in shown {
        videos.push((
            key,
            match input {
                VisualInput::Image(pixels) => {
                    hash.update(&key);
                    pictures.push(pixels);
                    None
                }
                other => Some(other),
            },
        ));
    }
    let (pictures, all) = (Arc::new(pictures), *hash.finalize().as_bytes());
    let mut places = 0..pictures.len();
    let of = |(key, video): (Key, Option<VisualInput>)| {
        if let Some(video) = video {
            return (key, video);
        }
        let at = places.next().unwrap_or_default();
        let mut hash = hash.clone();
        hash.update(&(at as u64).to_le_bytes());
        (*hash.finalize().as_bytes(), VisualInput::Among { pictures: Arc::clone(&pictures), at, all })
    };
    videos.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_what_they_say() {
        let of = |width, height, frames, n| request::Picture {
            key: [0; 32],
            width,
            height,
            frames,
            moments: Vec::new(),
            rgb: (0..).take(n).collect(),
            decode_ms: 0.0,
            remark: None,
        };
        let one = input(0, of(2, 1, None, 6)).unwrap();
        assert!(matches!(&one, VisualInput::Image(pixels) if pixels.rgb.len() == 6));
        let video = input(0, of(2, 1, Some(3), 18)).unwrap();
        assert!(!video.is_image());
        let VisualInput::Video(frames) = video else { panic!("no video") };
        assert_eq!((frames.len(), frames[2].rgb[0], frames[2].rgb.len()), (3, 12, 6));
        for wrong in [
            of(2, 1, None, 5),
            of(0, 1, None, 0),
            of(1, 0, None, 0),
            of(u32::MAX, u32::MAX, None, 3),
            of(2, 1, Some(3), 17),
            of(2, 1, Some(0), 0),
            of(0, 0, Some(0), 0),
            of(u32::MAX, u32::MAX, Some(u32::MAX), 3),
        ] {
            assert_eq!(input(0, wrong).unwrap_err().kind(), Kind::Media);
        }
    }

    #[test]
    fn pictures_that_are_compared_know_each_other() {
        let image = |n: u8| {
            let pixels = Pixels { width: 1, height: 1, rgb: vec![n; 3], remark: None, moment: None };
            ([n; 32], VisualInput::Image(pixels))
        };
        let video = || ([9; 32], VisualInput::Video(Vec::new()));
        assert_eq!(compared(vec![image(1), video()]), [image(1), video()], "one picture stands alone");
        let keys = |shown| compared(shown).into_iter().map(|(key, _)| key).collect::<Vec<Key>>();
        let all_of = |shown| match compared(shown).remove(0).1 {
            VisualInput::Among { all, .. } => all,
            _ => panic!("alone"),
        };
        assert_ne!(all_of(vec![image(1), image(2)]), all_of(vec![image(1), image(3)]));
        let three = compared(vec![image(1), video(), image(2)]);
        assert_eq!(three[1], video());
        for (place, (_, input)) in [&three[0], &three[2]].into_iter().enumerate() {
            let VisualInput::Among { pictures, at, all } = input else { panic!("alone") };
            assert_eq!((pictures.len(), *at), (2, place));
            assert_eq!(*all, all_of(vec![image(1), image(2)]), "the videos between them count for nothing");
        }
        let base = keys(vec![image(1), image(2)]);
        assert_eq!(base, keys(vec![image(1), image(2)]));
        for other in [vec![image(1), image(3)], vec![image(2), image(1)], vec![image(1), image(2), image(3)]]
        {
            assert!(keys(other).iter().all(|key| !base.contains(key)));
        }
    }
}
