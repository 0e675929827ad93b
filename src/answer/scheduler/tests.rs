//! Order in which requests are served, on a decoder without a model.

mod fake;
mod files;

use super::*;
use crate::answer::{Generation, SlotState};
use fake::{Bench, ending, job, picture};

/// Two text requests and one with a picture run beside each other.
#[test]
fn a_running_answer_waits_for_one_ubatch_at_most() {
    let mut bench = Bench::new(3);
    bench.submit(job(1, "aa", 9));
    bench.turns(1);
    bench.submit(Job { scope: Some(b"other".to_vec()), ..job(2, "bbbbbbbbbbbb", 2) });
    bench.turns(4);
    // The prompt of 13 rows takes four ubatches of four; one between any two tokens of the first.
    let log = bench.log();
    assert_eq!(log[..2], ["begin 0: 3 rows", "step 0"]);
    assert_eq!(
        log[2..],
        [
            "begin 1: 13 rows",
            "decode [0]",
            "step 1",
            "decode [0]",
            "step 1",
            "decode [0]",
            "step 1",
            "decode [0]",
            "step 1",
        ]
    );
    bench.turns(1);
    assert_eq!(bench.log(), ["decode [0, 1]"], "then both in one batch");
}

/// Own positions up to 256, which the model was trained for; then closed ones, of the picture that was encoded already.
#[test]
fn pictures_stand_at_their_own_positions() {
    let with_picture = |id| Job { pictures: vec![picture(1, 8)], ..job(id, "aa\u{1}b", 3) };
    let mut bench = Bench::new(2);
    bench.apart = 20;
    bench.submit(with_picture(1));
    bench.run();
    let report = bench.done(1).report;
    assert_eq!((report.merge.positions.as_str(), report.remarks.len()), ("own", 0));
    // The picture's 160 positions, the text around it and three letters, one of them never decoded.
    assert_eq!(bench.slots.decoder.held(0).last(), Some(&(3 + 160 + 1 + 2)));
    // The next turn finds the picture in the cache and goes on behind it.
    bench.submit(Job { pictures: vec![picture(1, 8)], ..job(2, "aa\u{1}babcd", 1) });
    bench.run();
    assert_eq!(bench.done(2).cached_tokens, 3 + 8 + 1 + 3);
    assert_eq!(bench.encoded, 1);

    // Two of them pass the limit: the text before them and the encoded pictures serve again.
    let two = || Job { pictures: vec![picture(1, 8), picture(1, 8)], ..job(3, "aa\u{1}b\u{1}c", 1) };
    bench.submit(two());
    bench.run();
    let done = bench.done(3);
    assert_eq!(done.report.merge.positions, "closed");
    assert_eq!(done.report.remarks.len(), 1, "{:?}", done.report.remarks);
    assert_eq!((done.cached_tokens, bench.encoded), (3, 1));
    let held = (0..2).map(|i| bench.slots.decoder.held(i)).find(|held| held.len() > 20);
    assert!(held.unwrap().windows(2).all(|pair| pair[1] == pair[0] + 1), "{held:?}");
}

#[test]
fn the_oldest_prompt_first() {
    let mut bench = Bench::new(2);
    bench.submit(job(1, "aaaaaaaa", 1));
    bench.submit(job(2, "b", 1));
    bench.turns(4);
    let steps: Vec<String> = bench.log().into_iter().filter(|line| line.starts_with("step")).collect();
    assert_eq!(steps, ["step 0", "step 0", "step 0", "step 1"]);
}

#[test]
fn answers_and_their_ends() {
    let string = |s: &str| Finish::StopString(s.to_owned());
    // (answer's own length, at most, stop strings, prompt, text, finish)
    let cases: [(u32, Option<u32>, &[&str], &str, &str, Finish); 7] = [
        (3, None, &[], "x", "abc", Finish::Stop),
        (3, Some(2), &[], "x", "ab", Finish::Length),
        (3, Some(0), &[], "x", "", Finish::Length),
        (9, None, &["de"], "x", "abc", string("de")),
        (3, None, &["cd"], "x", "abc", Finish::Stop),
        (99, None, &[], "xxxxxxxxxxxxxxxxxxxxxxxxxx", "abcdef", Finish::ContextFull),
        (0, None, &[], "x", "", Finish::Stop),
    ];
    for (length, max_tokens, stop, prompt, text, finish) in cases {
        let mut bench = Bench::new(1);
        bench.submit(Job { how: ending(length, max_tokens, stop), ..job(1, prompt, length) });
        bench.run();
        let done = bench.done(1);
        assert_eq!((done.report.text.as_str(), &done.finish), (text, &finish), "{prompt} {length}");
        assert_eq!(bench.text(1), text);
        assert_eq!(done.report.seed, length);
    }
}

#[test]
fn first_come_first_served() {
    let mut bench = Bench::new(1);
    for (id, scope) in [(1, "a"), (2, "a"), (3, "a"), (4, "b")] {
        bench.submit(Job { scope: Some(scope.into()), ..job(id, "x", 1) });
    }
    bench.run();
    assert_eq!(bench.order(), [1, 2, 3, 4]);
}

#[test]
fn cancelled_wherever_it_is() {
    for turns in 0..8 {
        let mut bench = Bench::new(1);
        bench.submit(Job { pictures: vec![picture(1, 6)], ..job(1, "ab\u{1}cdefgh", 99) });
        bench.submit(job(2, "x", 2));
        for turn in 0..turns {
            bench.turns(1);
            if turn == 1 {
                bench.encode();
            }
        }
        bench.slots.cancel(1);
        bench.slots.cancel(77);
        assert_eq!(bench.slots.view()[0].state, SlotState::Idle, "free at once");
        bench.run();
        assert_eq!(bench.done(1).finish, Finish::Cancelled, "after {turns} turns");
        assert_eq!(bench.done(2).report.text, "ab");
        bench.is_consistent();
    }
    let mut bench = Bench::new(1);
    bench.submit(job(1, "x", 50));
    bench.submit(job(2, "y", 50));
    bench.turns(3);
    bench.slots.cancel(2);
    bench.slots.cancel_all();
    bench.turns(1);
    assert_eq!([bench.done(1).finish, bench.done(2).finish], [Finish::Cancelled, Finish::Cancelled]);
    assert!(!bench.slots.is_busy());
}

/// The client of 1 leaves while its picture is encoded.
#[test]
fn nobodys_picture_is_encoded_to_its_end() {
    let with = |id, scope: &str| Job {
        pictures: vec![picture(1, 6)],
        scope: Some(scope.as_bytes().to_vec()),
        ..job(id, "ab\u{1}", 2)
    };
    let mut bench = Bench::new(1);
    bench.submit(with(1, "a"));
    bench.turns(1);
    bench.slots.cancel(1);
    // Comes while the encoder has not noticed yet.
    bench.submit(with(2, "a"));
    bench.turns(1);
    assert_eq!(bench.waiting(), 2, "the stopped one is asked for again");
    bench.run();
    assert_eq!((bench.done(1).finish, bench.done(2).report.text.as_str()), (Finish::Cancelled, "ab"));
    assert_eq!(bench.encoded, 1);

    // Another request of the same scope waits for the same picture.
    let mut bench = Bench::new(1);
    bench.submit(with(1, "a"));
    bench.submit(with(2, "a"));
    bench.turns(1);
    bench.slots.cancel(1);
    bench.run();
    assert_eq!((bench.done(2).report.text.as_str(), bench.encoded), ("ab", 1));
}

#[test]
fn what_cannot_be_is_refused() {
    let long = "x".repeat(fake::CELLS as usize);
    let failed = |job: Job| -> Failed {
        let mut bench = Bench::new(1);
        bench.submit(job);
        bench.run();
        bench.failed(1)
    };
    let text = failed(job(1, &long, 1));
    assert_eq!((text.kind, text.context), (Kind::Context, Some((fake::CELLS + 1, fake::CELLS))));
    // Found once the picture is encoded: only then it is known what it brings.
    let image = failed(Job { pictures: vec![picture(1, 40)], ..job(1, "\u{1}", 1) });
    assert_eq!((image.kind, image.context.unwrap().1), (Kind::Context, fake::CELLS));
    let missing = failed(job(1, "\u{1}", 1));
    assert_eq!(missing.kind, Kind::Prompt);
    let unshown = failed(Job { pictures: vec![picture(1, 4)], ..job(1, "x", 1) });
    assert!(unshown.message.contains("picture 1 of 1"), "{}", unshown.message);
    let broken = failed(Job { pictures: vec![picture(1, 0)], ..job(1, "\u{1}", 1) });
    assert_eq!(broken.kind, Kind::Media);
}

#[test]
fn a_second_question_about_a_picture() {
    let mut bench = Bench::new(2);
    let ask = |id, text: &str| Job { pictures: vec![picture(1, 6)], trace: true, ..job(id, text, 2) };
    bench.submit(ask(1, "\u{1}what?"));
    bench.run();
    assert_eq!(bench.encoded, 1);
    let first = bench.done(1);
    assert_eq!((first.prompt_tokens, first.cached_tokens, first.computed_tokens), (12, 0, 12));
    bench.log();
    bench.submit(ask(2, "\u{1}who?"));
    bench.run();
    assert_eq!(bench.encoded, 1, "not encoded again");
    let second = bench.done(2);
    // BOS, six embeddings and "wh" are in the cache.
    assert_eq!((second.cached_tokens, second.computed_tokens, second.cached_pictures), (9, 2, 1));
    assert_eq!(bench.log()[0], "begin 0: 2 rows");
    let decoder = |done: &Done| {
        let steps = done.trace.as_ref().unwrap().steps.iter();
        steps.filter(|step| step.half == crate::report::Half::Decoder).count()
    };
    assert_eq!((decoder(&first), decoder(&second)), (1, 1), "the trace still has the picture's steps");
    bench.is_consistent();
}

#[test]
fn scopes_share_nothing() {
    for scopes in [[Some("a"), Some("b")], [None, None], [Some("a"), None]] {
        let mut bench = Bench::new(2);
        for (id, scope) in (1..).zip(scopes) {
            let scope = scope.map(|scope| scope.as_bytes().to_vec());
            bench.submit(Job { scope, pictures: vec![picture(1, 6)], ..job(id, "\u{1}what?", 2) });
            bench.run();
        }
        let done = bench.done(2);
        assert_eq!((done.cached_tokens, done.cached_pictures), (0, 0), "{scopes:?}");
        assert_eq!(bench.encoded, 2);
        if scopes[1].is_none() {
            assert!(bench.slots.view().iter().any(|slot| slot.kv_tokens == [0, 0]), "nothing is left behind");
        }
        bench.is_consistent();
    }
}

#[test]
fn a_running_answers_beginning_is_shared() {
    let mut bench = Bench::new(2);
    bench.submit(job(1, "the same beginning", 40));
    bench.turns(6);
    bench.log();
    bench.submit(job(2, "the same end", 2));
    bench.turns(1);
    let log = bench.log();
    assert_eq!(log[..2], ["share 0 -> 1 before 10", "begin 1: 3 rows"]);
    bench.run();
    assert_eq!(bench.done(2).cached_tokens, 10);
    assert_eq!(bench.done(1).finish, Finish::ContextFull);
    bench.is_consistent();
}

#[test]
fn a_conversation_goes_on_in_its_slot() {
    let mut bench = Bench::new(3);
    for (id, prompt) in [(1, "one"), (2, "two"), (3, "one"), (4, "three")] {
        bench.submit(Job { scope: Some(b"s".to_vec()), ..job(id, prompt, 1) });
        bench.run();
    }
    // 3 repeats 1 in its slot: all but the last token is there. 4 begins as 2 does, which is less than half
    // of that slot's content: it stays for a conversation that continues.
    assert_eq!(bench.done(3).cached_tokens, 3);
    assert_eq!(bench.done(4).cached_tokens, 2);
    let slots: Vec<u32> = (1..=4).map(|id| bench.started(id).slot).collect();
    assert_eq!(slots, [0, 1, 0, 2]);
    bench.is_consistent();
}

#[test]
fn a_request_for_a_slot_waits_for_it_and_keeps_nobody_waiting() {
    let mut bench = Bench::new(2);
    let to = |slot, job: Job| Job { slot: Some(slot), ..job };
    bench.submit(to(1, job(1, "x", 9)));
    bench.turns(1);
    // Slot 3 of two is slot 1. A busy slot's prompt is shared with the one that was asked for.
    bench.submit(to(3, job(2, "y", 1)));
    bench.submit(to(0, job(3, "xab", 1)));
    bench.run();
    assert_eq!([1, 2, 3].map(|id| bench.started(id).slot), [1, 1, 0]);
    assert_eq!(bench.order(), [3, 1, 2]);
    assert_eq!(bench.done(3).cached_tokens, 2);
    bench.is_consistent();
}

#[test]
fn last_token_scores_are_for_one_question() {
    let mut bench = Bench::new(1);
    let schedule = crate::schedule::Schedule { score: crate::schedule::Score::LastToken, ..fake::schedule() };
    for id in [1, 2] {
        let schedule = schedule.clone();
        bench.submit(Job { schedule, pictures: vec![picture(1, 6)], ..job(id, "ab\u{1}what?", 2) });
        bench.run();
    }
    assert_eq!(
        (bench.done(2).cached_tokens, bench.encoded),
        (3, 1),
        "what is before the picture, and its encoding"
    );
}

#[test]
fn pictures_are_encoded_ahead_and_once() {
    let mut bench = Bench::new(1);
    bench.submit(job(1, "x", 20));
    bench.turns(2);
    for id in [2, 3] {
        bench.submit(Job { pictures: vec![picture(1, 6)], ..job(id, "\u{1}y", 1) });
    }
    bench.submit(Job { pictures: vec![picture(2, 6)], ..job(4, "\u{1}y", 1) });
    bench.turns(2);
    assert_eq!(bench.waiting(), 2, "for the queue, each picture once");
    bench.encode();
    bench.run();
    assert_eq!(bench.encoded, 2);
    assert_eq!([2, 3, 4].map(|id| bench.done(id).cached_pictures), [0, 1, 0]);
}

#[test]
fn several_answers_to_one_prompt_compute_it_once() {
    let mut bench = Bench::new(3);
    for id in [1, 2, 3] {
        bench.submit(Job { pictures: vec![picture(1, 9)], ..job(id, "\u{1}what?", 9) });
    }
    bench.submit(Job { scope: Some(b"other".to_vec()), ..job(4, "x", 1) });
    bench.turns(1);
    bench.encode();
    bench.run();
    assert_eq!(bench.encoded, 1);
    let computed = [1, 2, 3].map(|id| bench.done(id).computed_tokens);
    assert_eq!(computed, [15, 1, 1], "all but the last token is shared");
    assert!([1, 2, 3].iter().all(|&id| bench.done(id).report.text == "abcdefghi"));
    assert_eq!(bench.order()[0], 4, "who shares nothing does not wait");
    bench.is_consistent();
}

#[test]
fn who_waits_to_share_keeps_nobody_waiting() {
    let mut bench = Bench::new(4);
    for (id, content) in [(1, 1), (2, 1), (3, 2)] {
        bench.submit(Job { pictures: vec![picture(content, 9)], ..job(id, "\u{1}what?", 2) });
    }
    bench.submit(job(4, "x", 2));
    bench.turns(1);
    let at_work: Vec<u64> = bench.slots.view().iter().filter_map(|slot| slot.request).collect();
    assert_eq!(at_work, [1, 3, 4], "2 waits for the picture of 1, the others of its scope do not");
    bench.run();
    assert_eq!(bench.done(2).computed_tokens, 1, "and then shares it");
    assert_eq!(bench.encoded, 2);
    bench.is_consistent();
}

#[test]
fn another_schedule_is_another_picture() {
    let mut bench = Bench::new(1);
    let off = crate::schedule::Schedule::default();
    for (id, schedule) in [(1, fake::schedule()), (2, off), (3, fake::schedule())] {
        bench.submit(Job { schedule, pictures: vec![picture(1, 6)], ..job(id, "\u{1}y", 1) });
        bench.run();
    }
    let kv = |id| bench.started(id).kv_tokens;
    assert_eq!((kv(1), kv(2)), (vec![8, 5], vec![8, 8]));
    // The decoder's part alone differs, so the encoding serves all three, the cache none.
    assert_eq!((bench.encoded, bench.done(2).cached_tokens), (1, 1));
    let error = {
        let mut bench = Bench::new(1);
        let steps = vec![(3, crate::schedule::Amount::Count(1))];
        let decoder = crate::schedule::HalfSchedule { steps };
        let schedule = crate::schedule::Schedule { decoder, ..Default::default() };
        bench.submit(Job { schedule, pictures: vec![picture(1, 6)], ..job(1, "\u{1}y", 1) });
        bench.run();
        bench.failed(1)
    };
    assert!(error.kind == Kind::Schedule && error.message.contains("layers 2"), "{}", error.message);
}

#[test]
fn a_decoder_that_fails() {
    let mut bench = Bench::new(2);
    bench.submit(job(1, "x", 20));
    bench.submit(job(2, "y", 20));
    bench.turns(4);
    bench.slots.decoder.broken = true;
    bench.turns(1);
    assert_eq!([bench.failed(1).kind, bench.failed(2).kind], [Kind::Native, Kind::Native]);
    bench.slots.decoder.broken = false;
    bench.submit(job(3, "x", 2));
    bench.run();
    assert_eq!(bench.done(3).report.text, "ab");
    bench.is_consistent();
}

#[test]
fn log_probabilities_go_with_their_text() {
    let mut bench = Bench::new(1);
    let how = Generation { logprobs: Some(1), ..ending(2, None, &[]) };
    bench.submit(Job { how, ..job(1, "x", 2) });
    bench.run();
    let tokens = bench.tokens(1);
    assert_eq!(tokens.iter().map(|token| token.id).collect::<Vec<_>>(), [i32::from(b'a'), i32::from(b'b')]);
    assert_eq!((tokens[0].top[0].id, tokens[0].top[0].bytes.as_slice()), (i32::from(b'z'), &b"z"[..]));
}

#[test]
fn the_report_tells_what_the_slot_used() {
    let mut bench = Bench::new(2);
    bench.submit(Job { pictures: vec![picture(1, 6)], ..job(1, "\u{1}y", 3) });
    bench.run();
    let report = bench.done(1).report;
    assert_eq!((report.tokens.text, report.tokens.visual, report.tokens.visual_after_encoder), (2, 12, 6));
    let kv: Vec<u32> = report.tokens.visual_kv.iter().map(|kv| kv.tokens).collect();
    assert_eq!(kv, [6, 3]);
    assert_eq!(report.merge.llm_r, [3]);
    // Two layers each, 10 bytes a cell and layer; the last token is never decoded.
    assert_eq!(report.bytes.kv, 20 * (2 + 6 + 3) + 20 * (2 + 3 + 3));
    assert_eq!(report.bytes.kv_without_merge, 40 * (2 + 12 + 3));
}

/// Pictures that are not encoded count as well: what they bring is known from their sizes.
#[test]
fn a_prompt_that_is_too_long_counts_every_picture() {
    let told = |least, about| {
        let mut bench = Bench::new(1);
        let expected = crate::see::Expected { least, about };
        let pictures = (0..6).map(|i| crate::answer::PromptPicture { expected, ..picture(i, 9) }).collect();
        bench.submit(Job { pictures, ..job(1, &format!("a{}", "\u{1}".repeat(6)), 2) });
        bench.run();
        let failed = bench.failed(1);
        (failed.message.clone(), failed.context.unwrap().0)
    };
    // Certain: it is refused before any picture is encoded. BOS, a letter, six pictures.
    let (message, tokens) = told(9, 9);
    assert!(message.contains("56 tokens (54 of pictures)") && tokens == 56, "{message}");
    // Not certain: some are encoded until it is, and the others still count.
    let (message, tokens) = told(1, 9);
    assert!(message.contains("56 tokens (54 of pictures)") && tokens == 56, "{message}");
}
