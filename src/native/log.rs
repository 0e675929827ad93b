//! Log lines of ggml, llama and the vision part, sent to `tracing`.

use std::ffi::{c_char, c_void};
use std::sync::Mutex;

use llama_cpp_sys_2 as sys;

/// The library writes lines in pieces and from several threads.
struct Lines {
    partial: String,
    level: sys::ggml_log_level,
    last_error: Option<String>,
}

static LINES: Mutex<Lines> =
    Mutex::new(Lines { partial: String::new(), level: sys::GGML_LOG_LEVEL_INFO, last_error: None });

pub(super) fn install() {
    // SAFETY: `receive` lives for the whole program and takes no user data.
    unsafe { sys::illava_log_set(Some(receive), std::ptr::null_mut()) };
}

/// Forgets the last error, so that [`last_error`] tells of what follows.
pub(super) fn clear_error() {
    if let Ok(mut lines) = LINES.lock() {
        lines.last_error = None;
    }
}

/// The last line the library logged as an error: where a call only says that it failed, this
/// says why.
pub(super) fn last_error() -> Option<String> {
    LINES.lock().ok()?.last_error.clone()
}

unsafe extern "C" fn receive(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    // SAFETY: the library passes a zero-terminated string that is valid during the call.
    let text = unsafe { super::owned(text) };
    let Ok(mut lines) = LINES.lock() else { return };
    if level != sys::GGML_LOG_LEVEL_CONT && level != sys::GGML_LOG_LEVEL_NONE {
        lines.level = level;
    }
    lines.partial.push_str(&text);
    while let Some(end) = lines.partial.find('\n') {
        let line: String = lines.partial.drain(..=end).collect();
        let line = line.trim_end();
        if line.is_empty() {
            continue;
        }
        match lines.level {
            sys::GGML_LOG_LEVEL_ERROR => {
                lines.last_error = Some(line.to_owned());
                tracing::error!(target: "llama_cpp", "{line}");
            }
            sys::GGML_LOG_LEVEL_WARN => tracing::warn!(target: "llama_cpp", "{line}"),
            sys::GGML_LOG_LEVEL_INFO => tracing::info!(target: "llama_cpp", "{line}"),
            _ => tracing::debug!(target: "llama_cpp", "{line}"),
        }
    }
}
