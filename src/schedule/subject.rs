//! Schedules that are compared.

use super::{Choice, MergeFlag, Schedule};

/// Schedule with its name in tables.
#[derive(Debug, Clone)]
pub struct Subject {
    pub name: String,
    pub schedule: Schedule,
}

impl Subject {
    #[must_use]
    pub fn new(schedule: Schedule) -> Self {
        Self { name: schedule.label(), schedule }
    }
}

impl Choice {
    /// Returns the same choice with another schedule by name, without the fields of the one before.
    #[must_use]
    pub fn by_name(&self, flag: MergeFlag) -> Choice {
        let (keep_min, keep_max) = match flag {
            MergeFlag::Auto => (self.keep_min, self.keep_max),
            _ => (None, None),
        };
        Choice { merge: Some(flag), keep: None, keep_min, keep_max, vit: None, llm: None, ..self.clone() }
    }
}
