//! Resolves a choice for one model: presets, hand-written halves, the budget.

use serde::{Deserialize, Serialize};

use super::auto::{self, Bounds};
use super::half::{as_written, cannot_merge, of_preset, own_decoder, own_encoder};
use super::method::Method;
use super::{
    Amount, Grid, HalfSchedule, Positions, Preset, Schedule, Score, Shape, Strategy, TowerScore, layers,
    positions, strategy,
};
use crate::error::{Error, Field, Kind, Result};

/// Schedule by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MergeFlag {
    Off,
    /// The schedule that the pair itself recommends.
    Model,
    /// The layers of [`Preset::Balanced`], with amounts that follow from each picture's content.
    Auto,
    Preset(Preset),
}

impl MergeFlag {
    /// # Errors
    /// [`Kind::Usage`] with the names there are.
    pub fn parse(text: &str) -> Result<Self> {
        match text {
            "off" => Ok(MergeFlag::Off),
            "model" => Ok(MergeFlag::Model),
            "auto" => Ok(MergeFlag::Auto),
            _ => Preset::ALL
                .into_iter()
                .find(|preset| preset.name() == text)
                .map(MergeFlag::Preset)
                .ok_or_else(|| Error::usage(format!("{} {text}: choose {}", Field::Merge, Self::names()))),
        }
    }

    /// Returns all names, as a sentence lists them.
    #[must_use]
    pub fn names() -> String {
        let [first @ .., last] = Preset::ALL.map(Preset::name);
        format!("off, model, auto, {} or {last}", first.join(", "))
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            MergeFlag::Off => "off",
            MergeFlag::Model => "model",
            MergeFlag::Auto => "auto",
            MergeFlag::Preset(preset) => preset.name(),
        }
    }
}

/// One half by hand: layers and one amount for all of them or one each.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Half {
    pub layers: Vec<u32>,
    pub amounts: Vec<Amount>,
}

/// Schedule that a pair carries in its metadata (`illava.merge.*`).
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Recommended {
    pub vit_layers: Vec<u32>,
    /// Counts for the encoder's own number of tokens.
    pub vit_r: Vec<u32>,
    pub llm_layers: Vec<u32>,
    pub llm_keep: Vec<f64>,
    /// Strategy for the tokens that go; the paper's method if the file names none.
    pub strategy: Strategy,
    /// Models and sets of its evaluation, as the file says.
    pub evaluated: Option<String>,
}

/// Settings of merging that a person can give.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Choice {
    pub merge: Option<MergeFlag>,
    pub keep: Option<f64>,
    /// Least share that a picture keeps if its content decides.
    #[serde(default)]
    pub keep_min: Option<f64>,
    /// Most share that a picture keeps if its content decides.
    #[serde(default)]
    pub keep_max: Option<f64>,
    pub vit: Option<Half>,
    pub llm: Option<Half>,
    /// Share of the decoder's scores that stays, from which the number of tokens follows.
    #[serde(default)]
    pub llm_mass: Option<f64>,
    pub score: Score,
    #[serde(default)]
    pub vit_score: TowerScore,
    pub grid: Grid,
    /// Positions; `None` for own ones with the faithful grid, closed ones with the reference grid.
    #[serde(default)]
    pub positions: Option<Positions>,
    /// Strategy; `None` for that of the preset or the pair.
    #[serde(default)]
    pub strategy: Option<Strategy>,
    /// Seed of the random strategy, also for the schedules that [`Choice::against`] names.
    pub strategy_seed: u32,
    /// Whether sizes count in the encoder's attention; `None` if the strategy decides.
    #[serde(default)]
    pub vit_sizes: Option<bool>,
}

/// Returns the schedule of `choice` on a model of `shape`.
///
/// A hand-written half replaces that half of a preset. Without a preset the other half then does not merge.
/// Without any of them the pair's own recommendation counts, else [`Preset::Balanced`]: a half that the model
/// cannot merge is then left out with a remark. A preset that was asked for by name is an error instead.
///
/// # Errors
/// [`Kind::Usage`] for flags that exclude each other, [`Kind::Schedule`] for numbers outside the model,
/// [`Kind::Model`] for a model that cannot merge.
pub fn select(choice: &Choice, shape: &Shape, recommended: Option<&Recommended>) -> Result<Schedule> {
    check_flags(choice)?;
    let by_hand = choice.vit.is_some() || choice.llm.is_some();
    let method = choice.strategy.and_then(Strategy::method);
    let flag = match choice.merge {
        Some(flag) => flag,
        None if by_hand || method.is_some() => MergeFlag::Off,
        None if recommended.is_some() => MergeFlag::Model,
        None if !(shape.vit_can_merge || shape.llm_can_merge) => MergeFlag::Off,
        None => MergeFlag::Preset(Preset::Balanced),
    };
    let asked = choice.merge.is_some() || choice.keep.is_some();

    let mut schedule = Schedule {
        name: if by_hand { "custom".to_owned() } else { flag.name().to_owned() },
        keep: choice.keep,
        mass: choice.llm_mass,
        score: choice.score,
        vit_score: choice.vit_score,
        grid: choice.grid,
        ..Schedule::default()
    };
    match flag {
        MergeFlag::Off => {}
        MergeFlag::Model => {
            let own = recommended.ok_or_else(|| {
                Error::new(
                    Kind::Schedule,
                    format!(
                        "{} model: this pair carries no illava.merge.* metadata; choose {}",
                        Field::Merge,
                        MergeFlag::names().replace("model, ", "")
                    ),
                )
            })?;
            schedule.encoder = own_encoder(own, shape)?;
            schedule.decoder = own_decoder(own)?;
            schedule.usual = own.strategy;
        }
        MergeFlag::Auto | MergeFlag::Preset(_) => {
            let preset = if let MergeFlag::Preset(preset) = flag { preset } else { Preset::Balanced };
            let named = format!("{} {}", Field::Merge, preset.name());
            schedule.remark = untested(preset, shape);
            schedule.usual = preset.strategy();
            if choice.vit.is_none() && shape.vit_can_merge {
                schedule.encoder = of_preset(
                    &named,
                    &preset.encoder(shape),
                    shape.vit_layers,
                    (shape.vit_first, layers::ENCODER_FLOOR.max(shape.vit_first)),
                    shape.vit_layers_run,
                    "encoder",
                )?;
            }
            if choice.llm.is_none() && shape.llm_can_merge {
                schedule.decoder = of_preset(
                    &named,
                    &preset.decoder(),
                    shape.llm_layers,
                    (shape.llm_first, shape.llm_first),
                    shape.llm_layers,
                    "text model",
                )?;
            }
        }
    }
    if flag == MergeFlag::Auto {
        schedule.auto = Some(Bounds::new(choice.keep_min, choice.keep_max)?);
        auto::begin_early(&mut schedule, choice, shape);
    }
    if flag != MergeFlag::Off {
        leave_out(&mut schedule, choice, shape, asked)?;
    }
    if let Some(half) = &choice.vit {
        if !shape.vit_can_merge {
            return Err(cannot_merge("encoder", Field::VitLayers));
        }
        schedule.encoder = as_written(half, Field::VitLayers, Field::VitR)?;
    }
    if let Some(half) = &choice.llm {
        if !shape.llm_can_merge {
            return Err(cannot_merge("text model", Field::LlmLayers));
        }
        schedule.decoder = as_written(half, Field::LlmLayers, Field::LlmR)?;
    }
    if let Some(method) = method {
        schedule = method.apply(schedule, choice, shape)?;
    }
    check_layers(&schedule, shape)?;
    let closes = method.is_some_and(Method::closes_positions);
    strategy::apply(positions::apply(schedule, choice, shape, closes)?, choice, shape)
}

fn check_flags(choice: &Choice) -> Result<()> {
    auto::check(choice)?;
    let Some(keep) = choice.keep else { return Ok(()) };
    if !(keep > 0.0 && keep <= 1.0) {
        return Err(Error::usage(format!(
            "{} {keep}: give a share above 0 and up to 1, for example 0.35",
            Field::Keep
        )));
    }
    if choice.vit.is_some() || choice.llm.is_some() {
        let (keep, vit, llm) = (Field::Keep, Field::VitLayers, Field::LlmLayers);
        return Err(Error::usage(format!(
            "{keep} spreads a budget over a preset: leave out {vit} and {llm}, or leave out {keep}"
        )));
    }
    if choice.merge == Some(MergeFlag::Off) {
        let (keep, merge) = (Field::Keep, Field::Merge);
        return Err(Error::usage(format!("{keep} and {merge} off exclude each other: leave one out")));
    }
    Ok(())
}

/// Takes away the parts of a preset that this model cannot merge: an error if the preset was asked for and neither half
/// can.
fn leave_out(schedule: &mut Schedule, choice: &Choice, shape: &Shape, asked: bool) -> Result<()> {
    let mut missing = Vec::new();
    if !shape.vit_can_merge && choice.vit.is_none() {
        schedule.encoder = HalfSchedule::default();
        missing.push("encoder");
    }
    if !shape.llm_can_merge && choice.llm.is_none() {
        schedule.decoder = HalfSchedule::default();
        missing.push("text model");
    }
    if let Some(first) = missing.first() {
        if asked && missing.len() == 2 {
            return Err(cannot_merge(first, Field::Merge));
        }
        schedule.remark = Some(format!(
            "no merging in the {}: its architecture has no merge points",
            missing.join(" and the ")
        ));
        if schedule.is_off() {
            schedule.name = "off".to_owned();
        }
    }
    Ok(())
}

fn check_layers(schedule: &Schedule, shape: &Shape) -> Result<()> {
    let check = |half: &HalfSchedule, first: u32, limit: u32, what: &str, field: Field| {
        if let Some(pair) = half.steps.windows(2).find(|pair| pair[0].0 >= pair[1].0) {
            return Err(Error::new(
                Kind::Schedule,
                format!("{what} merge layers must ascend: {} stands after {}", pair[1].0, pair[0].0),
            ));
        }
        match half.steps.iter().find(|(layer, _)| !(first..limit).contains(layer)) {
            Some((layer, _)) => Err(Error::new(
                Kind::Schedule,
                format!(
                    "{field} {layer}: the {what} of this model can merge at layers {first} to {}",
                    limit.saturating_sub(1)
                ),
            )),
            None => Ok(()),
        }
    };
    check(&schedule.encoder, shape.vit_first, shape.vit_layers_run, "encoder", Field::VitLayers)?;
    check(&schedule.decoder, shape.llm_first, shape.llm_layers, "text model", Field::LlmLayers)
}

fn untested(preset: Preset, shape: &Shape) -> Option<String> {
    (!preset.tried_on(shape)).then(|| {
        format!(
            "the preset {} is untested on this image encoder ({} layers, {} tokens): compare with merging off",
            preset.name(),
            shape.vit_layers_run,
            shape.vit_tokens
        )
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn so400m() -> Shape {
        Shape {
            vit_layers: 27,
            vit_layers_run: 26,
            vit_tokens: 729,
            group: 1,
            pooled: 1,
            vit_can_merge: true,
            vit_first: 0,
            llm_layers: 28,
            llm_can_merge: true,
            llm_first: 1,
            has_axes: false,
            is_qwen2vl: false,
            widths: (1152, 896),
            class_token: false,
            finds_regions: false,
            pools_frames: true,
        }
    }

    fn own() -> Recommended {
        Recommended {
            vit_layers: vec![2, 3],
            vit_r: vec![12, 13],
            llm_layers: vec![1],
            llm_keep: vec![0.7],
            ..Recommended::default()
        }
    }

    fn hand(layers: &[u32], amount: Amount) -> Option<Half> {
        Some(Half { layers: layers.to_vec(), amounts: vec![amount] })
    }

    fn layers_of(schedule: &Schedule) -> (Vec<u32>, Vec<u32>) {
        (schedule.encoder.steps.iter().map(|s| s.0).collect(), schedule.merge_layers())
    }

    #[test]
    fn which_schedule_is_chosen() {
        let merge = |text| Choice { merge: Some(MergeFlag::parse(text).unwrap()), ..Choice::default() };
        let vit = hand(&[10, 11], Amount::Count(50));
        let llm = hand(&[4], Amount::Keep(0.5));
        let default = Choice::default();
        // (choice, the pair has its own, name, encoder layers, decoder layers)
        let cases: [(Choice, bool, &str, &[u32], &[u32]); 11] = [
            (default.clone(), false, "balanced", &[5, 6, 7, 8], &[2]),
            (merge("image"), false, "image", &[5, 6, 7, 8], &[8]),
            (default.clone(), true, "model", &[2, 3], &[1]),
            (merge("off"), true, "off", &[], &[]),
            (merge("paper"), true, "paper", &[3, 4, 5, 6], &[2]),
            (merge("model"), true, "model", &[2, 3], &[1]),
            (merge("qwen2vl"), false, "qwen2vl", &[10, 11, 12, 13], &[6, 7, 8]),
            (Choice { vit: vit.clone(), ..default.clone() }, true, "custom", &[10, 11], &[]),
            (Choice { llm: llm.clone(), ..default.clone() }, true, "custom", &[], &[4]),
            (Choice { vit: vit.clone(), ..merge("paper") }, false, "custom", &[10, 11], &[2]),
            (Choice { llm, ..merge("paper") }, false, "custom", &[3, 4, 5, 6], &[4]),
        ];
        for (choice, has_own, name, vit, llm) in cases {
            let recommended = own();
            let schedule = select(&choice, &so400m(), has_own.then_some(&recommended)).unwrap();
            assert_eq!(schedule.name, name, "{choice:?}");
            assert_eq!(layers_of(&schedule), (vit.to_vec(), llm.to_vec()), "{choice:?}");
        }
    }

    #[test]
    fn errors_name_the_number() {
        let default = Choice::default();
        let cases = [
            (Choice { merge: Some(MergeFlag::Model), ..default.clone() }, "illava.merge"),
            (Choice { keep: Some(0.0), ..default.clone() }, "merge.keep 0"),
            (Choice { keep: Some(1.5), ..default.clone() }, "merge.keep 1.5"),
            (Choice { keep: Some(f64::NAN), ..default.clone() }, "merge.keep NaN"),
            (Choice { keep: Some(0.5), vit: hand(&[1], Amount::Count(1)), ..default.clone() }, "leave out"),
            (
                Choice { keep: Some(0.5), merge: Some(MergeFlag::Off), ..default.clone() },
                "exclude each other",
            ),
            (
                Choice { vit: hand(&[5, 26], Amount::Count(1)), ..default.clone() },
                "merge.vit_layers 26: the encoder of this model can merge at layers 0 to 25",
            ),
            (
                Choice { llm: hand(&[0], Amount::Count(1)), ..default.clone() },
                "merge.llm_layers 0: the text model of this model can merge at layers 1 to 27",
            ),
            (Choice { llm: hand(&[28], Amount::Count(1)), ..default.clone() }, "merge.llm_layers 28"),
            (
                Choice {
                    vit: Some(Half { layers: vec![1, 2, 3], amounts: vec![Amount::Count(1); 2] }),
                    ..default
                },
                "3 layers",
            ),
        ];
        for (choice, part) in cases {
            let error = select(&choice, &so400m(), None).unwrap_err();
            assert!(error.to_string().contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_model_without_merge_points() {
        let shape = Shape { llm_can_merge: false, ..so400m() };
        let schedule = select(&Choice::default(), &shape, None).unwrap();
        assert_eq!(layers_of(&schedule), (vec![5, 6, 7, 8], vec![]));
        assert!(schedule.remark.unwrap().contains("text model"));
        let asked = Choice { merge: Some(MergeFlag::Preset(Preset::Paper)), ..Choice::default() };
        let schedule = select(&asked, &shape, None).unwrap();
        assert_eq!((schedule.name.as_str(), layers_of(&schedule)), ("paper", (vec![3, 4, 5, 6], vec![])));
        assert!(schedule.remark.unwrap().contains("no merging in the text model"));
        let decoder = Shape { vit_can_merge: false, ..so400m() };
        let schedule = select(&asked, &decoder, None).unwrap();
        assert_eq!(layers_of(&schedule), (vec![], vec![2]));
        let neither = Shape { llm_can_merge: false, ..decoder };
        assert_eq!(select(&asked, &neither, None).unwrap_err().kind(), Kind::Model);
        let hand_vit = Choice { vit: hand(&[5], Amount::Count(9)), ..Choice::default() };
        assert!(select(&hand_vit, &shape, None).is_ok());
        let hand_llm = Choice { llm: hand(&[5], Amount::Count(9)), ..Choice::default() };
        assert_eq!(select(&hand_llm, &shape, None).unwrap_err().kind(), Kind::Model);
    }

    #[test]
    fn some_models_merge_from_a_later_layer_on() {
        // Qwen2.5-VL has its first attention over the whole picture at layer 7, Qwen3-VL adds image features in the
        // text model's first three layers.
        let shape = Shape { vit_layers: 32, vit_layers_run: 32, vit_first: 7, llm_first: 3, ..so400m() };
        let balanced = Choice { merge: Some(MergeFlag::Preset(Preset::Balanced)), ..Choice::default() };
        let schedule = select(&balanced, &shape, None).unwrap();
        assert_eq!(layers_of(&schedule), (vec![7, 8, 9, 10], vec![3]));
        let auto = Choice { merge: Some(MergeFlag::Auto), ..Choice::default() };
        assert_eq!(layers_of(&select(&auto, &shape, None).unwrap()), (vec![7, 8, 9, 10], vec![3]));
        for (choice, part) in [
            (
                Choice { vit: hand(&[6], Amount::Count(4)), ..Choice::default() },
                "merge.vit_layers 6: the encoder of this model can merge at layers 7 to 31",
            ),
            (
                Choice { llm: hand(&[2], Amount::Keep(0.5)), ..Choice::default() },
                "merge.llm_layers 2: the text model of this model can merge at layers 3 to 27",
            ),
        ] {
            let error = select(&choice, &shape, None).unwrap_err().to_string();
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn an_untested_tower_is_said() {
        let paper = Choice { merge: Some(MergeFlag::Preset(Preset::Paper)), ..Choice::default() };
        assert_eq!(select(&paper, &so400m(), None).unwrap().remark, None);
        let measured = Shape { vit_layers: 12, vit_layers_run: 11, ..so400m() };
        assert_eq!(select(&Choice::default(), &measured, None).unwrap().remark, None);
        let small = Shape { vit_layers: 9, vit_layers_run: 8, vit_tokens: 196, ..so400m() };
        assert!(select(&Choice::default(), &small, None).unwrap().remark.unwrap().contains("untested"));
        assert_eq!(select(&Choice::default(), &small, Some(&own())).unwrap().remark, None);
    }

    /// Layers of the released encoders beside LLaVA's, their tokens, patches of a row, first layer that may merge.
    #[test]
    fn presets_of_other_families_keep_the_floor_and_say_untested() {
        for (name, layers, tokens, group, pooled, first) in [
            ("Qwen2.5-VL", 32, 1600, 4, 1, 7),
            ("Qwen3-VL", 27, 2304, 4, 1, 0),
            ("InternVL3", 24, 1024, 4, 1, 0),
            ("Gemma 3", 27, 4096, 1, 16, 0),
            ("SmolVLM2 2.2B", 27, 729, 9, 1, 0),
            ("SmolVLM2 256M", 12, 1024, 16, 1, 0),
            ("Pixtral", 24, 4096, 1, 1, 0),
            ("Mistral Small", 24, 12100, 4, 1, 0),
        ] {
            let shape = Shape {
                vit_layers: layers,
                vit_layers_run: layers,
                vit_tokens: tokens,
                group,
                pooled,
                vit_first: first,
                ..so400m()
            };
            let lowest = crate::schedule::layers::ENCODER_FLOOR.max(first);
            for preset in Preset::ALL {
                let choice = Choice { merge: Some(MergeFlag::Preset(preset)), ..Choice::default() };
                let schedule = select(&choice, &shape, None).unwrap();
                let (vit, llm) = layers_of(&schedule);
                assert!(
                    vit.iter().all(|layer| (lowest..layers).contains(layer)),
                    "{name} {preset:?}: {vit:?}"
                );
                assert!(!vit.is_empty() && !llm.is_empty(), "{name} {preset:?}");
                let said = schedule.remark.expect("a remark");
                assert!(said.contains("untested"), "{name} {preset:?}: {said}");
            }
        }
    }
}
