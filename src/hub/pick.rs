//! Which files of a repository make a model: names only, no network.
//!
//! The conventions are those of llama.cpp's `-hf`: a quantisation stands in the file's name (or its folder's)
//! between separators; a large model comes as shards `-00001-of-0000N`; the image projector is a sibling with
//! `mmproj` in its name.

use std::path::Path;

/// Choice of a text model.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wanted<'a> {
    /// Quantisation, in any case of letters. Without it: `Q4_K_M`, then `Q8_0`, then the first model there
    /// is.
    pub quant: Option<&'a str>,
    /// Exact path of the text model.
    pub file: Option<&'a str>,
    pub mmproj: bool,
}

/// Positions of the files in the list of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picked {
    /// Text model: one file, or all its shards in order.
    pub text: Vec<usize>,
    pub mmproj: Option<usize>,
}

/// Chooses among `names`, paths with `/` relative to the repository.
///
/// # Errors
/// The rest of a sentence that begins with the place looked in: the missing file, and the files there are.
pub fn pick(names: &[&str], wanted: Wanted<'_>) -> Result<Picked, String> {
    let models: Vec<usize> = (0..names.len()).filter(|&i| is_model(names[i])).collect();
    let first = match wanted.file {
        Some(file) => names.iter().position(|name| *name == file).ok_or_else(|| {
            format!("has no file {file}; it has {}", sample(names.iter().copied().filter(|n| is_gguf(n))))
        })?,
        None => by_quant(names, &models, wanted.quant)?,
    };
    let text = shards(names, first)?;
    let mmproj = match wanted.mmproj {
        true => Some(mmproj(names, names[first]).ok_or_else(|| {
            "has no image projector (a GGUF file with mmproj in its name); give one beside it".to_owned()
        })?),
        false => None,
    };
    Ok(Picked { text, mmproj })
}

fn by_quant(names: &[&str], models: &[usize], quant: Option<&str>) -> Result<usize, String> {
    if models.is_empty() {
        return Err("has no GGUF text model; look for a repository with GGUF files".to_owned());
    }
    let starts: Vec<usize> =
        models.iter().copied().filter(|&i| shard(names[i]).is_none_or(|shard| shard.index == 1)).collect();
    let tagged = |quant: &str| starts.iter().copied().find(|&i| has_quant(names[i], quant));
    match quant {
        Some(quant) => tagged(quant).ok_or_else(|| {
            format!("has no {quant} model; it has {}", sample(models.iter().map(|&i| names[i])))
        }),
        None => tagged("Q4_K_M")
            .or_else(|| tagged("Q8_0"))
            .or(starts.first().copied())
            .ok_or_else(|| format!("lacks the first shard of {}", names[models[0]])),
    }
}

/// Lists some of the names, for a message.
fn sample<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.collect();
    match names.len() {
        0 => "no GGUF files".to_owned(),
        1..=12 => names.join(", "),
        n => format!("{} and {} more", names[..12].join(", "), n - 12),
    }
}

fn is_gguf(path: &str) -> bool {
    Path::new(path).extension().is_some_and(|end| end.eq_ignore_ascii_case("gguf"))
}

fn file_name(path: &str) -> String {
    path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase()
}

fn is_mmproj(path: &str) -> bool {
    is_gguf(path) && file_name(path).contains("mmproj")
}

/// Whether the name is a text model's, not a projector's, calibration data's or a draft model's.
fn is_model(path: &str) -> bool {
    let name = file_name(path);
    is_gguf(path)
        && !["mmproj", "imatrix", "mtp-", "eagle3-", "dflash-", "dspark-"]
            .iter()
            .any(|part| name.contains(part))
}

/// Whether `quant` stands in `path` as a word of its own, so that F16 is not found in BF16.
fn has_quant(path: &str, quant: &str) -> bool {
    let (path, quant) = (path.to_ascii_lowercase(), quant.to_ascii_lowercase());
    path.match_indices(&quant).any(|(at, _)| {
        let before = path[..at].chars().next_back();
        let after = path[at + quant.len()..].chars().next();
        before.is_none_or(|c| matches!(c, '-' | '.' | '_' | '/'))
            && after.is_some_and(|c| matches!(c, '-' | '.' | '/'))
    })
}

struct Shard<'a> {
    prefix: &'a str,
    index: u32,
    count: u32,
}

/// Reads `prefix-00002-of-00005.gguf`.
fn shard(path: &str) -> Option<Shard<'_>> {
    let (rest, count) = path.strip_suffix(".gguf")?.rsplit_once("-of-")?;
    let (prefix, index) = rest.rsplit_once('-')?;
    let number =
        |text: &str| if text.len() == 5 { text.parse::<u32>().ok().filter(|n| *n > 0) } else { None };
    Some(Shard { prefix, index: number(index)?, count: number(count)? })
}

fn shards(names: &[&str], first: usize) -> Result<Vec<usize>, String> {
    let Some(begin) = shard(names[first]) else { return Ok(vec![first]) };
    if begin.index != 1 {
        return Err(format!(
            "has {} as shard {} of {}; name the first one, -00001-of-{:05}",
            names[first], begin.index, begin.count, begin.count
        ));
    }
    (1..=begin.count)
        .map(|index| {
            let name = format!("{}-{index:05}-of-{:05}.gguf", begin.prefix, begin.count);
            names.iter().position(|other| *other == name).ok_or_else(|| format!("lacks the shard {name}"))
        })
        .collect()
}

/// Finds the projector for the text model at `model`: in its folder or one above before any other, then named most
/// alike, then nearest in bits. Names tell the sizes of a model apart.
fn mmproj(names: &[&str], model: &str) -> Option<usize> {
    let folders = |path: &str| -> Vec<String> {
        let mut parts: Vec<String> = path.split('/').map(str::to_owned).collect();
        parts.pop();
        parts
    };
    let home = folders(model);
    let near = |path: &str| {
        let place = folders(path);
        home.starts_with(&place).then_some(place.len())
    };
    (0..names.len()).filter(|&i| is_mmproj(names[i])).min_by_key(|&i| {
        let away = near(names[i]).map_or(usize::MAX, |depth| home.len() - depth);
        // If two types have as many bits, F16 is chosen: every processor has instructions for it.
        let other = std::cmp::Reverse(words_in_common(model, names[i]));
        (away, other, bits(names[i]).abs_diff(bits(model)), has_quant(names[i], "BF16"), i)
    })
}

/// Words of the text model's name, types apart, that stand in the projector's.
fn words_in_common(model: &str, projector: &str) -> usize {
    let words =
        |path: &str| -> Vec<String> { file_name(path).split(['-', '.', '_']).map(str::to_owned).collect() };
    let projector = words(projector);
    words(model).iter().filter(|word| type_bits(word).is_none() && projector.contains(word)).count()
}

/// Returns the bits of a weight by the name: 4 of `Q4_K_M`, 16 of `f16`; 0 if it tells none.
fn bits(path: &str) -> u32 {
    file_name(path).split(['-', '.']).rev().find_map(type_bits).unwrap_or(0)
}

/// Bits of a weight of the type that a word of a name is, if it is one.
fn type_bits(word: &str) -> Option<u32> {
    let digits = ["iq", "tq", "q", "bf", "mxfp", "nvfp", "fp", "int", "f"]
        .iter()
        .find_map(|kind| word.strip_prefix(kind))?;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse::<u32>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN: [&str; 6] = [
        ".gitattributes",
        "Qwen2-VL-2B-Instruct-Q4_K_M.gguf",
        "Qwen2-VL-2B-Instruct-Q8_0.gguf",
        "Qwen2-VL-2B-Instruct-f16.gguf",
        "mmproj-Qwen2-VL-2B-Instruct-Q8_0.gguf",
        "mmproj-Qwen2-VL-2B-Instruct-f16.gguf",
    ];
    const LLAVA: [&str; 4] = [
        "README.md",
        "llava-v1.6-mistral-7b.Q3_K_XS.gguf",
        "llava-v1.6-mistral-7b.Q5_K_M.gguf",
        "mmproj-model-f16.gguf",
    ];
    const SHARDS: [&str; 9] = [
        "BF16/m-BF16-00001-of-00002.gguf",
        "BF16/m-BF16-00002-of-00002.gguf",
        "F16/m-00001-of-00001.gguf",
        "IQ4_XS/m-IQ4_XS-00002-of-00003.gguf",
        "UD-Q2_K_XL/m-00001-of-00002.gguf",
        "UD-Q2_K_XL/m-00002-of-00002.gguf",
        "UD-Q2_K_XL/mmproj-F32.gguf",
        "imatrix.gguf",
        "m.mmproj-BF16.gguf",
    ];

    fn names(files: &[&str], wanted: Wanted<'_>) -> Result<Vec<String>, String> {
        let picked = pick(files, wanted)?;
        Ok(picked.text.iter().chain(&picked.mmproj).map(|&i| files[i].to_owned()).collect())
    }

    #[test]
    fn by_convention() {
        let quant = |quant| Wanted { quant: Some(quant), mmproj: true, ..Wanted::default() };
        let file = |file| Wanted { file: Some(file), mmproj: true, ..Wanted::default() };
        let any = Wanted { mmproj: true, ..Wanted::default() };
        let cases: [(&[&str], Wanted<'_>, &[&str]); 11] = [
            // Q4 to Q8 is nearer than to f16.
            (&QWEN, any, &[QWEN[1], QWEN[4]]),
            (&QWEN, quant("q8_0"), &[QWEN[2], QWEN[4]]),
            (&QWEN, quant("F16"), &[QWEN[3], QWEN[5]]),
            (&QWEN, file(QWEN[3]), &[QWEN[3], QWEN[5]]),
            (&QWEN, Wanted::default(), &[QWEN[1]]),
            (&QWEN[2..], any, &[QWEN[2], QWEN[4]]),
            // No Q4_K_M and no Q8_0: the first.
            (&LLAVA, any, &[LLAVA[1], LLAVA[3]]),
            (&LLAVA, quant("Q5_K_M"), &[LLAVA[2], LLAVA[3]]),
            (&SHARDS, quant("BF16"), &[SHARDS[0], SHARDS[1], SHARDS[8]]),
            // F16 is not found in BF16; a quantisation may be the folder's name; a nearer folder wins over bits.
            (&SHARDS, quant("F16"), &[SHARDS[2], SHARDS[8]]),
            (&SHARDS, quant("Q2_K_XL"), &[SHARDS[4], SHARDS[5], SHARDS[6]]),
        ];
        for (files, wanted, expected) in cases {
            assert_eq!(names(files, wanted).unwrap(), expected, "{wanted:?}");
        }
    }

    /// Files of a repository as its publisher names and arranges them, and what is picked.
    #[derive(serde::Deserialize)]
    struct Repository {
        publisher: String,
        /// Words of docs/converting.md.
        family: String,
        files: Vec<String>,
        quant: Option<String>,
        text: String,
        projector: String,
    }

    fn repositories() -> Vec<Repository> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/repositories.json");
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    #[test]
    fn usual_repositories() {
        for one in repositories() {
            let files: Vec<&str> = one.files.iter().map(String::as_str).collect();
            let wanted = Wanted { quant: one.quant.as_deref(), mmproj: true, ..Wanted::default() };
            let picked = pick(&files, wanted).unwrap();
            let picked = (files[picked.text[0]], picked.mmproj.map(|i| files[i]));
            let expected = (one.text.as_str(), Some(one.projector.as_str()));
            assert_eq!(picked, expected, "{}, {}, {:?}", one.publisher, one.family, one.quant);
        }
    }

    /// Every publisher that the page names for a family has an arrangement that is tested.
    #[test]
    fn the_page_names_tested_repositories() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/converting.md");
        let page = std::fs::read_to_string(path).unwrap();
        let tested: Vec<(String, String)> =
            repositories().into_iter().map(|one| (one.publisher, one.family)).collect();
        let mut named = 0;
        for line in page.lines().filter(|line| line.contains("`-hf` with a repository of")) {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            for publisher in ["ggml-org", "unsloth", "bartowski", "lmstudio-community"] {
                if cells[1].contains(publisher) {
                    let pair = (publisher.to_owned(), cells[0].to_owned());
                    assert!(tested.contains(&pair), "{pair:?} has no arrangement in the fixture");
                    named += 1;
                }
            }
        }
        assert!(named > 10, "the page names {named} publishers");
    }

    #[test]
    fn of_equal_bits_f16() {
        let files = ["m-Q4_0.gguf", "mmproj-BF16.gguf", "mmproj-F16.gguf"];
        assert_eq!(pick(&files, Wanted { mmproj: true, ..Wanted::default() }).unwrap().mmproj, Some(2));
    }

    #[test]
    fn what_is_missing_is_said() {
        let any = Wanted { mmproj: true, ..Wanted::default() };
        let cases: [(&[&str], Wanted<'_>, &str); 7] = [
            (&["a.safetensors"], any, "no GGUF text model"),
            (&["mmproj-a.gguf"], any, "no GGUF text model"),
            (&["a-Q4_K_M.gguf"], any, "no image projector"),
            (
                &QWEN,
                Wanted { quant: Some("Q6_K"), ..any },
                "no Q6_K model; it has Qwen2-VL-2B-Instruct-Q4_K_M.gguf",
            ),
            (&QWEN, Wanted { file: Some("x.gguf"), ..any }, "no file x.gguf; it has"),
            (
                &["m-00001-of-00003.gguf", "m-00003-of-00003.gguf"],
                any,
                "lacks the shard m-00002-of-00003.gguf",
            ),
            (
                &["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"],
                Wanted { file: Some("m-00002-of-00002.gguf"), ..any },
                "name the first",
            ),
        ];
        for (files, wanted, part) in cases {
            let reason = names(files, wanted).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn bits_of_names() {
        for (name, expected) in [
            ("a/llava-v1.6-mistral-7b.Q3_K_XS.gguf", 3),
            ("mmproj-model-f16.gguf", 16),
            ("m-IQ4_XS-00001-of-00002.gguf", 4),
            ("mmproj-BF16.gguf", 16),
            ("model-fp8.gguf", 8),
            ("model.gguf", 0),
        ] {
            assert_eq!(bits(name), expected, "{name}");
        }
    }
}
