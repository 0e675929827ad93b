//! The rows of a prefill: tokens, embeddings and positions, text and pictures mixed.

use crate::schedule::Strategy;
use crate::see::EncodedImage;

/// One item of the sequence as the decoder holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entry {
    Token(i32),
    /// A picture, by its number in the prompt.
    Image(usize),
}

impl Entry {
    /// The picture's number.
    #[must_use]
    pub fn image(&self) -> Option<usize> {
        match self {
            Entry::Image(number) => Some(*number),
            Entry::Token(_) => None,
        }
    }

    /// Positions it takes up.
    fn extent(self, images: &[EncodedImage]) -> i32 {
        match self {
            Entry::Token(_) => 1,
            Entry::Image(number) => images.get(number).map_or(0, |image| image.extent),
        }
    }
}

/// Rows as [`super::Decoder::begin`] takes them.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Rows {
    /// Below 0 if the row is an embedding.
    pub tokens: Vec<i32>,
    /// [rows, n_embd], zero where the row is a token; empty without pictures.
    pub embeddings: Vec<f32>,
    /// [n_pos, rows].
    pub positions: Vec<i32>,
    /// First row, number of rows, tokens removed at each merge layer.
    pub spans: Vec<(usize, usize, Vec<u32>)>,
    /// Numbers of the spans whose rows attend to each other both ways.
    pub two_ways: Vec<usize>,
    /// Strategy that removes them: that of the pictures.
    pub strategy: Strategy,
    /// \[rows\] original tokens that each row stands for; empty: one each.
    pub sizes: Vec<f32>,
    /// Whether attention counts a row as often as its size.
    pub counts_sizes: bool,
    /// \[rows\] 1 for a row that merges last; empty: none.
    pub held: Vec<u8>,
    /// [merge layers] share of the scores that stays there, 0 for the planned number; empty: 0 for all.
    pub masses: Vec<f32>,
    /// \[spans\]\[segments\] rows whose cells go once the prompt is computed; empty: none.
    pub thinned: Vec<Vec<u32>>,
}

impl Rows {
    /// Rows for `entries`, the first of which stands at position `start`.
    ///
    /// Text counts on by one. A span of a model with one position row has each row where it stands in the
    /// unmerged span; with closed positions they stand one after another. M-RoPE has four rows: t, h, w and
    /// one that is 0. There t is the span's first position plus the token's place in time, 0 in a still
    /// picture. h and w are that position plus the token's cell. The next text follows after the largest of
    /// them (Qwen2-VL, section 2.1 of its report). A picture that llama.cpp laid out has marks among its
    /// rows, and its own places.
    #[must_use]
    pub fn new(entries: &[Entry], images: &[EncodedImage], start: i32, n_embd: usize, n_pos: usize) -> Self {
        let mut rows = Self::default();
        // One vector for each of t, h, w and the fourth; models with a single row read t only.
        let mut axes: [Vec<i32>; 4] = Default::default();
        let mut position = start;
        for entry in entries {
            match *entry {
                Entry::Token(token) => {
                    rows.tokens.push(token);
                    axes[..3].iter_mut().for_each(|axis| axis.push(position));
                    axes[3].push(0);
                }
                Entry::Image(number) => {
                    let Some(image) = images.get(number) else { continue };
                    let n = image.plan.tokens as usize;
                    let first = rows.tokens.len();
                    let removed = image.plan.removed_on_the_way();
                    rows.thin(image);
                    if image.layout.is_empty() {
                        rows.spans.push((first, n, removed));
                        rows.tokens.resize(first + n, -1);
                    } else {
                        for (at, len, removed) in image.layout.spans(&removed) {
                            if image.layout.two_ways {
                                rows.two_ways.push(rows.spans.len());
                            }
                            rows.spans.push((first + at, len, removed));
                        }
                        rows.tokens.extend_from_slice(&image.layout.tokens);
                    }
                    rows.strategy = image.strategy;
                    rows.counts_sizes |= image.counts_sizes;
                    if image.plan.decoder.iter().any(|step| step.mass.is_some()) {
                        #[allow(clippy::cast_possible_truncation)]
                        let mass = |step: &crate::schedule::Step| step.mass.unwrap_or(0.0) as f32;
                        rows.masses = image.plan.decoder.iter().map(mass).collect();
                    }
                    if !image.sizes.is_empty() {
                        rows.sizes.resize(first, 1.0);
                        rows.sizes.extend_from_slice(&image.sizes);
                    }
                    if !image.held.is_empty() {
                        rows.held.resize(first, 0);
                        rows.held.extend_from_slice(&image.held);
                    }
                    rows.embeddings.resize(first * n_embd, 0.0);
                    rows.embeddings.extend_from_slice(&image.embeddings);
                    if n_pos == 1 {
                        axes[0].extend(image.row_positions(position));
                    } else if !image.layout.is_empty() {
                        for &[t, h, w, fourth] in &image.layout.axes {
                            let fourth = if fourth < 0 { 0 } else { position + fourth };
                            for (axis, at) in
                                axes.iter_mut().zip([position + t, position + h, position + w, fourth])
                            {
                                axis.push(at);
                            }
                        }
                    } else {
                        for (i, &(row, column)) in image.cells.iter().enumerate() {
                            axes[0].push(position + image.times.get(i).copied().unwrap_or(0));
                            axes[1].push(position + row);
                            axes[2].push(position + column);
                            axes[3].push(0);
                        }
                    }
                }
            }
            position += entry.extent(images);
        }
        if !rows.sizes.is_empty() {
            rows.sizes.resize(rows.tokens.len(), 1.0);
        }
        if !rows.held.is_empty() {
            rows.held.resize(rows.tokens.len(), 0);
        }
        if !rows.embeddings.is_empty() {
            rows.embeddings.resize(rows.tokens.len() * n_embd, 0.0);
        }
        let [t, h, w, fourth] = axes;
        rows.positions = t;
        if n_pos > 1 {
            rows.positions.extend(h);
            rows.positions.extend(w);
            rows.positions.extend(fourth);
            rows.positions.resize(rows.tokens.len() * n_pos, 0);
        }
        rows
    }

    /// Adds what goes of the cache of each span of `image` after the prompt.
    fn thin(&mut self, image: &EncodedImage) {
        let thinned = image.plan.thinned();
        if thinned.is_empty() || image.layout.is_empty() {
            self.thinned.extend((!thinned.is_empty()).then_some(thinned));
            return;
        }
        let of_segment = |&gone: &u32| image.layout.spans(&[gone]);
        let by_segment: Vec<_> = thinned.iter().map(of_segment).collect();
        let spans = 0..image.layout.tiles.len();
        self.thinned
            .extend(spans.map(|i| by_segment.iter().map(|spans| spans[i].2[0]).collect::<Vec<u32>>()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::see::picture;

    #[test]
    fn one_position_row() {
        let images = [picture(3, 1)];
        let entries = [Entry::Token(7), Entry::Image(0), Entry::Token(8), Entry::Token(9)];
        let rows = Rows::new(&entries, &images, 10, 2, 1);
        assert_eq!(rows.tokens, [7, -1, -1, -1, 8, 9]);
        assert_eq!(rows.positions, [10, 11, 12, 13, 14, 15]);
        assert_eq!(rows.spans, [(1, 3, vec![2])]);
        assert_eq!(rows.embeddings, [0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.0, 0.0, 0.0, 0.0]);
        assert_eq!(entries.iter().map(|entry| entry.extent(&images)).sum::<i32>(), 6);
    }

    #[test]
    fn own_positions_leave_gaps() {
        use crate::schedule::Positions;
        let mut image = EncodedImage { offsets: vec![1, 4, 5, 8], ..picture(3, 1) };
        image.place_at(Positions::Own, true);
        let entries = [Entry::Token(7), Entry::Image(0), Entry::Token(8), Entry::Image(1), Entry::Token(9)];
        let images = [image, picture(2, 1)];
        let rows = Rows::new(&entries, &images, 10, 2, 1);
        assert_eq!(rows.positions, [10, 12, 15, 16, 19, 20, 21, 22]);
        assert_eq!(entries.iter().map(|entry| entry.extent(&images)).sum::<i32>(), 13);
        assert!(rows.counts_sizes && !Rows::new(&entries[..1], &images, 10, 2, 1).counts_sizes);
    }

    #[test]
    fn sizes_stand_beside_the_rows() {
        let counted =
            EncodedImage { sizes: vec![2.0, 1.0, 3.0], strategy: Strategy::Greedy, ..picture(3, 1) };
        let entries = [Entry::Token(7), Entry::Image(0), Entry::Token(8), Entry::Image(1), Entry::Token(9)];
        let rows = Rows::new(&entries, &[counted.clone(), picture(2, 1)], 0, 2, 1);
        assert_eq!(rows.sizes, [1.0, 2.0, 1.0, 3.0, 1.0, 1.0, 1.0, 1.0]);
        let rows = Rows::new(&entries[..2], &[counted], 0, 2, 1);
        assert_eq!((rows.sizes, rows.strategy), (vec![1.0, 2.0, 1.0, 3.0], Strategy::Greedy));
        let held = EncodedImage { held: vec![0, 1, 0], ..picture(3, 1) };
        let rows = Rows::new(&entries, &[held, picture(2, 1)], 0, 2, 1);
        assert_eq!(rows.held, [0, 0, 1, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn mrope() {
        // A 3 x 2 grid of which the cells (0,1), (1,0) and (1,2) are left.
        let image = EncodedImage { cells: vec![(0, 1), (1, 0), (1, 2)], extent: 3, ..picture(3, 1) };
        let rows = Rows::new(&[Entry::Token(7), Entry::Image(0), Entry::Token(8)], &[image], 5, 2, 4);
        assert_eq!(rows.tokens, [7, -1, -1, -1, 8]);
        assert_eq!(rows.positions[..5], [5, 6, 6, 6, 9], "t");
        assert_eq!(rows.positions[5..10], [5, 6, 7, 7, 9], "h");
        assert_eq!(rows.positions[10..15], [5, 7, 6, 8, 9], "w");
        assert_eq!(rows.positions[15..], [0; 5]);
    }

    #[test]
    fn mrope_of_a_video() {
        let image = EncodedImage {
            cells: vec![(0, 0), (0, 1), (0, 1)],
            times: vec![0, 0, 1],
            extent: 2,
            ..picture(3, 1)
        };
        let rows = Rows::new(&[Entry::Image(0), Entry::Token(8)], &[image], 5, 2, 4);
        assert_eq!(rows.positions[..4], [5, 5, 6, 7], "t");
        assert_eq!(rows.positions[8..12], [5, 6, 6, 7], "w");
    }

    #[test]
    fn text_alone_brings_no_embeddings() {
        let rows = Rows::new(&[Entry::Token(1), Entry::Token(2)], &[], 0, 2, 1);
        assert!(rows.embeddings.is_empty() && rows.spans.is_empty());
        assert_eq!(rows.positions, [0, 1]);
    }
}
