//! Positions of a merged picture's rows in the decoder, and whether its attention counts their sizes.

use serde::{Deserialize, Serialize};

use super::{Choice, Grid, Schedule, Shape};
use crate::error::{Error, Field, Result};

/// Positions of the rows that merging leaves of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Positions {
    /// Every row stays where its cell stands in the unmerged picture, and attention counts it as often as it stands for
    /// original tokens.
    #[default]
    Own,
    /// The rows stand one after another, each counted once.
    Closed,
}

impl Positions {
    pub const ALL: [Positions; 2] = [Positions::Own, Positions::Closed];

    /// # Errors
    /// [`crate::error::Kind::Usage`] with the names there are.
    pub fn parse(name: &str) -> Result<Self> {
        Self::ALL
            .into_iter()
            .find(|positions| positions.name() == name)
            .ok_or_else(|| Error::usage(format!("{} {name}: choose own or closed", Field::Positions)))
    }

    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Positions::Own => "own",
            Positions::Closed => "closed",
        }
    }
}

/// Returns `schedule` with the positions of `choice`: own ones unless survivors get the places of a smaller
/// grid, or `closes`, as the authors of a method number them.
///
/// # Errors
/// [`crate::error::Kind::Usage`] for positions that the grid or the model's (t, h, w) rule out.
pub(super) fn apply(schedule: Schedule, choice: &Choice, shape: &Shape, closes: bool) -> Result<Schedule> {
    let usual = match choice.grid {
        Grid::Faithful => Positions::Own,
        Grid::Reference => Positions::Closed,
    };
    let default = if closes && !shape.has_axes { Positions::Closed } else { usual };
    let positions = choice.positions.unwrap_or(default);
    if positions != usual && usual == Positions::Closed {
        return Err(Error::usage(format!(
            "{} own: with {} reference the survivors take the places of a smaller grid; leave one of the two out",
            Field::Positions,
            Field::Grid
        )));
    }
    if positions != usual && shape.has_axes {
        return Err(Error::usage(format!(
            "{} closed: this model has a line and a column for every token; take {} reference for the places of the authors' code",
            Field::Positions,
            Field::Grid
        )));
    }
    // Counting sizes needs the cache that merging needs.
    let counts_sizes = positions == Positions::Own && shape.llm_can_merge;
    Ok(Schedule { positions, counts_sizes, ..schedule })
}

#[cfg(test)]
mod tests {
    use super::super::choice::tests::so400m;
    use super::super::select;
    use super::*;

    #[test]
    fn own_unless_the_grid_is_another() {
        let at = |grid, positions| Choice { grid, positions, ..Choice::default() };
        let cases = [
            (at(Grid::Faithful, None), Positions::Own),
            (at(Grid::Faithful, Some(Positions::Closed)), Positions::Closed),
            (at(Grid::Reference, None), Positions::Closed),
            (at(Grid::Reference, Some(Positions::Closed)), Positions::Closed),
        ];
        for (choice, expected) in cases {
            let schedule = select(&choice, &so400m(), None).unwrap();
            assert_eq!(schedule.positions, expected, "{choice:?}");
            assert_eq!(schedule.counts_sizes, expected == Positions::Own, "sizes go with own positions");
        }
        let plain = Shape { llm_can_merge: false, ..so400m() };
        let schedule = select(&Choice::default(), &plain, None).unwrap();
        assert_eq!((schedule.positions, schedule.counts_sizes), (Positions::Own, false));
    }

    #[test]
    fn what_excludes_each_other_is_refused() {
        let own = Choice { grid: Grid::Reference, positions: Some(Positions::Own), ..Choice::default() };
        let error = select(&own, &so400m(), None).unwrap_err().to_string();
        assert!(error.contains("own") && error.contains("reference"), "{error}");
        let closed = Choice { positions: Some(Positions::Closed), ..Choice::default() };
        let mrope = Shape { has_axes: true, ..so400m() };
        assert!(select(&closed, &mrope, None).unwrap_err().to_string().contains("a line and a column"));
        for positions in Positions::ALL {
            assert_eq!(Positions::parse(positions.name()).unwrap(), positions);
        }
        assert!(Positions::parse("x").unwrap_err().to_string().contains("own or closed"));
    }
}
