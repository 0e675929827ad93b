//! Conversations under chat templates as models are published with, against transformers: the same token ids.
//!
//! tests/fixtures/templates.json holds templates, conversations and ids with the script that made them; the vocabularies
//! are those of tools/test-models.sh's pairs.

use std::path::{Path, PathBuf};

use illava::answer::{Engine, LlamaEngine};
use illava::native::Weights;
use illava::pair::{FlashAttention, KvType, LoadSettings};
use illava::prompt::{Chunk, Message, Part, Role};
use illava::stop::Stop;
use serde::Deserialize;

#[derive(Deserialize)]
struct Index {
    templates: Vec<Source>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Source {
    name: String,
    family: String,
    source: String,
}

#[derive(Deserialize)]
struct Case {
    template: String,
    name: String,
    messages: Vec<Turn>,
    /// Null for a picture; none if transformers refuses the conversation.
    ids: Option<Vec<Option<i32>>>,
}

#[derive(Deserialize)]
struct Turn {
    role: String,
    /// `image`, or a text.
    parts: Vec<String>,
}

fn index() -> Index {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/templates.json");
    let text = std::fs::read_to_string(path).expect("the index is committed");
    serde_json::from_str(&text).expect("the index is valid")
}

fn engine(family: &str, template: &str) -> LlamaEngine {
    let models = std::env::var_os("ILLAVA_TEST_MODELS")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-models"), PathBuf::from);
    let folder = models.join(format!("hf-{family}-f32"));
    assert!(folder.exists(), "{} is missing: run tools/test-models.sh", folder.display());
    let f16 = KvType::named("f16").expect("a cache type");
    let settings = LoadSettings {
        text: folder.join("text.gguf"),
        projector: Some(folder.join("mmproj.gguf")),
        threads: 1,
        threads_batch: 1,
        batch: 64,
        ubatch: 64,
        gpu_layers: Some(0),
        placement: illava::pair::Placement::default(),
        projector_offload: false,
        projector_repack: false,
        weights: Weights::default(),
        flash_attention: FlashAttention::Off,
        type_k: f16,
        type_v: f16,
        image_min_tokens: None,
        image_max_tokens: None,
        crop_model: None,
        chat_template: Some(template.to_owned()),
        stop: Stop::new(),
    };
    LlamaEngine::load(&settings, |_| ()).expect("the pair loads").0
}

fn role(name: &str) -> Role {
    let roles = [Role::System, Role::User, Role::Assistant];
    roles.into_iter().find(|role| role.name() == name).expect("a role")
}

fn messages(case: &Case) -> Vec<Message> {
    let mut pictures = 0..;
    let mut part = |text: &String| match text.as_str() {
        "image" => Part::Image(pictures.next().expect("endless")),
        text => Part::Text(text.to_owned()),
    };
    case.messages
        .iter()
        .map(|turn| Message { role: role(&turn.role), parts: turn.parts.iter().map(&mut part).collect() })
        .collect()
}

#[test]
fn conversations_have_the_token_ids_of_transformers() {
    let index = index();
    let mut compared = 0;
    for source in &index.templates {
        let engine = engine(&source.family, &source.source);
        for case in index.cases.iter().filter(|case| case.template == source.name) {
            let what = format!("{} {}", source.name, case.name);
            let chunks = engine.tokenize(&messages(case));
            let Some(ids) = &case.ids else {
                // A system text that the template has no place for stands in the user's turn.
                match case.messages[0].role.as_str() {
                    "system" => {
                        let mut turns = messages(case);
                        let mut head = turns.remove(0).parts;
                        head.push(Part::Text("\n\n".into()));
                        turns[0].parts.splice(0..0, head);
                        let folded = engine.tokenize(&turns).expect("no system text is left");
                        assert_eq!(format!("{:?}", chunks.expect(&what)), format!("{folded:?}"), "{what}");
                    }
                    _ => assert!(chunks.is_err(), "{what}: transformers refuses it"),
                }
                continue;
            };
            let found: Vec<Option<i32>> = chunks
                .unwrap_or_else(|error| panic!("{what}: {error}"))
                .into_iter()
                .flat_map(|chunk| match chunk {
                    Chunk::Tokens(tokens) => tokens.into_iter().map(Some).collect(),
                    Chunk::Image(_) => vec![None],
                })
                .collect();
            assert_eq!(&found, ids, "{what}");
            compared += 1;
        }
    }
    assert!(compared >= 140, "only {compared} conversations");
}
