//! The server's page in a real browser: ask, budget, stop, reload, a narrow screen. The browser is Chromium, driven by
//! its own WebDriver; without one installed these tests say so and look at nothing, unless ILLAVA_NEEDS_BROWSER is set.

#[path = "web/browser.rs"]
mod browser;
#[path = "web/daily.rs"]
mod daily;
#[path = "web/site.rs"]
mod site;

use std::time::Duration;

use browser::Browser;
use fantoccini::Locator;
use serde_json::{Value, json};
use site::Site;

const PICTURE: &str = "models/demo/images/crowd-448.png";
const QUESTION: &str = "What color is the cross?";

/// Runs `test` on a fresh page of a server with the demo pair.
async fn on_page<F: AsyncFnOnce(&Browser)>(name: &str, test: F) {
    let Some(browser) = Browser::start(name).await else { return };
    let site = Site::start().await;
    browser.goto(&site.address).await;
    browser.wait("document.getElementById('model').textContent !== 'connecting'").await;
    test(&browser).await;
    assert_eq!(browser.complaints().await, Vec::<String>::new(), "errors of the page");
    browser.close().await;
}

async fn ask(browser: &Browser, picture: Option<&str>, question: &str) {
    if let Some(picture) = picture {
        browser.choose_file("#files", picture).await;
        browser.wait("document.querySelectorAll('#attachments img').length === 1").await;
    }
    browser.fill("#question", question).await;
    browser.click("#send").await;
}

async fn answered(browser: &Browser, count: usize) -> String {
    browser
        .wait(&format!(
            "document.querySelectorAll('.assistant').length === {count} && document.getElementById('stop').hidden"
        ))
        .await;
    browser.text(&format!("#messages > .assistant:nth-of-type({})", 2 * count)).await
}

/// The row of the figures that begins with `name`.
async fn figure(browser: &Browser, name: &str) -> Vec<String> {
    let script = "return [...document.querySelectorAll('#figures tr')]
        .map((row) => [...row.cells].map((cell) => cell.textContent))
        .find((cells) => cells[0] === arguments[0]) ?? []";
    serde_json::from_value(browser.run(script, vec![json!(name)]).await).unwrap()
}

#[tokio::test]
async fn a_question_about_a_picture() {
    on_page("ask", async |browser| {
        ask(browser, Some(PICTURE), QUESTION).await;
        let answer = answered(browser, 1).await;
        assert!(answer.contains("purple"), "{answer}");
        // Beside it: what was kept.
        browser.wait("!document.getElementById('kept').hidden").await;
        assert!(browser.text("#step-name").await.contains("48 left"));
        assert_eq!(figure(browser, "visual tokens").await[1], "196");
        assert_eq!(figure(browser, "in layers 2 to 3").await[1], "48");
        assert_eq!(figure(browser, "KV cache").await.len(), 3, "and what it would be with merging off");
        browser.screenshot("answer").await;
        // Step by step.
        browser.set_range("#step", 0).await;
        assert!(browser.text("#step-name").await.contains("196 left"));
        browser.set_range("#step", 1).await;
        assert!(browser.text("#step-name").await.contains("171 left"));
        // A merged cell is covered: the canvas changes from step to step.
        let drawn = "return document.querySelector('#pictures canvas').toDataURL()";
        let before = browser.run(drawn, vec![]).await;
        browser.set_range("#step", 5).await;
        assert_ne!(browser.run(drawn, vec![]).await, before);
        browser.press("#pictures canvas", "\u{E014}").await;
        assert!(browser.text("#cell").await.starts_with("Cell at row 1, column 2"));
    })
    .await;
}

#[tokio::test]
async fn the_slider_is_the_budget() {
    on_page("slider", async |browser| {
        browser.select("#budget-kind", "off").await;
        ask(browser, Some(PICTURE), QUESTION).await;
        answered(browser, 1).await;
        let shown = "[...document.querySelectorAll('#figures th')].some((cell) => cell.textContent === ";
        browser.wait(&format!("{shown}'in layers 0 to 3')")).await;
        assert_eq!(figure(browser, "in layers 0 to 3").await[1], "196", "off keeps all");
        browser.select("#budget-kind", "share").await;
        browser.set_range("#keep", 10).await;
        assert_eq!(browser.text("#keep-value").await, "10 %");
        ask(browser, None, QUESTION).await;
        answered(browser, 2).await;
        browser.wait(&format!("{shown}'in layers 2 to 3')")).await;
        let deep = figure(browser, "in layers 2 to 3").await;
        let kept: u32 = deep[1].parse().unwrap();
        assert!((19..=20).contains(&kept), "{deep:?}");
        // The same question was asked with merging off: its figures stand beside.
        assert_eq!(figure(browser, "after the encoder").await[2], "196");
    })
    .await;
}

#[tokio::test]
async fn stopped_answers_end_and_the_next_one_comes() {
    on_page("stop", async |browser| {
        // The model's answer to this continues until the context is full, some thousand tokens. The page's
        // own clock stops it, which no driver delays.
        let stop = "const stop = document.getElementById('stop');
            const clock = setInterval(() => { if (!stop.hidden) { clearInterval(clock); stop.click(); } }, 5);";
        browser.run(stop, vec![]).await;
        ask(browser, None, "Count").await;
        browser.wait("document.querySelector('.assistant .note')").await;
        assert_eq!(browser.text(".assistant .note").await, "Stopped.");
        ask(browser, Some(PICTURE), QUESTION).await;
        let answer = answered(browser, 2).await;
        assert!(answer.contains("purple"), "{answer}");
    })
    .await;
}

#[tokio::test]
async fn a_reload_loses_nothing_and_a_new_conversation_everything() {
    on_page("reload", async |browser| {
        ask(browser, Some(PICTURE), QUESTION).await;
        answered(browser, 1).await;
        browser.wait("!document.getElementById('kept').hidden").await;
        browser.reload().await;
        browser.wait("document.querySelectorAll('.assistant').length === 1").await;
        assert!(browser.text(".assistant").await.contains("purple"));
        assert_eq!(browser.count(".user .thumbs img").await, 1);
        browser.click(".assistant").await;
        browser.wait("!document.getElementById('kept').hidden").await;
        assert!(browser.text("#step-name").await.contains("48 left"), "the panel too");
        // The conversation goes on.
        ask(browser, None, "What color is the diamond?").await;
        let answer = answered(browser, 2).await;
        assert!(answer.contains("cyan"), "{answer}");
        browser.click("#clear").await;
        browser.reload().await;
        browser.wait("document.getElementById('model').textContent !== 'connecting'").await;
        assert_eq!(browser.count("#messages > li").await, 0);
    })
    .await;
}

#[tokio::test]
async fn off_beside_the_same_question() {
    on_page("compare", async |browser| {
        ask(browser, Some(PICTURE), QUESTION).await;
        answered(browser, 1).await;
        browser.wait("!document.getElementById('kept').hidden").await;
        let press = "[...document.querySelectorAll('.actions button')].find((b) => b.textContent.startsWith('Compare')).click()";
        browser.run(press, vec![]).await;
        browser.wait("document.querySelector('#figures thead th:nth-child(3)') && document.querySelectorAll('#figures tbody tr').length > 5 && [...document.querySelectorAll('#figures tr')].some((row) => row.cells[0].textContent === 'prefill' && row.cells[2]?.textContent)").await;
        assert!(browser.text(".twin p").await.contains("purple"));
        // Both answers side by side, and below them what they cost.
        let beside = "const [own, off] = ['#messages .assistant > div', '.twin'].map((css) => document.querySelector(css).getBoundingClientRect());
            return own.right <= off.left && Math.abs(own.top - off.top) < 60";
        assert_eq!(browser.run(beside, vec![]).await, json!(true));
        let table = browser.text(".assistant table").await;
        assert!(["first token", "KV cache", "in layers 2 to 3"].iter().all(|row| table.contains(row)), "{table}");
        browser.screenshot("beside").await;
        assert_eq!(figure(browser, "after the encoder").await[2], "196");
        // Another picture with the same words is another question.
        browser.click("#clear").await;
        ask(browser, Some("models/demo/images/crowd-448.png"), QUESTION).await;
        answered(browser, 1).await;
        browser.wait("!document.getElementById('kept').hidden").await;
        assert_eq!(figure(browser, "prefill").await.get(2).map_or("", String::as_str), "");
        browser.screenshot("compare").await;
    })
    .await;
}

#[tokio::test]
async fn a_failed_question_spoils_nothing() {
    on_page("failed", async |browser| {
        let drop = "
            const transfer = new DataTransfer();
            transfer.items.add(new File(['no picture'], 'x.png', { type: 'image/png' }));
            document.getElementById('question').dispatchEvent(
              new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true }));";
        browser.run(drop, vec![]).await;
        browser.fill("#question", QUESTION).await;
        browser.click("#send").await;
        browser.wait("document.querySelector('.note.failed')").await;
        assert!(browser.text(".note.failed").await.contains("not a picture"));
        browser.complaints().await; // the browser's own line about the status
        // Also after a reload, the next question is asked without it.
        browser.wait("document.querySelectorAll('#conversations .rename').length === 1").await;
        browser.reload().await;
        browser.wait("document.querySelector('.note.failed')").await;
        ask(browser, Some(PICTURE), QUESTION).await;
        assert!(answered(browser, 2).await.contains("purple"));
        let remove = "[...document.querySelectorAll('.actions button')].find((b) => b.textContent === 'Remove').click()";
        browser.run(remove, vec![]).await;
        browser.wait("document.querySelectorAll('.user').length === 1").await;
        assert_eq!(browser.count(".note.failed").await, 0);
    })
    .await;
}

#[tokio::test]
async fn tabs_do_not_overwrite_one_another() {
    on_page("tabs", async |browser| {
        // A tab that was duplicated has the same conversation at hand.
        let script = "return (async () => {
            const { restore, save, list } = await import('/app/conversation.js');
            const turn = (text) => ({ role: 'user', text, files: [] });
            const one = await restore();
            one.messages.push(turn('first'));
            await save(one);
            const two = structuredClone(one);
            one.messages.push(turn('of one'));
            await save(one);
            two.messages.push(turn('of two'));
            await save(two);
            two.messages.push(turn('more'));
            await save(two);
            return [(await list()).length, one.id !== two.id, one.messages.length, two.messages.length];
        })()";
        assert_eq!(browser.run(script, vec![]).await, json!([2, true, 2, 3]));
        browser.reload().await;
        browser.wait("document.querySelectorAll('.user').length === 3").await;
        assert_eq!(browser.count("#conversations .rename").await, 2);
    })
    .await;
}

#[tokio::test]
async fn drop_and_paste() {
    on_page("drop", async |browser| {
        let hand_over = "
            const [kind, data] = arguments;
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], 'crowd.png', { type: 'image/png' }));
            const event = kind === 'drop'
              ? new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true })
              : new ClipboardEvent('paste', { clipboardData: transfer, bubbles: true, cancelable: true });
            document.getElementById('question').dispatchEvent(event);
            return event.defaultPrevented;";
        use base64::Engine;
        let picture = base64::prelude::BASE64_STANDARD.encode(std::fs::read(PICTURE).unwrap());
        for (count, kind) in [(1, "drop"), (2, "paste")] {
            let taken = browser.run(hand_over, vec![json!(kind), json!(picture)]).await;
            assert_eq!(taken, Value::Bool(true), "{kind}");
            assert_eq!(browser.count("#attachments img").await, count, "{kind}");
        }
        browser.click("#attachments button").await;
        assert_eq!(browser.count("#attachments img").await, 1);
        browser.fill("#question", QUESTION).await;
        browser.click("#send").await;
        assert!(answered(browser, 1).await.contains("purple"));
    })
    .await;
}

/// The demo pair was not trained on videos, so the frames go in as pictures.
#[tokio::test]
async fn a_dropped_video() {
    let folder = tempfile::tempdir().unwrap();
    let clip = folder.path().join("clip.mp4");
    let made = std::process::Command::new("ffmpeg")
        .args(["-v", "error", "-nostdin", "-loop", "1", "-i", PICTURE, "-frames:v", "3", "-c:v", "mpeg4"])
        .arg(&clip)
        .status();
    if !made.is_ok_and(|status| status.success()) {
        assert!(std::env::var_os("ILLAVA_NEEDS_FFMPEG").is_none(), "ffmpeg makes no clip");
        eprintln!("skipped: ffmpeg is not installed; ./test installs it");
        return;
    }
    on_page("video", async |browser| {
        // Some systems tell no type.
        let drop = "
            const [type, data] = arguments;
            const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0));
            const transfer = new DataTransfer();
            transfer.items.add(new File([bytes], 'clip.mp4', { type }));
            const event = new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.getElementById('question').dispatchEvent(event);";
        use base64::Engine;
        let video = base64::prelude::BASE64_STANDARD.encode(std::fs::read(&clip).unwrap());
        for (count, kind) in [(1, "video/mp4"), (2, "")] {
            browser.run(drop, vec![json!(kind), json!(video)]).await;
            assert_eq!(browser.count("#attachments video").await, count, "{kind}");
        }
        browser.click("#attachments button").await;
        browser.fill("#question", QUESTION).await;
        browser.click("#send").await;
        assert!(!answered(browser, 1).await.is_empty());
        assert_eq!(browser.count(".user .thumbs video").await, 1);
        browser.wait("!document.getElementById('kept').hidden").await;
        assert_eq!(figure(browser, "visual tokens").await[1], "588", "three frames of 196");
        browser.screenshot("answer").await;
    })
    .await;
}

#[tokio::test]
async fn a_narrow_screen_needs_no_sideways_scrolling() {
    on_page("narrow", async |browser| {
        browser.resize(360, 740).await;
        ask(browser, Some(PICTURE), QUESTION).await;
        answered(browser, 1).await;
        browser.wait("!document.getElementById('kept').hidden").await;
        let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.run(overflow, vec![]).await, json!(0));
        browser.screenshot("narrow").await;
        // Every control is still within the screen.
        let outside = "return [...document.querySelectorAll('button, input:not(.visually-hidden), textarea, canvas')]
            .filter((element) => element.offsetParent !== null)
            .filter((element) => { const box = element.getBoundingClientRect(); return box.left < 0 || box.right > innerWidth; })
            .map((element) => element.id)";
        assert_eq!(browser.run(outside, vec![]).await, json!([]));
        // The question's form stays in sight, and a touched answer shows its pictures with their covered cells.
        let sight = "const box = document.querySelector(arguments[0]).getBoundingClientRect();
            return box.bottom > 0 && box.top < innerHeight";
        assert_eq!(browser.run(sight, vec![json!("#send")]).await, json!(true));
        browser.run("document.querySelector('.assistant > div').click()", vec![]).await;
        browser.wait("document.querySelector('#pictures canvas').getBoundingClientRect().top < innerHeight").await;
    })
    .await;
}

#[tokio::test]
async fn an_answer_cannot_bring_markup_to_life() {
    on_page("markup", async |browser| {
        // The page's own module draws a text that a model may have been talked into.
        let script = "
            const done = arguments[0];
            const { answerMessage } = await import('/app/messages.js');
            const answer = answerMessage();
            answer.add('<img src=x onerror=\"document.title=1\"><script>document.title=2</script><a href=\"javascript:1\">a</a> **bold**');
            answer.end('');
            document.body.append(answer.item);
            return [answer.item.querySelectorAll('img, script, a').length, answer.item.querySelectorAll('strong').length];";
        let counts = browser.run(&format!("return (async () => {{ {} }})()", script.replace("const done = arguments[0];", "")), vec![]).await;
        assert_eq!(counts, json!([0, 1]));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(browser.title().await, "illava");
        browser.find(Locator::Css("#question")).await;
    })
    .await;
}
