//! Writes a GGUF text model in another type, with the arguments of llama.cpp's own program:
//! `quantize IN OUT TYPE [THREADS]`. tools/convert.py calls it for types it does not make itself.

use std::path::Path;
use std::process::ExitCode;

use illava::native::quantize;

/// Names of mixes and what `general.file_type` says for them.
const TYPES: [(&str, u32); 19] = [
    ("F32", 0),
    ("F16", 1),
    ("Q4_0", 2),
    ("Q4_1", 3),
    ("Q8_0", 7),
    ("Q5_0", 8),
    ("Q5_1", 9),
    ("Q2_K", 10),
    ("Q3_K_S", 11),
    ("Q3_K_M", 12),
    ("Q3_K_L", 13),
    ("Q4_K_S", 14),
    ("Q4_K_M", 15),
    ("Q5_K_S", 16),
    ("Q5_K_M", 17),
    ("Q6_K", 18),
    ("IQ4_NL", 25),
    ("IQ4_XS", 30),
    ("BF16", 32),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err((code, line)) => {
            eprintln!("quantize: {line}");
            ExitCode::from(code)
        }
    }
}

fn run(arguments: &[String]) -> Result<(), (u8, String)> {
    let [input, output, name, rest @ ..] = arguments else {
        return Err((2, "usage: quantize IN OUT TYPE [THREADS]".into()));
    };
    let Some((_, file_type)) = TYPES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) else {
        let known: Vec<&str> = TYPES.iter().map(|(known, _)| *known).collect();
        return Err((2, format!("type {name} is not known; {} are", known.join(", "))));
    };
    let threads = match rest {
        [] => 0,
        [count] => count.parse().map_err(|_| (2, format!("{count} is no number of threads")))?,
        _ => return Err((2, "usage: quantize IN OUT TYPE [THREADS]".into())),
    };
    quantize(Path::new(input), Path::new(output), *file_type, threads).map_err(|error| (1, error.to_string()))
}
