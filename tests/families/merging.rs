//! One merged case against the float64 reference: what every step keeps, the rows of the spans and
//! the logits after the prompt.

use illava::answer::{Engine, MergeStep};
use illava::schedule::{Amount, Choice, Grid, Half, Positions, Strategy, select};
use illava::see::{EncodedImage, Encoder};

use super::fixture::{Case, Fixture, Step};
use super::run::{Pair, Setting, assert_steps};

pub fn case_is_as_the_reference(pair: &mut Pair, fixture: &Fixture, case: &Case, setting: &Setting) {
    let choice = Choice {
        vit: Some(Half {
            layers: case.encoder.iter().map(|step| step[0]).collect(),
            amounts: case.encoder.iter().map(|step| Amount::Count(step[1])).collect(),
        }),
        llm: Some(Half { layers: vec![case.llm_layer], amounts: vec![Amount::Keep(case.llm_keep)] }),
        grid: if case.grid == "reference" { Grid::Reference } else { Grid::Faithful },
        positions: Some(Positions::parse(&case.positions).expect("own or closed")),
        strategy: Some(Strategy::parse(&case.strategy, 0).expect("a strategy")),
        ..Choice::default()
    };
    let schedule = select(&choice, &pair.engine.facts().shape, None).expect("a schedule this model takes");
    let pictures = case.pictures();
    let images: Vec<EncodedImage> = case
        .visuals(&pictures)
        .iter()
        .map(|visual| pair.engine.encode_span(visual, &schedule).expect("it is encoded"))
        .collect();
    let (encoder, decoder): (Vec<&Step>, Vec<&Step>) =
        case.steps.iter().partition(|step| step.tile.is_some());
    let steps: Vec<(usize, usize, &MergeStep)> = images
        .iter()
        .enumerate()
        .flat_map(|(span, image)| image.steps.iter().map(move |(tile, step)| (span, *tile, step)))
        .collect();
    assert_eq!(steps.len(), encoder.len(), "{}: encoder steps", case.name);
    for ((span, tile, step), expected) in steps.into_iter().zip(encoder) {
        assert_eq!((span, Some(tile)), (expected.span, expected.tile), "{}", case.name);
        assert_step(step, expected, &case.name);
    }
    let rows: Vec<u32> = images.iter().map(|image| image.plan.tokens).collect();
    assert_eq!(rows, case.spans, "{}: rows of the spans", case.name);
    for (i, (image, places)) in images.iter().zip(&case.places).enumerate() {
        let own = case.positions == "own";
        assert_eq!(image.counts_sizes, own, "{}", case.name);
        if own && pair.engine.facts().n_pos == 1 {
            assert_eq!(&image.offsets, places, "{}: places of span {i}", case.name);
            assert_eq!(Some(&image.extent), places.last(), "{}", case.name);
        }
        let expected = fixture.floats(&format!("{}.sizes.{i}", case.name));
        if own {
            let close = |(a, b): (&f32, &f32)| (a - b).abs() <= 1e-5 * b;
            let alike = image.sizes.len() == expected.len() && image.sizes.iter().zip(expected).all(close);
            assert!(alike, "{}: sizes of span {i}: {:?} against {expected:?}", case.name, image.sizes);
        }
    }

    let (logits, steps) = pair.greedy_with_steps(case, &images, &schedule.merge_layers(), setting);
    assert_eq!(steps.len(), decoder.len(), "{}: decoder steps", case.name);
    for (step, expected) in steps.iter().zip(decoder) {
        assert_eq!(step.span, expected.span, "{}", case.name);
        assert_step(step, expected, &case.name);
    }
    let expected = fixture.floats(&format!("{}.logits", case.name));
    assert_steps(&logits, expected, &case.greedy, setting, &case.name);
}

fn assert_step(step: &MergeStep, expected: &Step, name: &str) {
    let what = format!("{name}: span {}, tile {:?}, layer {}", expected.span, expected.tile, expected.layer);
    assert_eq!(step.layer, expected.layer, "{what}");
    assert_eq!(step.kept, expected.kept, "{what}: kept");
    assert_eq!(step.into, expected.into, "{what}: into");
}
