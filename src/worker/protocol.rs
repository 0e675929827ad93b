//! What is said to a worker ([`Request`]) and by it ([`Event`]), one message a frame.
//!
//! Ids are the caller's: unique among the requests that are not over. Every `Generate` is
//! answered by exactly one `Done` or `Failed`, after which its id is free; nothing is sent for
//! an id after that. A request whose id the worker does not know (any more) is no error.

use serde::{Deserialize, Serialize};

pub use crate::engine::slots::{
    Alternative, Delta, Done, Failed, Finish, PictureCacheView as PictureCache, SlotState, SlotView as Slot,
    Started, Token,
};
use crate::error::{Error, Kind, Result};
use crate::media::Pixels;
use crate::media::video::Sampling as FrameSampling;
use crate::prompt::Message;
use crate::report;
use crate::schedule::Choice;

/// Towards the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Request {
    Generate(Box<Generate>),
    /// Ends a request: `Done` with [`Finish::Cancelled`] follows within one step.
    Cancel {
        id: u64,
    },
    /// Token ids of a text; `Tokens` follows.
    Tokenize {
        id: u64,
        text: String,
        add_special: bool,
        /// Whether special tokens' texts become those tokens.
        parse_special: bool,
    },
    /// `Status` follows.
    Status {
        id: u64,
    },
    /// Cancels everything and ends the process. To drain, stop sending and wait for `Done`s first.
    Shutdown,
}

/// One answer to one conversation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Generate {
    pub id: u64,
    pub messages: Vec<Message>,
    /// `Part::Image(n)` of the messages is `pictures[n]`.
    pub pictures: Vec<Picture>,
    /// What was asked about merging; `None` is the worker's own default. Resolved in the worker,
    /// where the model's numbers are: `Failed` with [`Kind::Usage`], [`Kind::Schedule`] or
    /// [`Kind::Model`] is the requester's to mend.
    pub merge: Option<Choice>,
    pub limits: Limits,
    pub sampling: Sampling,
    pub grammar: Option<Grammar>,
    /// Log-probabilities of the drawn tokens, with this many alternatives each.
    pub logprobs: Option<u32>,
    /// Requests of different scopes never share encoded pictures or cached prompts; `None` shares
    /// with nobody and leaves nothing behind.
    pub scope: Option<Vec<u8>>,
    pub trace: bool,
}

/// A decoded picture, or the frames of a video: what makes one span.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Picture {
    /// Of the size and the pixels; see [`Picture::new`].
    pub key: [u8; 32],
    pub width: u32,
    pub height: u32,
    /// Frames of a video; `None` for a picture.
    pub frames: Option<u32>,
    /// Interleaved 8-bit RGB, [height, width, 3], of a video frame after frame.
    #[serde(with = "serde_bytes")]
    pub rgb: Vec<u8>,
    /// What decoding it took, for the report.
    pub decode_ms: f64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Tokens of the answer at most; `None` until the context is full.
    pub max_tokens: Option<u32>,
    /// The answer ends before any of these; none of them is shown.
    pub stop: Vec<String>,
    /// Goes on after the model's own end.
    pub ignore_eos: bool,
}

/// How the next token is drawn; the defaults are llama.cpp's names with this program's values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 or below takes the most likely token.
    pub temperature: f32,
    /// 0 or below keeps all.
    pub top_k: i32,
    pub top_p: f32,
    pub min_p: f32,
    /// `None` draws a seed; the report has it.
    pub seed: Option<u32>,
    /// Tokens that the penalties look back on; 0 looks at none, below 0 at the whole context.
    pub repeat_last_n: i32,
    /// 1 is none.
    pub repeat_penalty: f32,
    /// 0 is none.
    pub frequency_penalty: f32,
    /// 0 is none.
    pub presence_penalty: f32,
    /// Token and what is added to its logit; minus infinity forbids it.
    pub logit_bias: Vec<(i32, f32)>,
}

/// What an answer must look like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Grammar {
    /// llama.cpp's GBNF, with a rule named `root`.
    Gbnf(String),
    /// A JSON schema, as JSON text.
    JsonSchema(String),
    /// Any JSON object.
    JsonObject,
}

/// From the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Event {
    /// Share of the weights that are read, 0 to 1.
    Loading {
        share: f32,
    },
    Ready(Box<Ready>),
    /// The process ends after this.
    LoadFailed {
        kind: Kind,
        message: String,
    },
    /// The request has a slot, its pictures are encoded and its prompt is known; `Delta`s follow.
    Started(Started),
    Delta(Delta),
    Done(Box<Done>),
    Failed(Failed),
    Tokens {
        id: u64,
        tokens: Vec<TokenText>,
    },
    Status(Box<Status>),
}

/// What was loaded, for `/props` and `/v1/models`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    pub model: report::Model,
    /// `general.name` of the text model.
    pub name: Option<String>,
    pub n_vocab: u32,
    pub n_embd: u32,
    pub n_layer: u32,
    pub n_ctx_train: u32,
    /// Bytes of the weights, text model and projector.
    pub weight_bytes: u64,
    /// Cells of the first segment, all slots together.
    pub n_ctx: u32,
    /// Cells of the first segment that one slot has: the longest prompt and answer.
    pub n_ctx_slot: u32,
    pub slots: u32,
    /// Segments of the KV cache, all slots together.
    pub segments: Vec<Segment>,
    pub encoder_can_merge: bool,
    pub decoder_can_merge: bool,
    /// Decoder layers that requests may merge at: fixed while the worker lives.
    pub merge_layers: Vec<u32>,
    /// The schedule of requests that ask for none.
    pub default_schedule: String,
    pub presets: Vec<Preset>,
    /// Whether a video is one span; otherwise its frames go in as pictures.
    pub takes_videos: bool,
    /// Which frames of a video.
    pub video_frames: FrameSampling,
    /// Jinja source.
    pub chat_template: String,
    pub bos_text: String,
    pub eos_text: String,
    /// Lines worth a log entry.
    pub remarks: Vec<String>,
    pub load_ms: f64,
}

/// A preset, and why this worker cannot take it, if so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preset {
    pub name: String,
    pub unusable: Option<String>,
}

/// One segment of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Half-open.
    pub layers: [u32; 2],
    pub cells: u32,
    pub bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenText {
    pub id: i32,
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
}

/// The state at one moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub id: u64,
    pub slots: Vec<Slot>,
    /// Requests that wait for a slot.
    pub queued: u32,
    pub pictures: PictureCache,
    /// Bytes resident now, where the system tells.
    pub rss: Option<u64>,
    /// Batches that carried generated tokens, since the start, and the tokens in them.
    pub decode_batches: u64,
    pub decode_tokens: u64,
}

impl Picture {
    /// With the key that everything else is found by: BLAKE3 of width, height (little-endian
    /// u32) and pixels.
    #[must_use]
    pub fn new(pixels: Pixels, decode_ms: f64) -> Self {
        let mut hash = blake3::Hasher::new();
        hash.update(&pixels.width.to_le_bytes());
        hash.update(&pixels.height.to_le_bytes());
        hash.update(&pixels.rgb);
        Self {
            key: *hash.finalize().as_bytes(),
            width: pixels.width,
            height: pixels.height,
            frames: None,
            rgb: pixels.rgb,
            decode_ms,
        }
    }

    /// The frames of a video as one span. The key is BLAKE3 of `video`, their number, width, height (little-endian
    /// u32) and pixels, so that one frame is not taken for a picture.
    ///
    /// # Errors
    /// [`Kind::Media`] for no frames, or frames of different sizes.
    pub fn video(frames: Vec<Pixels>, decode_ms: f64) -> Result<Self> {
        let bad = |what: &str| Error::new(Kind::Media, format!("a video {what}"));
        let (width, height) =
            frames.first().map(|first| (first.width, first.height)).ok_or_else(|| bad("without frames"))?;
        if frames.iter().any(|frame| (frame.width, frame.height) != (width, height)) {
            return Err(bad("whose frames differ in size; make them one size"));
        }
        let count = u32::try_from(frames.len()).map_err(|_| bad("of too many frames"))?;
        let mut hash = blake3::Hasher::new();
        hash.update(b"video");
        for number in [count, width, height] {
            hash.update(&number.to_le_bytes());
        }
        let mut rgb = Vec::with_capacity(frames.iter().map(|frame| frame.rgb.len()).sum());
        for frame in frames {
            hash.update(&frame.rgb);
            rgb.extend_from_slice(&frame.rgb);
        }
        Ok(Self { key: *hash.finalize().as_bytes(), width, height, frames: Some(count), rgb, decode_ms })
    }

    /// Pixels in all, of a video over its frames.
    #[must_use]
    pub fn pixels(&self) -> u64 {
        u64::from(self.width) * u64::from(self.height) * u64::from(self.frames.unwrap_or(1))
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.2,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            seed: None,
            repeat_last_n: 64,
            repeat_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{Part, Role};
    use crate::report::Trace;
    use crate::schedule::{Amount, Half, MergeFlag};
    use crate::worker::frame;

    fn passes<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
        let body = frame::encode(message).unwrap();
        assert_eq!(&frame::decode::<T>(&body).unwrap(), message);
    }

    pub fn generate() -> Generate {
        let pixels = Pixels { width: 2, height: 1, rgb: vec![0, 255, 128, 1, 2, 3], remark: None };
        Generate {
            id: u64::MAX,
            messages: vec![
                Message::text(Role::System, "be brief"),
                Message { role: Role::User, parts: vec![Part::Image(0), Part::Text("what?".into())] },
            ],
            pictures: vec![Picture::new(pixels, 1.5)],
            merge: Some(Choice {
                merge: Some(MergeFlag::Model),
                llm: Some(Half { layers: vec![2], amounts: vec![Amount::Keep(0.7)] }),
                ..Choice::default()
            }),
            limits: Limits { max_tokens: None, stop: vec!["\n".into()], ignore_eos: true },
            sampling: Sampling { logit_bias: vec![(3, f32::NEG_INFINITY)], ..Sampling::default() },
            grammar: Some(Grammar::JsonObject),
            logprobs: Some(3),
            scope: Some(vec![0, 255]),
            trace: true,
        }
    }

    #[test]
    fn requests_pass() {
        passes(&Request::Generate(Box::new(generate())));
        passes(&Request::Cancel { id: 1 });
        passes(&Request::Tokenize { id: 1, text: "a".into(), add_special: true, parse_special: false });
        passes(&Request::Status { id: 4 });
        passes(&Request::Shutdown);
    }

    #[test]
    fn events_pass() {
        passes(&Event::Loading { share: 0.5 });
        passes(&Event::LoadFailed { kind: Kind::File, message: "no".into() });
        passes(&Event::Delta(Delta {
            id: 1,
            text: "é".into(),
            tokens: vec![Token {
                id: 5,
                bytes: vec![0xc3],
                logprob: -0.5,
                top: vec![Alternative { id: 6, bytes: vec![0xa9], logprob: f32::NEG_INFINITY }],
            }],
        }));
        let trace = Trace {
            strategy: "merge".into(),
            prompt: vec![
                report::PromptPart::Tokens { tokens: vec![1, 2] },
                report::PromptPart::Span { span: 0, n: 4, cells: None },
            ],
            images: vec![report::ImageTile {
                index: 0,
                width: 2,
                height: 1,
                tile: 0,
                grid: [2, 2],
                pixels: None,
                frame: None,
            }],
            steps: Vec::new(),
            files: Vec::new(),
        };
        passes(&Event::Done(Box::new(Done {
            id: 1,
            finish: Finish::StopString("x".into()),
            prompt_tokens: 5,
            cached_tokens: 4,
            computed_tokens: 1,
            generated_tokens: 2,
            cached_pictures: 1,
            queued_ms: 0.25,
            report: report::tests::example(),
            trace: Some(trace),
        })));
        passes(&Event::Failed(Failed {
            id: 1,
            kind: Kind::Context,
            message: "long".into(),
            context: Some((5, 4)),
        }));
    }

    #[test]
    fn frames_of_a_video() {
        let frame =
            |width, first| Pixels { width, height: 1, rgb: vec![first; width as usize * 3], remark: None };
        let film = Picture::video(vec![frame(2, 1), frame(2, 9)], 0.5).unwrap();
        assert_eq!((film.frames, film.pixels(), film.rgb.len()), (Some(2), 4, 12));
        assert_eq!((film.rgb[0], film.rgb[6]), (1, 9));
        assert_eq!(Picture::video(Vec::new(), 0.0).unwrap_err().kind(), Kind::Media);
        assert_eq!(Picture::video(vec![frame(2, 1), frame(3, 1)], 0.0).unwrap_err().kind(), Kind::Media);
    }

    #[test]
    fn a_key_tells_pictures_apart() {
        let key = |width, height, first| {
            let pixels = Pixels { width, height, rgb: vec![first; 6], remark: None };
            Picture::new(pixels, 0.0).key
        };
        let film = |frames: usize, first| {
            let frame = || Pixels { width: 2, height: 1, rgb: vec![first; 6], remark: None };
            Picture::video((0..frames).map(|_| frame()).collect(), 0.0).unwrap().key
        };
        assert_eq!(film(2, 7), film(2, 7));
        let all = [film(1, 7), film(2, 7), film(2, 8), key(2, 1, 7)];
        for (i, one) in all.iter().enumerate() {
            assert!(all[..i].iter().all(|other| other != one), "{i}");
        }
        assert_eq!(key(2, 1, 7), key(2, 1, 7));
        assert_ne!(key(2, 1, 7), key(1, 2, 7));
        assert_ne!(key(2, 1, 7), key(2, 1, 8));
    }
}
