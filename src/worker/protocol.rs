//! Messages to a worker ([`Command`]) and from it ([`Event`]), one a frame.
//!
//! Ids are the caller's: unique among the requests that are not over. Every `Generate` is
//! answered by exactly one `Done` or `Failed`, after which its id is free; nothing is sent for
//! an id after that. A request whose id the worker does not know (any more) is no error.

use serde::{Deserialize, Serialize};

pub use crate::answer::{
    Alternative, Delta, Done, Failed, Finish, SlotFile, SlotState, SlotView as Slot, Started, Token,
};
use crate::error::Kind;
use crate::media::video::Sampling as FrameSampling;
use crate::report;
use crate::request::{self, VideoPlan};
use crate::schedule::{Choice, Strategy};
pub use crate::see::PictureCacheView as PictureCache;

/// Towards the worker.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Command {
    Generate(Box<request::Request>),
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
    /// The text of tokens; `Text` follows.
    Detokenize {
        id: u64,
        tokens: Vec<i32>,
    },
    /// The prompt of a request that is not answered; `Prompt` or `Failed` follows.
    Describe(Box<request::Request>),
    /// Empties an idle slot's cache; `Erased` follows.
    Erase {
        id: u64,
        slot: u32,
    },
    /// Saves or restores an idle slot; `Moved` or `Failed` follows.
    File(SlotOrder),
    /// `Status` follows.
    Status {
        id: u64,
    },
    /// Cancels everything and ends the process. To drain, stop sending and wait for `Done`s first.
    Shutdown,
}

/// A slot to be saved to a file of the worker's folder, or restored from one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotOrder {
    pub id: u64,
    pub slot: u32,
    pub restore: bool,
    /// Name of a file, without a folder.
    pub name: String,
    /// Scope of the conversation.
    pub scope: Vec<u8>,
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
    Text {
        id: u64,
        #[serde(with = "serde_bytes")]
        bytes: Vec<u8>,
    },
    Prompt(Prompt),
    /// Tokens that the slot held; `None` if it is answering.
    Erased {
        id: u64,
        tokens: Option<u32>,
    },
    /// A slot was saved or restored.
    Moved {
        id: u64,
        file: SlotFile,
    },
    Status(Box<Status>),
}

/// A prompt that is not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prompt {
    pub id: u64,
    /// With a mark for each picture.
    pub text: String,
    /// Text and what pictures bring, as near as can be told before they are encoded.
    pub tokens: u32,
}

/// Facts of the loaded pair, for `/props` and `/v1/models`.
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
    /// Its positions.
    pub default_positions: String,
    /// Its strategy.
    pub default_strategy: Strategy,
    pub presets: Vec<Preset>,
    /// Whether a video is one span. Otherwise its frames go in as pictures.
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

impl Ready {
    /// The form of a request's videos; `merge` is its schedule.
    #[must_use]
    pub fn plan(&self, merge: Option<&Choice>) -> VideoPlan {
        let strategy = merge.map_or(Some(self.default_strategy), |choice| choice.strategy);
        match strategy.is_some_and(Strategy::chooses_frames) {
            true => VideoPlan { one_span: true, frames: FrameSampling::FREE_VIDEO },
            false => VideoPlan { one_span: self.takes_videos, frames: self.video_frames },
        }
    }
}

/// Preset, with the reason if this worker cannot take it.
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
    /// Bytes resident now, if the system tells.
    pub rss: Option<u64>,
    /// Batches that carried generated tokens, since the start, and the tokens in them.
    pub decode_batches: u64,
    pub decode_tokens: u64,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Pixels;
    use crate::prompt::{Message, Part, Role};
    use crate::report::Trace;
    use crate::request::{Grammar, Limits, Picture, Sampling};
    use crate::schedule::{Amount, Choice, Half, MergeFlag};
    use crate::worker::frame;

    fn passes<T: Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug>(message: &T) {
        let body = frame::encode(message).unwrap();
        assert_eq!(&frame::decode::<T>(&body).unwrap(), message);
    }

    fn generate() -> request::Request {
        let pixels =
            Pixels { width: 2, height: 1, rgb: vec![0, 255, 128, 1, 2, 3], remark: None, moment: None };
        request::Request {
            id: u64::MAX,
            messages: vec![
                Message::text(Role::System, "be brief"),
                Message { role: Role::User, parts: vec![Part::Image(0), Part::Text("what?".into())] },
            ],
            raw: vec![request::Raw::Tokens(vec![1, 2]), request::Raw::Image(0)],
            media: vec![Picture::new(pixels, 1.5)],
            tools: Some(crate::prompt::Tools {
                list: vec![crate::prompt::Tool {
                    name: "f".into(),
                    description: String::new(),
                    parameters: serde_json::json!({ "type": "object", "minimum": 5, "x": [null, 1.5] }),
                }],
                choice: crate::prompt::ToolChoice::Named("f".into()),
                parallel: true,
            }),
            variables: [("a".to_owned(), serde_json::json!(true))].into_iter().collect(),
            thinking: request::Thinking { asked: Some(true), most: Some(9) },
            marks: vec!["<tool_call>".into()],
            merge: Some(Choice {
                merge: Some(MergeFlag::Model),
                llm: Some(Half { layers: vec![2], amounts: vec![Amount::Keep(0.7)] }),
                ..Choice::default()
            }),
            limits: Limits { max_tokens: None, stop: vec!["\n".into()], ignore_eos: true },
            sampling: Sampling { logit_bias: vec![(3, f32::NEG_INFINITY)], ..Sampling::default() },
            text_bias: vec![(" a".into(), f32::NEG_INFINITY)],
            slot: Some(1),
            headless: false,
            grammar: Some(Grammar::JsonObject),
            logprobs: Some(3),
            scope: Some(vec![0, 255]),
            trace: true,
        }
    }

    #[test]
    fn requests_pass() {
        passes(&Command::Generate(Box::new(generate())));
        passes(&Command::Cancel { id: 1 });
        passes(&Command::Tokenize { id: 1, text: "a".into(), add_special: true, parse_special: false });
        passes(&Command::Detokenize { id: 1, tokens: vec![1, -1] });
        passes(&Command::Describe(Box::new(generate())));
        passes(&Command::Erase { id: 3, slot: 1 });
        let order = SlotOrder { id: 3, slot: 1, restore: true, name: "a".into(), scope: vec![0, 255] };
        passes(&Command::File(order));
        passes(&Command::Status { id: 4 });
        passes(&Command::Shutdown);
    }

    #[test]
    fn events_pass() {
        passes(&Event::Loading { share: 0.5 });
        passes(&Event::Moved { id: 1, file: SlotFile { tokens: 2, bytes: 3 } });
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
            ids: vec![5],
        }));
        let trace = Trace {
            strategy: "merge".into(),
            prompt: vec![
                report::PromptPart::Tokens { tokens: vec![1, 2] },
                report::PromptPart::Span { span: 0, n: 4, cells: None, positions: None, sizes: None },
            ],
            images: vec![report::ImageTile {
                index: 0,
                width: 2,
                height: 1,
                tile: 0,
                grid: [2, 2],
                pixels: None,
                frame: None,
                budget: None,
                region: None,
                score: None,
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
}
