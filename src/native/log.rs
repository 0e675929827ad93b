//! Log lines of ggml, llama and the vision part, sent to `tracing`.

use std::cell::RefCell;
use std::ffi::{c_char, c_void};

use llama_cpp_sys_2 as sys;

/// Characters of one line.
const LONGEST: usize = 2000;

/// The library writes lines in pieces, each line on one thread.
struct Lines {
    partial: String,
    level: sys::ggml_log_level,
    /// The first since [`listening`]: what follows an error's reason says less.
    first_error: Option<String>,
}

thread_local! {
    static LINES: RefCell<Lines> = const {
        RefCell::new(Lines { partial: String::new(), level: sys::GGML_LOG_LEVEL_INFO, first_error: None })
    };
}

pub(super) fn install() {
    // SAFETY: `receive` lives for the whole program and takes no user data.
    unsafe { sys::illava_log_set(Some(receive), std::ptr::null_mut()) };
}

/// Calls `library` and returns its result with the first line that it logged as an error on this thread: some calls
/// only say that they failed, and this says why. `None` if it logged none.
pub(super) fn listening<T>(library: impl FnOnce() -> T) -> (T, Option<String>) {
    LINES.with_borrow_mut(|lines| lines.first_error = None);
    let result = library();
    (result, LINES.with_borrow_mut(|lines| lines.first_error.take()))
}

unsafe extern "C" fn receive(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    super::callback::guard(|| {
        // SAFETY: the library passes a zero-terminated string that is valid during the call.
        let text = unsafe { super::owned(text) };
        for (level, line) in complete(level, &text) {
            match level {
                sys::GGML_LOG_LEVEL_ERROR => tracing::error!(target: "llama_cpp", "{line}"),
                sys::GGML_LOG_LEVEL_WARN => tracing::warn!(target: "llama_cpp", "{line}"),
                sys::GGML_LOG_LEVEL_INFO => tracing::info!(target: "llama_cpp", "{line}"),
                _ => tracing::debug!(target: "llama_cpp", "{line}"),
            }
        }
    });
}

/// Adds a piece to what this thread has not ended yet; returns the lines that end with it and their levels.
fn complete(level: sys::ggml_log_level, text: &str) -> Vec<(sys::ggml_log_level, String)> {
    let add = |lines: &mut Lines| {
        if level != sys::GGML_LOG_LEVEL_CONT && level != sys::GGML_LOG_LEVEL_NONE {
            lines.level = level;
        }
        lines.partial.push_str(text);
        let mut ended = Vec::new();
        while let Some(end) = lines.partial.find('\n') {
            let line: String = lines.partial.drain(..=end).collect();
            // The library quotes files and grammars.
            let line = crate::error::printable(line.trim_end(), LONGEST);
            if line.is_empty() {
                continue;
            }
            if lines.level == sys::GGML_LOG_LEVEL_ERROR {
                lines.first_error.get_or_insert_with(|| line.clone());
            }
            ended.push((lines.level, line));
        }
        ended
    };
    // A thread that ends has given its storage back; what it still logs has no reader.
    LINES.try_with(|lines| add(&mut lines.borrow_mut())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::ffi::CString;
    use std::thread;

    use super::*;

    fn log(level: sys::ggml_log_level, text: &str) {
        let text = CString::new(text).unwrap();
        // SAFETY: a zero-terminated string that outlives the call.
        unsafe { receive(level, text.as_ptr(), std::ptr::null_mut()) };
    }

    #[test]
    fn pieces_become_lines() {
        let error = sys::GGML_LOG_LEVEL_ERROR;
        assert!(complete(error, "one ").is_empty());
        assert_eq!(complete(sys::GGML_LOG_LEVEL_CONT, "line\n\nan"), [(error, "one line".to_owned())]);
        assert_eq!(complete(sys::GGML_LOG_LEVEL_WARN, "other\n").len(), 1);
        let ((), reason) = listening(|| log(sys::GGML_LOG_LEVEL_WARN, "no error\n"));
        assert_eq!(reason, None);
    }

    #[test]
    fn an_error_carries_its_own_threads_reason() {
        thread::scope(|scope| {
            for name in 0..8 {
                scope.spawn(move || {
                    for i in 0..2000 {
                        let text = format!("thread {name}, error {i}");
                        let ((), reason) = listening(|| {
                            log(sys::GGML_LOG_LEVEL_ERROR, &format!("{text}\n"));
                            thread::yield_now();
                            log(sys::GGML_LOG_LEVEL_ERROR, "failed to load\n");
                        });
                        assert_eq!(reason, Some(text));
                    }
                });
            }
        });
    }
}
