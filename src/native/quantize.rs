//! llama.cpp's quantiser: a GGUF text model to a smaller one.

use std::path::Path;

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Kind, Result};

/// Bytes of rows kept in memory; the library's own limit is 8 GiB.
const BUFFER: usize = 256 << 20;

/// Writes the text model at `input` to `output` in the mix `file_type` (a `general.file_type`).
///
/// `threads` of 0 takes one for each processor.
///
/// # Errors
/// [`Kind::File`] with the library's reason; a file at `output` is then not whole. [`Kind::Usage`] if it is the input,
/// which the library maps while it writes.
pub fn quantize(input: &Path, output: &Path, file_type: u32, threads: u32) -> Result<()> {
    super::file::regular(input)?;
    if super::file::is_same(input, output) {
        return Err(Error::usage(format!(
            "{} is both the file to read and the file to write; give another name for the second",
            input.display()
        )));
    }
    super::backend()?;
    let (from, to) = (super::c_path(input)?, super::c_path(output)?);
    // SAFETY: takes nothing, returns plain values.
    let mut params = unsafe { sys::llama_model_quantize_default_params() };
    params.ftype = sys::llama_ftype::try_from(file_type)
        .map_err(|_| Error::new(Kind::File, format!("{file_type} is no file type")))?;
    params.nthread = i32::try_from(threads).unwrap_or(0);
    params.max_buf_size = BUFFER;
    let (status, reason) = super::log::listening(|| {
        // SAFETY: both strings end in zero and live during the call; `params` holds no pointers; the
        // function catches what its C++ side throws.
        unsafe { sys::llama_model_quantize(from.as_ptr(), to.as_ptr(), &raw const params) }
    });
    super::callback::resume();
    if status == 0 {
        return Ok(());
    }
    let reason = reason.unwrap_or_else(|| "llama.cpp gives no reason".into());
    Err(Error::new(Kind::File, format!("{}: cannot be quantised ({reason})", input.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_no_model_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let (input, output) = (folder.path().join("in.gguf"), folder.path().join("out.gguf"));
        std::fs::write(&input, b"no model").unwrap();
        let error = quantize(&input, &output, 2, 1).unwrap_err();
        assert_eq!(error.kind(), Kind::File);
        assert!(error.to_string().contains("in.gguf"), "{error}");
    }
}
