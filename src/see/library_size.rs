//! Tokens of a picture that llama.cpp cuts, from its size.

use crate::native::{PicturePart, Tile};
use crate::schedule::Shape;

/// A picture as llama.cpp cuts it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LibraryCut {
    /// Patches of each tile, across and down; if its encoder merges nothing, the tile's rows and 1.
    pub tiles: Vec<[u32; 2]>,
    /// Rows that are tokens of the text model.
    pub marks: u32,
    /// Rows between the lines of tiles.
    pub breaks: u32,
}

impl LibraryCut {
    /// `parts` are none for the families that are laid out here.
    pub(crate) fn new(parts: &[PicturePart], tiles: &[Tile], shape: &Shape) -> Self {
        let (texts, images): (Vec<_>, Vec<_>) = parts.iter().partition(|part| !part.tokens.is_empty());
        let marks = texts.iter().map(|part| part.rows).sum();
        let tiles: Vec<[u32; 2]> = match parts.is_empty() || shape.vit_can_merge {
            true => tiles.iter().map(|tile| [tile.grid.0, tile.grid.1]).collect(),
            false => images.iter().map(|part| [part.rows, 1]).collect(),
        };
        // Rows of the tiles that are no cells stand between the lines.
        let rows: u32 = images.iter().map(|part| part.rows).sum();
        let full = tiles.iter().map(|tile| cells(tile, shape.group * shape.pooled));
        let breaks = rows.saturating_sub(full.map(|(across, down)| across * down).sum());
        Self { tiles, marks, breaks }
    }
}

/// Output cells of a tile: one a group of patches, which is square.
pub(crate) fn cells(patches: &[u32; 2], group: u32) -> (u32, u32) {
    let side = group.isqrt().max(1);
    (patches[0] / side, patches[1] / side)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(tokens: &[i32], rows: u32) -> PicturePart {
        PicturePart { tokens: tokens.to_vec(), rows, ..PicturePart::default() }
    }

    #[test]
    fn marks_and_breaks_count() {
        let tile = Tile { size: (64, 48), grid: (8, 6) };
        let shape = Shape { group: 4, vit_tokens: 48, ..crate::schedule::so400m() };
        // Twelve cells in three lines of four, two breaks, three marks.
        let parts = [part(&[7, 8], 2), part(&[], 14), part(&[9], 1)];
        let cut = LibraryCut::new(&parts, &[tile], &shape);
        assert_eq!(cut, LibraryCut { tiles: vec![[8, 6]], marks: 3, breaks: 2 });

        let unmerged = Shape { vit_can_merge: false, group: 1, ..shape };
        let cut = LibraryCut::new(&parts, &[tile], &unmerged);
        assert_eq!(cut, LibraryCut { tiles: vec![[14, 1]], marks: 3, breaks: 0 });
        // A picture of a family that is laid out here has no parts.
        let cut = LibraryCut::new(&[], &[tile], &Shape { vit_can_merge: false, ..crate::schedule::so400m() });
        assert_eq!(cut, LibraryCut { tiles: vec![[8, 6]], marks: 0, breaks: 0 });
    }
}
