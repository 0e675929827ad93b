//! Slots that are erased, saved and restored, on a scripted worker.

use illava::server::Settings;
use serde_json::json;

use super::inprocess::{serve, settings};
use super::peer::Peer;

#[test]
fn erasing_saving_and_restoring() {
    let server = serve(settings(), Peer::default());
    assert_eq!(
        server.post("/slots/0?action=erase", &json!({})).json(),
        json!({ "id_slot": 0, "n_erased": 12 })
    );
    server.post("/slots/1?action=erase", &json!({})).fails(503, "answering");
    server.post("/slots/9?action=erase", &json!({})).fails(400, "from 0 to 1");
    server.post("/slots/0?action=save", &json!({ "filename": "a" })).fails(501, "--slot-save-path");
    let saving = serve(Settings { slots: false, saves_slots: true, ..settings() }, Peer::default());
    let saved = saving.post("/slots/0?action=save", &json!({ "filename": "a.bin" })).json();
    assert!(saved["timings"]["save_ms"].is_number(), "{saved}");
    assert_eq!(
        (&saved["id_slot"], &saved["filename"], &saved["n_saved"], &saved["n_written"]),
        (&json!(0), &json!("a.bin"), &json!(12), &json!(345))
    );
    let restored = saving.post("/slots/1?action=restore", &json!({ "filename": "a.bin" })).json();
    assert_eq!((&restored["n_restored"], &restored["n_read"]), (&json!(12), &json!(345)));
    saving.post("/slots/0?action=restore", &json!({ "filename": "missing" })).fails(400, "no such file");
    saving.post("/slots/0?action=save", &json!({})).fails(400, "filename");
    for name in [
        "",
        ".",
        "..",
        "../a",
        "/etc/passwd",
        "a/b",
        "a\\b",
        ".hidden",
        "a\nb",
        "a:b",
        "a ",
        &"a".repeat(201),
    ] {
        saving.post("/slots/0?action=save", &json!({ "filename": name })).fails(400, "filename");
    }
    server.post("/slots/0", &json!({})).fails(400, "action");
}
