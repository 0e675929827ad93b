//! The page from day to day: edited and repeated questions, instructions, files out, files refused, every reader.

use fantoccini::Locator;
use serde_json::{Value, json};

use super::{PICTURE, QUESTION, answered, ask, on_page};

/// A question is edited where it stands; with turns behind it, the conversation so far is kept beside the new one.
#[tokio::test]
async fn questions_are_edited_and_repeated() {
    on_page("edit", async |browser| {
        ask(browser, Some(PICTURE), QUESTION).await;
        assert!(answered(browser, 1).await.contains("purple"));
        let edit = "const field = document.querySelector('#messages form textarea');
            field.value = arguments[0];
            field.form.requestSubmit()";
        browser.act(0, "Edit").await;
        browser.screenshot("editing").await;
        browser.run(edit, vec![json!("What color is the diamond?")]).await;
        browser.wait("document.querySelector('.assistant')?.textContent.includes('cyan')").await;
        assert!(answered(browser, 1).await.contains("cyan"), "the picture is asked about again");
        assert_eq!(browser.count("#conversations li").await, 1);
        ask(browser, None, QUESTION).await;
        answered(browser, 2).await;
        browser.act(1, "Ask again").await;
        browser.wait("document.querySelectorAll('#conversations li').length === 2").await;
        assert!(answered(browser, 1).await.contains("cyan"));
        browser.click("#conversations .title:not([aria-current])").await;
        browser.wait("document.querySelectorAll('.assistant').length === 2").await;
        // One turn of it leaves, the other stays.
        browser.act(1, "Remove").await;
        browser.wait("document.querySelectorAll('.assistant').length === 1").await;
        assert!(browser.text(".user").await.contains(QUESTION));
    })
    .await;
}

/// Conversations are a list: opened, renamed and deleted, with the keyboard alone.
#[tokio::test]
async fn conversations_are_a_list() {
    const KEYS: [&str; 6] = ["\u{E015}", "\u{E013}", "\u{E011}", "\u{E010}", "\u{E032}", "\u{E017}"];
    let [down, up, home, end, rename, delete] = KEYS;
    on_page("list", async |browser| {
        for (count, question) in (1..).zip([QUESTION, "What color is the diamond?"]) {
            ask(browser, Some(PICTURE), question).await;
            browser.wait(&format!("document.querySelectorAll('#conversations .rename').length === {count}")).await;
            browser.wait("document.getElementById('stop').hidden").await;
            browser.click("#clear").await;
            browser.wait("document.querySelector('#conversations [aria-current]')?.textContent === 'New conversation'").await;
        }
        let focus = async || browser.run("return document.activeElement.textContent", vec![]).await;
        let press = async |keys: &str| {
            browser.find(Locator::Css(":focus")).await.send_keys(keys).await.unwrap();
        };
        browser.run("document.querySelector('#conversations .title').focus()", vec![]).await;
        press(down).await;
        assert_eq!(focus().await, "What color is the diamond?", "the newest stands first");
        for (key, title) in [(down, QUESTION), (down, QUESTION), (home, "New conversation"), (end, QUESTION), (up, "What color is the diamond?")] {
            press(key).await;
            assert_eq!(focus().await, title);
        }
        // Enter opens it, and the focus stays.
        press("\u{E007}").await;
        browser.wait("document.querySelector('.user')?.textContent.includes('diamond')").await;
        browser.wait("document.activeElement.getAttribute('aria-current') === 'true'").await;
        assert_eq!(browser.count("#conversations li").await, 2, "one that is empty is not kept");
        // Escape leaves the name, Enter takes the new one.
        press(rename).await;
        press("forgotten\u{E00C}").await;
        assert_eq!(focus().await, "What color is the diamond?");
        press(rename).await;
        press("Diamonds\u{E007}").await;
        browser.wait("document.activeElement.textContent === 'Diamonds'").await;
        browser.screenshot("renamed").await;
        // A further turn and a reload leave it its name.
        ask(browser, None, QUESTION).await;
        answered(browser, 2).await;
        browser.reload().await;
        browser.wait("document.querySelector('#conversations [aria-current]')?.textContent === 'Diamonds'").await;
        // The first press asks; one that goes elsewhere deletes nothing.
        browser.run("document.querySelector('#conversations [aria-current]').focus()", vec![]).await;
        press(delete).await;
        assert_eq!(focus().await, "Delete?");
        browser.run("document.getElementById('question').focus()", vec![]).await;
        assert_eq!(browser.count("#conversations .rename").await, 2);
        assert_eq!(browser.text("#conversations .delete").await, "×");
        browser.run("document.querySelector('#conversations [aria-current]').focus()", vec![]).await;
        press(delete).await;
        press("\u{E007}").await;
        browser.wait("document.querySelectorAll('#conversations .rename').length === 1").await;
        assert_eq!(browser.count("#messages > li").await, 0, "the page goes on with a new one");
        browser.wait(&format!("document.activeElement.textContent === '{QUESTION}'")).await;
        // On a narrow screen the list is folded.
        browser.resize(360, 740).await;
        browser.reload().await;
        browser.wait("document.querySelectorAll('#conversations .rename').length === 1").await;
        let folded = "return document.querySelector('#conversations .title').checkVisibility()";
        assert_eq!(browser.run(folded, vec![]).await, json!(false));
        browser.click("#others summary").await;
        assert_eq!(browser.run(folded, vec![]).await, json!(true));
        let overflow = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
        assert_eq!(browser.run(overflow, vec![]).await, json!(0));
        browser.screenshot("folded").await;
    })
    .await;
}

/// Everything that the form says reaches the request, and a conversation leaves as a file.
#[tokio::test]
async fn instructions_sampling_and_export() {
    on_page("settings", async |browser| {
        let listen = "window.bodies = [];
            const fetched = window.fetch;
            window.fetch = (path, options) => { if (options?.body) bodies.push(JSON.parse(options.body)); return fetched(path, options); };
            window.blobs = [];
            const made = URL.createObjectURL;
            URL.createObjectURL = (blob) => { if (/markdown|json/.test(blob.type)) blobs.push(blob); return made.call(URL, blob); };
            document.getElementById('settings').open = true;";
        browser.run(listen, vec![]).await;
        browser.fill("#system", "Answer in one word.").await;
        browser.fill("#temperature", "0").await;
        browser.fill("#max_tokens", "7").await;
        browser.screenshot("open").await;
        ask(browser, Some(PICTURE), QUESTION).await;
        answered(browser, 1).await;
        let body = browser.run("return bodies[0]", vec![]).await;
        assert_eq!((&body["temperature"], &body["max_tokens"]), (&json!(0), &json!(7)));
        assert_eq!(body["messages"][0], json!({ "role": "system", "content": "Answer in one word." }));
        assert!(body.get("seed").is_none() && body.get("top_p").is_none(), "an empty field says nothing");
        browser.click("#export-text").await;
        browser.click("#export-json").await;
        browser.wait("blobs.length === 2").await;
        let read = "return Promise.all(blobs.map((blob) => blob.text()))";
        let files: Vec<String> = serde_json::from_value(browser.run(read, vec![]).await).unwrap();
        assert!(files[0].contains("## Question\n\n*[crowd-448.png]*") && files[0].contains(QUESTION), "{}", files[0]);
        let whole: Value = serde_json::from_str(&files[1]).unwrap();
        assert_eq!(whole["settings"]["system"], "Answer in one word.");
        assert!(whole["messages"][0]["files"][0]["url"].as_str().unwrap().starts_with("data:image/png;base64,"));
        assert_eq!(whole["messages"][1]["result"]["report"]["tokens"]["visual"], 196);
        // They outlive a reload.
        browser.reload().await;
        assert_eq!(browser.run("return document.getElementById('max_tokens').value", vec![]).await, "7");
    })
    .await;
}

#[tokio::test]
async fn files_that_are_no_pictures_are_named() {
    on_page("files", async |browser| {
        let drop = "const [name, type] = arguments;
            const transfer = new DataTransfer();
            transfer.items.add(new File(['x'], name, { type }));
            const event = new DragEvent('drop', { dataTransfer: transfer, bubbles: true, cancelable: true });
            document.getElementById('question').dispatchEvent(event);
            return document.getElementById('complaint').textContent";
        for (name, kind, part) in [
            ("a.pdf", "application/pdf", "a.pdf is a PDF: save its pages as pictures"),
            ("b.PDF", "", "b.PDF is a PDF"),
            ("c.mp3", "audio/mpeg", "c.mp3 is a sound"),
            ("d.txt", "text/plain", "d.txt is a text: paste"),
            ("e.docx", "", "e.docx is an office document"),
            ("f.bin", "", "f.bin is neither a picture nor a video"),
        ] {
            let said = browser.run(drop, vec![json!(name), json!(kind)]).await;
            assert!(said.as_str().unwrap().contains(part), "{said}");
            assert_eq!(browser.count("#attachments li").await, 0);
        }
        assert_eq!(browser.run("return document.getElementById('complaint').role", vec![]).await, "alert");
    })
    .await;
}

#[tokio::test]
async fn the_budget_of_auto_is_explained() {
    on_page("auto", async |browser| {
        browser.select("#budget-kind", "auto").await;
        ask(browser, Some(PICTURE), QUESTION).await;
        answered(browser, 1).await;
        browser.wait("!document.getElementById('kept').hidden").await;
        let why = browser.text("#budgets li").await;
        assert!(why.starts_with("Picture 1: ") && why.contains("of 196 tokens"), "{why}");
        browser.screenshot("why").await;
    })
    .await;
}

/// Rules of axe-core, for the page as it is found, with an answer beside its twin, and with a failed turn.
#[tokio::test]
async fn every_rule_of_axe_holds() {
    let path = std::env::var_os("ILLAVA_AXE").map_or_else(
        || {
            std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
                .join("target/page/node_modules/axe-core/axe.min.js")
        },
        Into::into,
    );
    let Ok(axe) = std::fs::read_to_string(&path) else {
        assert!(std::env::var_os("ILLAVA_AXE").is_none(), "{}: no axe-core", path.display());
        eprintln!("skipped: axe-core is not installed; ./test installs it if there is npm");
        return;
    };
    on_page("axe", async |browser| {
        let rules = format!("{axe}; return Promise.resolve()");
        let check = "return axe.run(document).then(({ violations, passes }) => ({
            passed: passes.length,
            wrong: violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`),
        }))";
        browser.run(&rules, vec![]).await;
        let clean = async |state: &str| {
            let found = browser.run(check, vec![]).await;
            assert_eq!(found["wrong"], json!([]), "{state}");
            assert!(found["passed"].as_u64().unwrap() > 15, "{state}: {found}");
        };
        clean("empty").await;
        browser.run("document.getElementById('settings').open = true", vec![]).await;
        ask(browser, Some(PICTURE), QUESTION).await;
        answered(browser, 1).await;
        browser.act(1, "Compare with off").await;
        browser.wait("document.querySelector('.twin p')?.textContent && document.getElementById('stop').hidden").await;
        browser.wait("!document.getElementById('kept').hidden").await;
        clean("compared").await;
        // Screen readers are told the answer.
        assert!(browser.text("#announcement").await.contains("purple"));
        browser.fill("#temperature", "7").await;
        browser.run("document.getElementById('temperature').max = 1000; document.getElementById('temperature').value = 999", vec![]).await;
        ask(browser, None, "What?").await;
        browser.wait("document.querySelector('.note.failed')").await;
        assert!(browser.text("#announcement").await.starts_with("The question failed: temperature 999"));
        clean("failed").await;
        browser.complaints().await;
        browser.run("performance.clearResourceTimings()", vec![]).await;
    })
    .await;
}

/// A model's thought stands folded above its answer, and stays there when the page is loaded again.
#[tokio::test]
async fn thoughts_are_folded() {
    const SCRIPTED: &str = r#"const own = window.fetch;
        window.fetch = (path, options) => {
            if (!String(path).includes('chat/completions')) return own(path, options);
            const say = (delta, finish_reason = null) => `data: ${JSON.stringify({ choices: [{ index: 0, delta, finish_reason }] })}\n\n`;
            return Promise.resolve(new Response([
                say({ reasoning_content: 'I look' }), say({ reasoning_content: ' at it.' }), say({ content: 'A **cat**.' }),
                say({}, 'stop'), 'data: [DONE]\n\n'].join('')));
        }"#;
    on_page("thought", async |browser| {
        browser.run(SCRIPTED, vec![]).await;
        ask(browser, None, QUESTION).await;
        assert!(answered(browser, 1).await.contains("A cat."));
        for _ in 0..2 {
            browser.wait("document.querySelector('.thought')").await;
            assert_eq!(browser.text(".thought p").await, "I look at it.");
            assert_eq!(browser.run("return document.querySelector('.thought').open", vec![]).await, false);
            browser.click(".thought summary").await;
            browser.wait("document.querySelector('.thought').open").await;
            browser.reload().await;
        }
    })
    .await;
}
