//! Pictures of the kept tokens: a strip of panels for each picture, the attention it received, and one page
//! that shows both step by step.

mod page;
mod palette;
mod panel;
mod sheet;
mod strip;

pub use page::{Look, page};
pub use panel::PanelColours;
pub use sheet::{is_video, sheet};
pub use strip::strip;

use crate::report::{Half, Stage};

/// Returns a stage's name for people.
#[must_use]
pub fn name(stage: &Stage) -> String {
    match stage.half {
        None => "as it was".to_owned(),
        Some(Half::Encoder) => format!("encoder {}", stage.layer),
        Some(Half::Decoder) => format!("decoder {}", stage.layer),
    }
}
