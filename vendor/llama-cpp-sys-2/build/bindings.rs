//! Rust declarations of the C API, for exactly what is used.

use std::panic;
use std::path::Path;

use crate::{Config, Failure};

const LIBCLANG: &str = "apt-get install libclang-dev (Debian, Ubuntu) or brew install llvm (macOS), \
                        or set LIBCLANG_PATH to its directory";

/// The items of ggml.h and ggml-backend.h that llama-cpp-2 and illava use. All of `llama_*`,
/// `gguf_*` and `illava_*` is bound beside them.
const GGML: &[&str] = &[
    "ggml_type",
    "ggml_log_level",
    "ggml_log_callback",
    "ggml_log_set",
    "ggml_numa_strategy",
    "ggml_abort_callback",
    "ggml_time_us",
    "ggml_type_name",
    "ggml_type_size",
    "ggml_blck_size",
    "ggml_row_size",
    "ggml_context",
    "ggml_init",
    "ggml_init_params",
    "ggml_free",
    "ggml_tensor",
    "ggml_op",
    "ggml_backend_buffer",
    "ggml_backend_buffer_type",
    "ggml_backend_buffer_type_t",
    "ggml_backend_cpu_buffer_type",
    "ggml_backend_device",
    "ggml_backend_dev_t",
    "ggml_backend_dev_type",
    "ggml_backend_dev_caps",
    "ggml_backend_dev_props",
    "ggml_backend_dev_count",
    "ggml_backend_dev_get",
    "ggml_backend_dev_get_props",
    "ggml_backend_dev_name",
    "ggml_backend_dev_description",
    "ggml_backend_dev_backend_reg",
    "ggml_backend_reg",
    "ggml_backend_reg_t",
    "ggml_backend_reg_name",
    "ggml_backend_sched",
    "ggml_backend_sched_t",
    "ggml_backend_sched_eval_callback",
    "ggml_cgraph",
    "ggml_opt_.*",
    "ggml_threadpool",
    "ggml_threadpool_t",
    "ggml_backend_load_all_from_path",
];

/// Writes `bindings.rs` to the output directory.
pub fn generate(config: &Config, source: &Path) -> Result<(), Failure> {
    let include = source.join("include");
    let mut builder = bindgen::Builder::default()
        .header(include.join("llama.h").display().to_string())
        .header(source.join("ggml/include/gguf.h").display().to_string());
    let ours = include.join("illava.h");
    if ours.exists() {
        builder = builder.header(ours.display().to_string());
    }
    for item in GGML {
        builder = builder.allowlist_item(item);
    }
    let bindings = builder
        .clang_arg(format!("-I{}", include.display()))
        .clang_arg(format!("-I{}", source.join("ggml/include").display()))
        .allowlist_item("(llama|gguf|illava)_.*")
        .allowlist_item("(LLAMA|GGML|GGUF|ILLAVA)_.*")
        // What the list leaves out is an error here, not a type nobody chose to bind.
        .allowlist_recursively(false)
        .raw_line("type FILE = ::std::os::raw::c_void;")
        // llama-cpp-2 expects both.
        .derive_partialeq(true)
        .prepend_enum_name(false)
        .generate()
        .map_err(|error| Failure(format!("no bindings ({}): {LIBCLANG}", one_line(&error.to_string()))))?;
    let file = config.out_dir.join("bindings.rs");
    bindings.write_to_file(&file).map_err(|e| Failure(format!("{}: {e}", file.display())))
}

/// Checks that libclang is there: where it is not, bindgen panics with many lines.
pub fn require_libclang() -> Result<(), Failure> {
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let loaded = panic::catch_unwind(bindgen::clang_version);
    panic::set_hook(hook);
    match loaded {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure(format!("libclang is not installed: {LIBCLANG}"))),
    }
}

fn one_line(text: &str) -> String {
    text.lines().map(str::trim).filter(|l| !l.is_empty()).collect::<Vec<_>>().join("; ")
}
