//! Properties of plans and of assembled spans that hold for every schedule and every picture. The tables at
//! the foot of their files have single cases.

use illava::assembly::{Arrangement, Row, Share, Survivors, gather, rows, sizes};
use illava::schedule::{Amount, Choice, Half, MergeFlag, Plan, Preset, Shape, Step, select};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;

fn shape() -> impl Strategy<Value = Shape> {
    (2_u32..40, 1_u32..1000, prop_oneof![Just(1_u32), Just(4)], 2_u32..80, any::<bool>()).prop_map(
        |(vit_layers, vit_tokens, group, llm_layers, is_qwen2vl)| Shape {
            vit_layers,
            vit_layers_run: vit_layers - 1,
            vit_tokens: vit_tokens * group,
            group,
            vit_can_merge: true,
            llm_layers,
            llm_can_merge: true,
            is_qwen2vl,
            widths: (1152, 3584),
            class_token: false,
            finds_regions: false,
            pools_frames: true,
            pooled: 1,
            vit_first: 0,
            llm_first: 1,
            has_axes: false,
        },
    )
}

fn amount() -> impl Strategy<Value = Amount> {
    prop_oneof![
        (0_u32..400).prop_map(Amount::Count),
        (0.0..1.0).prop_map(Amount::Share),
        (0.01..=1.0).prop_map(Amount::Keep),
    ]
}

fn half() -> impl Strategy<Value = Option<Half>> {
    let layers = btree_set(0_u32..40, 1..5);
    proptest::option::of(
        (layers, amount()).prop_map(|(layers, amount)| Half {
            layers: layers.into_iter().collect(),
            amounts: vec![amount],
        }),
    )
}

fn choice() -> impl Strategy<Value = Choice> {
    let presets: Vec<_> = Preset::ALL.into_iter().map(MergeFlag::Preset).chain([MergeFlag::Off]).collect();
    let merge = proptest::option::of(proptest::sample::select(presets));
    (merge, proptest::option::of(0.01..=1.0), half(), half()).prop_map(|(merge, keep, vit, llm)| Choice {
        merge,
        keep,
        vit,
        llm,
        ..Choice::default()
    })
}

/// Each step takes up what the one before has left, and leaves at least one token.
fn is_chain(steps: &[Step], mut entering: u32) -> u32 {
    for step in steps {
        assert_eq!((step.n_in, step.n_in - step.r), (entering, step.n_out), "{steps:?}");
        assert!(step.n_out > 0, "{steps:?}");
        entering = step.n_out;
    }
    entering
}

/// A grid of up to 12 x 12 cells of which some have survived.
fn survivors() -> impl Strategy<Value = Survivors> {
    (1_u32..12, 1_u32..12).prop_flat_map(|(across, down)| {
        let cells = across * down;
        vec(any::<bool>(), cells as usize).prop_map(move |kept| Survivors {
            cells: (across, down),
            kept: (0..cells).filter(|cell| kept[*cell as usize]).collect(),
        })
    })
}

/// Tiles of one size, the whole picture first, and how they lie.
fn anyres() -> impl Strategy<Value = (Arrangement, Vec<Survivors>)> {
    let tile = |side: u32| {
        vec(any::<bool>(), (side * side) as usize).prop_map(move |kept| Survivors {
            cells: (side, side),
            kept: (0..side * side).filter(|cell| kept[*cell as usize]).collect(),
        })
    };
    (1_u32..5, 1_u32..5, 2_u32..8, 1_u32..3000, 1_u32..3000, proptest::option::of(1_u32..10)).prop_flat_map(
        move |(across, down, side, width, height, max_tiles)| {
            let arrangement =
                Arrangement::Anyres { grid: (across, down), picture: (width, height), max_tiles };
            vec(tile(side), (across * down + 1) as usize).prop_map(move |tiles| (arrangement, tiles))
        },
    )
}

fn span() -> impl Strategy<Value = (Arrangement, Vec<Survivors>)> {
    prop_oneof![
        vec(survivors(), 1..5).prop_map(|tiles| (Arrangement::Plain, tiles)),
        survivors().prop_map(|tile| (Arrangement::View, vec![tile])),
        (1_u32..4, vec(survivors(), 1..5)).prop_map(|(stride, tiles)| (Arrangement::Video { stride }, tiles)),
        anyres(),
    ]
}

fn weight(shares: &[Share]) -> f64 {
    shares.iter().map(|share| share.weight).sum()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_plan_adds_up(
        shape in shape(), choice in choice(), groups in vec(1_u32..800, 1..6)
    ) {
        let patches: Vec<u32> = groups.iter().map(|n| n * shape.group).collect();
        // Either may refuse; neither may panic, and a refusal is one line.
        let schedule = match select(&choice, &shape, None) {
            Ok(schedule) => schedule,
            Err(error) => {
                prop_assert!(!error.to_string().contains('\n'), "{error}");
                return Ok(());
            }
        };
        let plan = match Plan::new(&schedule, &shape, &patches) {
            Ok(plan) => plan,
            Err(error) => {
                prop_assert!(!error.to_string().contains('\n'), "{error}");
                return Ok(());
            }
        };
        prop_assert_eq!(plan.tokens_unmerged, groups.iter().sum::<u32>());
        for (tile, &patches) in plan.tiles.iter().zip(&patches) {
            prop_assert_eq!(tile.patches, patches);
            let left = is_chain(&tile.steps, patches);
            prop_assert_eq!((left % shape.group, left / shape.group), (0, tile.tokens), "{:?}", tile);
        }
        prop_assert_eq!(plan.tokens, plan.tiles.iter().map(|tile| tile.tokens).sum::<u32>());
        let left = is_chain(&plan.decoder, plan.tokens);
        let (mut layer, mut tokens) = (0, plan.tokens);
        for segment in &plan.segments {
            prop_assert_eq!(segment.layers.0, layer, "{:?}", plan.segments);
            prop_assert!(segment.layers.1 > layer && segment.tokens <= tokens, "{:?}", plan.segments);
            (layer, tokens) = (segment.layers.1, segment.tokens);
        }
        prop_assert_eq!((layer, tokens), (shape.llm_layers, left));
        if schedule.is_off() {
            prop_assert_eq!(plan.tokens, plan.tokens_unmerged);
        }
    }

    #[test]
    fn rows_name_tokens_that_are_there((arrangement, tiles) in span()) {
        let all = rows(arrangement, &tiles, true);
        let present = |tile: usize, token: usize| tile < tiles.len() && token < tiles[tile].kept.len();
        for row in &all {
            match row {
                Row::Newline => {}
                Row::Token { tile, token } => prop_assert!(present(*tile, *token), "{row:?}"),
                Row::Mean(shares) => {
                    prop_assert!(shares.iter().all(|share| present(share.tile, share.token)), "{row:?}");
                    // Less than 1 beside cells without a token.
                    let sum = weight(shares);
                    prop_assert!(sum > 0.0 && sum < 1.0 + 1e-9, "{row:?}");
                }
            }
        }
        // A pair without the newline's embedding gets the same rows without it.
        let plain: Vec<Row> = all.iter().filter(|row| **row != Row::Newline).cloned().collect();
        prop_assert_eq!(&rows(arrangement, &tiles, false), &plain);

        // Embeddings that are alike everywhere stay so, however they are mixed.
        let values: Vec<Vec<f32>> = tiles.iter().map(|tile| [3.0, -1.0].repeat(tile.kept.len())).collect();
        let gathered = gather(&all, &values, &[3.0, -1.0], 2);
        prop_assert_eq!(gathered.len(), 2 * all.len());
        prop_assert!(gathered.chunks(2).all(|row| (row[0] - 3.0).abs() < 1e-5 && (row[1] + 1.0).abs() < 1e-5));
        let ones: Vec<Vec<f32>> = tiles.iter().map(|tile| vec![1.0; tile.kept.len()]).collect();
        let ones: Vec<&[f32]> = ones.iter().map(Vec::as_slice).collect();
        // A row stands for the share of its cell that has tokens.
        for (row, size) in all.iter().zip(sizes(&all, &ones)) {
            let stands_for = if let Row::Mean(shares) = row { weight(shares) } else { 1.0 };
            prop_assert!((f64::from(size) - stands_for).abs() < 1e-5, "{row:?}: {size}");
        }
    }
}
