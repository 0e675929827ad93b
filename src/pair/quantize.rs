//! A text model in a smaller type: which types there are, and which files can be quantised.

use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};
use crate::native::{Gguf, is_same_file, quantize as by_library};

/// Names of the mixes, and what `general.file_type` says for each.
const TYPES: [(&str, u32); 19] = [
    ("F32", 0),
    ("F16", 1),
    ("BF16", 32),
    ("Q8_0", 7),
    ("Q6_K", 18),
    ("Q5_K_M", 17),
    ("Q5_K_S", 16),
    ("Q5_1", 9),
    ("Q5_0", 8),
    ("Q4_K_M", 15),
    ("Q4_K_S", 14),
    ("Q4_1", 3),
    ("Q4_0", 2),
    ("IQ4_NL", 25),
    ("IQ4_XS", 30),
    ("Q3_K_L", 13),
    ("Q3_K_M", 12),
    ("Q3_K_S", 11),
    ("Q2_K", 10),
];

/// Writes the text model at `input` to `output` in the type `mix`, by llama.cpp's quantiser. `threads` of 0 takes one
/// for each processor. The file has its name only once it is whole.
///
/// # Errors
/// [`Kind::Usage`] for an unknown type, [`Kind::File`] for files that cannot be read or written.
pub fn quantize(input: &Path, output: &Path, mix: &str, threads: u32) -> Result<()> {
    let Some((_, file_type)) = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(mix)) else {
        let known: Vec<&str> = TYPES.iter().map(|(known, _)| *known).collect();
        return Err(Error::usage(format!("type {} is not known; {} are", mix, known.join(", "))));
    };
    check(input)?;
    let mut part = output.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    for written in [output, &part] {
        if is_same_file(input, written) {
            return Err(Error::usage(format!(
                "{} is both the file to read and the file to write; give another name for the second",
                input.display()
            )));
        }
    }
    // The library's own error for a place that cannot be written names no cause.
    std::fs::File::create(&part).map_err(|error| {
        Error::new(Kind::File, format!("{}: cannot be written ({error})", output.display()))
    })?;
    let written = by_library(input, &part, *file_type, threads).and_then(|()| {
        std::fs::rename(&part, output)
            .map_err(|error| Error::new(Kind::File, format!("{}: {error}", output.display())))
    });
    if written.is_err() {
        let _ = std::fs::remove_file(&part);
    }
    written
}

/// A text model whose weights are as they were trained, or nearly.
fn check(input: &Path) -> Result<()> {
    let file = Gguf::open(input)?;
    let refused = |what: String| Error::new(Kind::File, format!("{}: {what}", input.display()));
    if file.string("general.architecture").as_deref() == Some("clip") {
        return Err(refused(
            "is an image projector, which this does not quantise; the converter chooses its type".to_owned(),
        ));
    }
    let coarse = file.types().into_iter().find(|share| !is_fine(&share.name));
    match coarse {
        Some(share) => Err(refused(format!(
            "has weights in {} already, and quantising them again would add up the errors; give the file in F16, BF16 or Q8_0",
            share.name
        ))),
        None => Ok(()),
    }
}

/// Whether weights of that tensor type may be quantised once more: llama.cpp takes what is no block type, and Q8_0,
/// whose error is a fraction of every other's.
fn is_fine(name: &str) -> bool {
    ["f32", "f16", "bf16", "q8_0"].iter().any(|fine| name.eq_ignore_ascii_case(fine))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for (name, fine) in
            [("F16", true), ("bf16", true), ("q8_0", true), ("Q4_K", false), ("iq4_nl", false)]
        {
            assert_eq!(is_fine(name), fine, "{name}");
        }
        let mut numbers: Vec<u32> = TYPES.iter().map(|(_, number)| *number).collect();
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers.len(), TYPES.len());
    }

    #[test]
    fn refusals() {
        for (mix, kind, part) in
            [("Q9", Kind::Usage, "type Q9 is not known; F32, F16"), ("q4_0", Kind::File, "nothing.gguf")]
        {
            let error = quantize(Path::new("nothing.gguf"), Path::new("out.gguf"), mix, 1).unwrap_err();
            assert_eq!(error.kind(), kind);
            assert!(error.to_string().contains(part), "{error}");
        }
    }
}
