//! Scheduler with its surroundings: requests in, events out, pictures to the encoder's thread and back. It
//! runs in a worker process, or inside a program that answers its own requests.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;

use super::protocol::{self, Command, Event, Ready, SlotFile, SlotOrder, Status, TokenText};
use super::resolve::Resolver;
use crate::answer::{LlamaDecoder, Output, Scheduler, Settings, Sizes, Sizing, shared_layout};
use crate::error::{Error, Field, Kind, Result};
use crate::media::Pixels;
use crate::media::video::FrameChoice;
use crate::pair::{self, LoadSettings, Loading};
use crate::report;
use crate::schedule::{Choice, MergeFlag, Preset};
use crate::see::{EncodeJob, Encoded, EncoderThread, Store, TowerEncoder, VisualInput, pair_identity};

/// Settings of a service.
#[derive(Debug, Clone)]
pub struct Options {
    pub load: LoadSettings,
    /// The schedule of requests that ask for none.
    pub choice: Choice,
    pub sizes: Sizes,
    /// Bytes of encoded pictures kept in memory.
    pub picture_bytes: u64,
    /// Folder for encoded pictures, and its bytes at most.
    pub picture_folder: Option<(PathBuf, u64)>,
    /// Folder for saved slots.
    pub slot_folder: Option<PathBuf>,
}

/// Input of a running service.
#[derive(Debug)]
pub enum Input {
    Command(Command),
    /// From the encoder's thread.
    Encoded(Box<Encoded>),
    /// All senders of requests are gone.
    Closed,
}

/// # Errors
/// [`Kind::Usage`] for slots that hold no picture at all: every question about one would fail later.
fn check_slot(resolver: &Resolver, sizes: Sizes) -> Result<()> {
    let Some(outline) = &resolver.outline else { return Ok(()) };
    // Small enough for one tile, and for a model of any size of picture to take it as its smallest.
    let pixels = Pixels { width: 16, height: 16, rgb: vec![0; 16 * 16 * 3], remark: None, moment: None };
    let input = VisualInput::Image(pixels);
    let tokens = outline.expected(&input.visual(false), &resolver.default).about;
    if tokens < resolver.slot_cells {
        return Ok(());
    }
    Err(Error::usage(format!(
        "{}: {} slots leave {} tokens for each, and a picture of this pair takes {tokens}; give a larger context or fewer slots, or leave the projector out for text alone",
        Field::ContextSize,
        sizes.slots,
        resolver.slot_cells
    )))
}

/// Makes the folder for saved slots.
fn open_slots(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(|error| {
        let text = format!("{}: {error}; give a folder that can be written", folder.display());
        Error::new(Kind::File, text)
    })
}

/// A loaded pair, ready to answer.
pub struct Service {
    resolver: Resolver,
    scheduler: Scheduler<LlamaDecoder>,
    encode: Sender<EncodeJob>,
    encoder: JoinHandle<()>,
    slot_folder: Option<PathBuf>,
    /// Lines about the pictures of requests under way, for their reports.
    remarks: HashMap<u64, Vec<String>>,
}

impl Service {
    /// Loads the pair and starts the encoder's thread, which answers into `inputs`.
    ///
    /// # Errors
    /// As [`pair::load`]; a default schedule or sizes that the pair cannot take; no memory.
    pub fn start(
        options: &Options,
        inputs: Sender<Input>,
        progress: impl Fn(Loading) + 'static,
    ) -> Result<(Self, Ready)> {
        let mut loaded = pair::load(&options.load, progress)?;
        let lock = loaded.share_processor();
        let pair::Loaded { text, encoder, mut remarks } = loaded;
        let facts = text.facts.clone();
        let default = facts.schedule(&options.choice)?;
        remarks.extend(default.remark.clone());
        let (layout, cells) = shared_layout(&facts, &default, options.sizes)?;
        let slots = options.sizes.slots;
        let decoder = LlamaDecoder::new(&text, &layout, slots, lock)?;
        let store = match (&options.picture_folder, &encoder) {
            (Some((folder, limit)), Some(encoder)) => Some(Store::open(folder, encoder.identity()?, *limit)?),
            _ => None,
        };
        let pair = match &options.slot_folder {
            Some(folder) => {
                open_slots(folder)?;
                let tower = encoder.as_ref().map(TowerEncoder::identity).transpose()?;
                Some(pair_identity(&options.load.text, tower)?)
            }
            None => None,
        };
        let outline = encoder.as_ref().map(TowerEncoder::outline);
        let encoder = EncoderThread::new(encoder, store);
        let (encode, jobs) = channel();
        let encoder = std::thread::Builder::new()
            .name("encoder".into())
            .spawn(move || {
                encoder.run(&jobs, |encoded| {
                    // The receiver is gone once the service is.
                    let _ = inputs.send(Input::Encoded(Box::new(encoded)));
                });
            })
            .map_err(|error| Error::new(Kind::Native, format!("cannot start a thread: {error}")))?;
        let settings = Settings {
            slots: slots as usize,
            cells: cells.clone(),
            merge_layers: layout.merge_layers.clone(),
            picture_bytes: options.picture_bytes,
            positions: Sizing::Cells(cells[0]).positions(facts.pair.n_ctx_train),
            pair,
            sole: None,
        };
        let scheduler = Scheduler::new(decoder, facts, settings);
        let resolver = Resolver {
            text,
            outline,
            choice: options.choice.clone(),
            default,
            merge_layers: layout.merge_layers,
            slot_cells: cells.first().copied().unwrap_or(0),
        };
        check_slot(&resolver, options.sizes)?;
        let slot_folder = options.slot_folder.clone();
        let service = Self { resolver, scheduler, encode, encoder, slot_folder, remarks: HashMap::new() };
        let ready = service.describe(options, remarks);
        Ok((service, ready))
    }

    /// Answers until it is told to leave or all senders are gone.
    pub fn run(mut self, inputs: &Receiver<Input>, mut say: impl FnMut(Event)) {
        self.answer(inputs, &mut say);
        // A thread inside the library while the process ends would find it half gone.
        drop(self.encode);
        let _ = self.encoder.join();
    }

    fn answer(&mut self, inputs: &Receiver<Input>, say: &mut impl FnMut(Event)) {
        let mut computing = false;
        loop {
            // While something is computed, only what has come already; else until something comes.
            let first = if computing { None } else { inputs.recv().ok() };
            if !computing && first.is_none() {
                return;
            }
            let mut next = first;
            loop {
                match next.take().map_or_else(|| inputs.try_recv(), Ok) {
                    Ok(input) => {
                        if !self.take(input, say) {
                            self.scheduler.cancel_all();
                            self.hand_out(say);
                            return;
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => return,
                }
            }
            computing = self.scheduler.turn();
            self.hand_out(say);
        }
    }

    /// False when it is time to leave.
    fn take(&mut self, input: Input, say: &mut impl FnMut(Event)) -> bool {
        match input {
            Input::Encoded(encoded) => self.scheduler.encoded(*encoded),
            Input::Closed | Input::Command(Command::Shutdown) => return false,
            Input::Command(Command::Cancel { id }) => self.scheduler.cancel(id),
            Input::Command(Command::Generate(request)) => {
                let id = request.id;
                let remarks: Vec<String> =
                    request.media.iter().filter_map(|one| one.remark.clone()).collect();
                if !remarks.is_empty() {
                    self.remarks.insert(id, remarks);
                }
                match self.resolver.job(*request) {
                    Ok(job) => self.scheduler.submit(job),
                    Err(error) => self.scheduler.fail(id, &error, None),
                }
            }
            Input::Command(Command::Tokenize { id, text, add_special, parse_special }) => {
                let tokens = self.resolver.text.tokenize_text(&text, add_special, parse_special);
                let tokens = tokens.into_iter().map(|(id, bytes)| TokenText { id, bytes }).collect();
                say(Event::Tokens { id, tokens });
            }
            Input::Command(Command::Detokenize { id, tokens }) => {
                say(Event::Text { id, bytes: self.resolver.text.detokenize(&tokens) });
            }
            Input::Command(Command::Erase { id, slot }) => {
                say(Event::Erased { id, tokens: self.scheduler.erase(slot as usize) });
            }
            Input::Command(Command::File(order)) => {
                let id = order.id;
                match self.move_slot(&order) {
                    Ok(file) => say(Event::Moved { id, file }),
                    Err(error) => self.scheduler.fail(id, &error, None),
                }
            }
            Input::Command(Command::Describe(request)) => {
                let id = request.id;
                match self.resolver.describe(*request) {
                    Ok((text, tokens)) => say(Event::Prompt(protocol::Prompt { id, text, tokens })),
                    Err(error) => self.scheduler.fail(id, &error, None),
                }
            }
            Input::Command(Command::Status { id }) => say(Event::Status(Box::new(self.status(id)))),
        }
        true
    }

    /// Saves or restores a slot.
    fn move_slot(&mut self, order: &SlotOrder) -> Result<SlotFile> {
        let folder = self.slot_folder.as_ref().ok_or_else(|| Error::usage("slots are not saved here"))?;
        let (path, slot) = (folder.join(&order.name), order.slot as usize);
        if order.restore {
            self.scheduler.restore(slot, &order.scope, &path)
        } else {
            self.scheduler.save(slot, &order.scope, &path)
        }
    }

    fn hand_out(&mut self, say: &mut impl FnMut(Event)) {
        for output in self.scheduler.take_output() {
            match output {
                Output::Encode(job) => {
                    // The thread ends only after this sender is gone.
                    let _ = self.encode.send(*job);
                }
                Output::Started(started) => say(Event::Started(started)),
                Output::Delta(delta) => say(Event::Delta(delta)),
                Output::Done(mut done) => {
                    let shown = self.remarks.remove(&done.id).unwrap_or_default();
                    done.report.remarks = [shown, std::mem::take(&mut done.report.remarks)].concat();
                    say(Event::Done(done));
                }
                Output::Failed(failed) => {
                    self.remarks.remove(&failed.id);
                    say(Event::Failed(failed));
                }
            }
        }
    }

    fn status(&self, id: u64) -> Status {
        let (decode_batches, decode_tokens) = self.scheduler.batches();
        Status {
            id,
            slots: self.scheduler.view(),
            queued: u32::try_from(self.scheduler.queued()).unwrap_or(u32::MAX),
            pictures: self.scheduler.picture_cache(),
            rss: report::rss(),
            decode_batches,
            decode_tokens,
        }
    }

    fn describe(&self, options: &Options, remarks: Vec<String>) -> Ready {
        let text = &self.resolver.text;
        let facts = &text.facts;
        let segments = self.scheduler.segments();
        let others = [MergeFlag::Auto, MergeFlag::Model, MergeFlag::Off];
        let flags = Preset::ALL.into_iter().map(MergeFlag::Preset).chain(others);
        let presets = flags.map(|flag| protocol::Preset {
            name: flag.name().to_owned(),
            unusable: {
                facts.schedule(&self.resolver.choice.by_name(flag)).err().map(|error| error.to_string())
            },
        });
        Ready {
            model: facts.pair.model.clone(),
            name: facts.pair.text_name.clone(),
            n_vocab: text.model().n_vocab().unsigned_abs(),
            n_embd: facts.pair.n_embd,
            n_layer: facts.pair.n_layer,
            n_ctx_train: facts.pair.n_ctx_train,
            weight_bytes: facts.weight_bytes,
            n_ctx: segments.first().map_or(0, |segment| segment.cells),
            n_ctx_slot: self.resolver.slot_cells,
            slots: options.sizes.slots,
            segments: segments
                .iter()
                .map(|segment| protocol::Segment {
                    layers: [segment.layers.0, segment.layers.1],
                    cells: segment.cells,
                    bytes: segment.bytes,
                })
                .collect(),
            encoder_can_merge: facts.shape.vit_can_merge,
            decoder_can_merge: facts.shape.llm_can_merge,
            merge_layers: self.resolver.merge_layers.clone(),
            default_schedule: self.resolver.default.name.clone(),
            default_strategy: self.resolver.default.strategy,
            default_positions: self.resolver.default.positions.name().into(),
            presets: presets.collect(),
            takes_videos: facts.takes_videos(),
            video_frames: FrameChoice::default().over(facts.video_sampling),
            chat_template: text.template.source().to_owned(),
            bos_text: text.model().bos_text(),
            eos_text: text.model().eos_text(),
            remarks,
            load_ms: facts.load_ms,
        }
    }
}
