//! Measurements on the way to an answer, and the report and trace made of them.

use super::{Entry, MergeStep, SegmentInfo, count};
use crate::pair::Facts;
use crate::report::{self, Report, Trace};
use crate::schedule::{Amounts, Schedule, TilePlan, why};
use crate::see::EncodedImage;

/// Milliseconds that pictures took before the decoder.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Decoding and preprocessing.
    pub media_ms: f64,
    /// The part of `media_ms` that a text-image model took.
    pub scorer_ms: f64,
    pub encoder_ms: f64,
    pub projector_ms: f64,
}

impl Spent {
    /// Adds what encoding `image` took.
    pub(super) fn add(&mut self, image: &EncodedImage) {
        self.media_ms += image.preprocess_ms;
        self.scorer_ms += image.scorer_ms;
        self.encoder_ms += image.encoder_ms;
        self.projector_ms += image.projector_ms;
    }

    pub(super) fn total_ms(&self) -> f64 {
        self.media_ms + self.encoder_ms + self.projector_ms
    }
}

/// Measurements of one answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Tally {
    /// On pictures that came with this request.
    pub spent: Spent,
    pub prefill_ms: f64,
    /// From the request's arrival to its first token, without what was spent on pictures.
    pub to_first_token_ms: f64,
    pub generate_ms: f64,
    pub prefill_rows: usize,
    pub generated: u32,
    pub compute_bytes: u64,
    pub cells_unmerged: u32,
    /// As in the report.
    pub remarks: Vec<String>,
}

/// The state the report describes.
pub(super) struct Subject<'a> {
    pub facts: &'a Facts,
    pub schedule: &'a Schedule,
    pub prompt: &'a [Entry],
    pub images: &'a [EncodedImage],
    /// \[images\] decoder steps of each picture.
    pub decoder_steps: &'a [Vec<MergeStep>],
    pub segments: &'a [SegmentInfo],
}

impl Subject<'_> {
    fn shown(&self) -> impl Iterator<Item = (usize, &EncodedImage)> {
        self.prompt.iter().filter_map(|entry| match entry {
            Entry::Image(number) => Some((*number, self.images.get(*number)?)),
            Entry::Token(_) => None,
        })
    }

    fn text_tokens(&self) -> u32 {
        count(self.prompt.iter().filter(|entry| matches!(entry, Entry::Token(_))).count())
    }

    pub(super) fn report(&self, tally: &Tally, seed: u32, text: String) -> Report {
        let visual_kv = self.segments.iter().enumerate().map(|(i, segment)| report::VisualKv {
            layers: [segment.layers.0, segment.layers.1],
            tokens: self
                .shown()
                .map(|(_, image)| image.tokens_by_segment().get(i).copied().unwrap_or(0))
                .sum(),
        });
        let before_decoder = tally.spent.total_ms();
        Report {
            model: self.facts.pair.model.clone(),
            merge: self.merge(),
            tokens: report::Tokens {
                text: self.text_tokens(),
                visual: self.shown().map(|(_, image)| image.plan.tokens_unmerged).sum(),
                visual_after_encoder: self.shown().map(|(_, image)| image.plan.tokens).sum(),
                visual_kv: visual_kv.collect(),
                generated: tally.generated,
            },
            ms: report::Milliseconds {
                load: self.facts.load_ms,
                decode_media: tally.spent.media_ms,
                crop_model: (tally.spent.scorer_ms > 0.0).then_some(tally.spent.scorer_ms),
                encoder: tally.spent.encoder_ms,
                projector: tally.spent.projector_ms,
                prefill: tally.prefill_ms,
                first_token: before_decoder + tally.to_first_token_ms,
                generate: tally.generate_ms,
                total: before_decoder + tally.to_first_token_ms + tally.generate_ms,
            },
            tokens_per_second: report::Rates {
                prefill: per_second(count(tally.prefill_rows), tally.prefill_ms),
                generate: per_second(tally.generated.saturating_sub(1), tally.generate_ms),
            },
            bytes: self.bytes(tally),
            threads: self.facts.threads,
            backend: self.facts.vision.backend.clone(),
            kernels: crate::native::kernels_used().to_owned(),
            seed,
            text,
            remarks: tally.remarks.iter().cloned().chain(self.cut_questions()).collect(),
        }
    }

    fn merge(&self) -> report::Merge {
        let first = self.shown().next().map(|(_, image)| &image.plan);
        let vit =
            first.and_then(|plan| plan.tiles.first()).map(|tile| tile.steps.as_slice()).unwrap_or_default();
        // A shared cache may be cut at more layers than this schedule merges at.
        let llm_layers = self.schedule.merge_layers();
        let llm = first.map(|plan| plan.decoder.as_slice()).unwrap_or_default();
        let llm = llm.iter().filter(|step| llm_layers.contains(&step.layer));
        report::Merge {
            strategy: self.strategy(),
            schedule: self.schedule.name.clone(),
            vit_layers: match self.schedule.budget {
                // A strategy that acts once has its layer from the plan.
                Some(_) => vit.iter().map(|step| step.layer).collect(),
                None => self.schedule.encoder.steps.iter().map(|(layer, _)| *layer).collect(),
            },
            vit_r: vit.iter().map(|step| step.r).collect(),
            llm_r: llm.map(|step| step.r).collect(),
            llm_layers,
            strategy_seed: self.schedule.strategy.seed(),
            score: self.schedule.score.name().into(),
            vit_score: self.schedule.vit_score.name().into(),
            vit_sizes: self.schedule.vit_sizes,
            grid: self.schedule.grid.name().into(),
            positions: self.schedule.positions.name().into(),
            budgets: self.shown().filter_map(|(number, image)| budget(number, &image.plan.tiles)).collect(),
            regions: self.regions(),
            frames: self.shown().flat_map(frames).collect(),
        }
    }

    fn regions(&self) -> Vec<report::Region> {
        let of = |(image, encoded): (usize, &EncodedImage)| {
            let region = encoded.region?;
            let rule = region.rule.name().to_owned();
            Some(report::Region { image, pixels: region.area, rule, score: region.score })
        };
        self.shown().filter_map(of).collect()
    }

    /// Lines about a question that was longer than a text-image model reads.
    fn cut_questions(&self) -> Option<String> {
        let of = |image: &EncodedImage| {
            let frame = image.frames.first().map(|frame| frame.tokens);
            image.region.map(|region| region.tokens).or(frame)
        };
        let mut questions = self.shown().filter_map(|(_, image)| of(image));
        let (read, whole) = questions.find(|(read, whole)| read < whole)?;
        Some(format!(
            "the crop model reads {read} tokens of a text, the question has {whole}: the rest did not count"
        ))
    }

    fn strategy(&self) -> String {
        if self.schedule.is_off() { "off".into() } else { self.schedule.strategy.name().into() }
    }

    fn bytes(&self, tally: &Tally) -> report::Bytes {
        let per_cell = self.segments.iter().map(|s| s.bytes as f64 / f64::from(s.cells.max(1))).sum::<f64>();
        let kv: u64 = self.segments.iter().map(|s| s.bytes).sum();
        // The library may round the first segment up; the unmerged cache is rounded alike.
        let first = self.segments.first().map_or(0, |s| s.cells);
        let cells = tally.cells_unmerged.max(first);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let kv_without_merge =
            if self.schedule.is_off() { kv } else { (per_cell * f64::from(cells)).round() as u64 };
        report::Bytes {
            weights: self.facts.weight_bytes,
            kv,
            kv_without_merge,
            compute: tally.compute_bytes,
            peak_rss: report::peak_rss(),
        }
    }

    pub(super) fn trace(&self) -> Trace {
        let mut trace = Trace { strategy: self.strategy(), ..Trace::default() };
        let mut tokens = Vec::new();
        let mut spans = 0;
        for entry in self.prompt {
            match *entry {
                Entry::Token(token) => tokens.push(token),
                Entry::Image(number) => {
                    if !tokens.is_empty() {
                        trace.prompt.push(report::PromptPart::Tokens { tokens: std::mem::take(&mut tokens) });
                    }
                    if let Some(image) = self.images.get(number) {
                        trace.prompt.push(report::PromptPart::Span {
                            span: spans,
                            n: image.plan.tokens,
                            cells: (!image.places.is_empty()).then(|| image.places.clone()),
                            positions: image.has_gaps().then(|| image.row_positions(0)),
                            sizes: (image.counts_sizes && !image.sizes.is_empty())
                                .then(|| image.sizes.clone()),
                        });
                        self.trace_image(&mut trace, number, spans, image);
                        spans += 1;
                    }
                }
            }
        }
        if !tokens.is_empty() {
            trace.prompt.push(report::PromptPart::Tokens { tokens });
        }
        trace
    }

    fn trace_image(&self, trace: &mut Trace, number: usize, span: usize, image: &EncodedImage) {
        for (i, tile) in image.tiles.iter().enumerate() {
            trace.images.push(report::ImageTile {
                index: number,
                width: image.size.0,
                height: image.size.1,
                tile: i,
                grid: [tile.grid.0, tile.grid.1],
                pixels: image.tile_area(i),
                frame: (image.frames_per_tile > 0).then_some(i * image.frames_per_tile),
                budget: image.plan.tiles.get(i..=i).and_then(|tile| budget(number, tile)),
                region: match image.frames.get(i) {
                    Some(frame) => frame.region,
                    None => image.region.map(|region| region.area),
                },
                score: image.frames.get(i).map(|frame| frame.score),
            });
        }
        for (tile, s) in &image.steps {
            let step = report::Step {
                image: Some(number),
                tile: Some(*tile),
                ..self.step(report::Half::Encoder, s)
            };
            trace.steps.push(step);
        }
        for s in self.decoder_steps.get(number).into_iter().flatten() {
            trace.steps.push(report::Step { span: Some(span), ..self.step(report::Half::Decoder, s) });
        }
    }

    fn step(&self, half: report::Half, s: &MergeStep) -> report::Step {
        report::Step {
            half,
            image: None,
            tile: None,
            span: None,
            layer: s.layer,
            n_in: s.n_in,
            n_out: s.n_out,
            scores: s.scores.clone(),
            kept: s.kept.clone(),
            merged: s.merged.clone(),
            into: s.into,
            groups: self.schedule.strategy.merges_by_groups().then(|| s.groups.clone()),
            sizes: s.sizes.clone(),
        }
    }
}

/// The frames of picture or video `number` that a strategy chose or not.
fn frames((number, image): (usize, &EncodedImage)) -> impl Iterator<Item = report::Frame> + '_ {
    image.frames.iter().enumerate().map(move |(i, frame)| {
        let reasons = [(frame.asked, "question"), (frame.even, "even")];
        let reasons = reasons.into_iter().filter(|(holds, _)| *holds && frame.region.is_some());
        report::Frame {
            image: number,
            frame: (image.frames_per_tile > 0).then_some(i),
            score: frame.score,
            chosen: reasons.map(|(_, name)| name.to_owned()).collect(),
            pixels: frame.region,
        }
    })
}

/// Content that gave `tiles` of picture `image` their budget; `None` if something else did.
fn budget(image: usize, tiles: &[TilePlan]) -> Option<report::Budget> {
    let amounts: Vec<Amounts> = tiles.iter().filter_map(|tile| tile.amounts).collect();
    let sum = |part: fn(&Amounts) -> u32| amounts.iter().map(part).sum();
    (!amounts.is_empty()).then(|| report::Budget {
        image,
        cells: sum(|a| a.content.cells),
        edges: sum(|a| a.content.edges),
        repeated: sum(|a| a.content.repeated),
        encoder: sum(|a| a.encoder),
        decoder: sum(|a| a.decoder),
        why: why(&amounts),
    })
}

fn per_second(n: u32, ms: f64) -> f64 {
    if ms > 0.0 { f64::from(n) * 1000.0 / ms } else { 0.0 }
}
