//! Schedules that are compared.

use super::Schedule;

/// A schedule with the name it goes by in tables.
#[derive(Debug, Clone)]
pub struct Subject {
    pub name: String,
    pub schedule: Schedule,
}

impl Subject {
    /// Named after what was asked for: the preset and, if there is one, the share to keep.
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        let name = match schedule.keep {
            Some(keep) => format!("{} keep {keep}", schedule.name),
            None => schedule.name.clone(),
        };
        Self { name, schedule }
    }
}
