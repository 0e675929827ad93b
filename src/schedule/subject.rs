//! Schedules that are compared.

use super::Schedule;

/// A schedule with the name it goes by in tables.
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
