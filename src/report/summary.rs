//! Report in three lines.

use super::{Report, quantity};

/// Writes tokens, times and memory of an answer, a line each.
#[must_use]
pub fn summary(report: &Report) -> [String; 3] {
    let Report { tokens, ms, tokens_per_second, bytes, .. } = report;
    let mut visual = vec![tokens.visual, tokens.visual_after_encoder];
    visual.extend(tokens.visual_kv.iter().map(|range| range.tokens));
    visual.dedup();
    let visual: Vec<String> = visual.iter().map(u32::to_string).collect();
    let rows = tokens.text + tokens.visual_after_encoder;
    [
        format!(
            "tokens: visual {}, text {}, generated {}",
            visual.join(" > "),
            tokens.text,
            tokens.generated
        ),
        format!(
            "encoder {:.0} ms; prompt of {rows} tokens {:.0} ms, {:.0} a second; first token after {:.0} ms, then {:.1} a second",
            ms.encoder + ms.projector,
            ms.prefill,
            tokens_per_second.prefill,
            ms.first_token,
            tokens_per_second.generate
        ),
        format!(
            "KV cache {} ({} without merging), compute buffers {}, weights {}; {}, {} threads, kernels {}",
            amount(bytes.kv),
            amount(bytes.kv_without_merge),
            amount(bytes.compute),
            amount(bytes.weights),
            report.backend,
            report.threads,
            report.kernels
        ),
    ]
}

#[allow(clippy::cast_precision_loss)]
fn amount(bytes: u64) -> String {
    quantity(bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Bytes, Milliseconds, Rates, Tokens, VisualKv, tests::example};

    #[test]
    fn three_lines() {
        let kv = |layers, tokens| VisualKv { layers, tokens };
        let report = Report {
            tokens: Tokens {
                text: 34,
                visual: 729,
                visual_after_encoder: 361,
                visual_kv: vec![kv([0, 2], 361), kv([2, 24], 253)],
                generated: 12,
            },
            ms: Milliseconds {
                encoder: 810.0,
                projector: 2.4,
                prefill: 300.0,
                first_token: 1150.0,
                ..Milliseconds::default()
            },
            tokens_per_second: Rates { prefill: 1316.67, generate: 41.26 },
            bytes: Bytes {
                kv: 15 << 20,
                kv_without_merge: 40 << 20,
                compute: 512 << 20,
                weights: 1 << 30,
                peak_rss: None,
            },
            backend: "CPU".into(),
            threads: 2,
            ..example()
        };
        assert_eq!(
            summary(&report),
            [
                "tokens: visual 729 > 361 > 253, text 34, generated 12",
                "encoder 812 ms; prompt of 395 tokens 300 ms, 1317 a second; first token after 1150 ms, then 41.3 a second",
                "KV cache 15.0 MiB (40.0 MiB without merging), compute buffers 512.0 MiB, weights 1.0 GiB; CPU, 2 threads, kernels stock",
            ]
        );
    }
}
