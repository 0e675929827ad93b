//! Slots that are saved to a file and restored from one.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::super::slot_file::{self, Owner};
use super::{Decoder, Scheduler};
use crate::error::{Error, Kind, Result};

/// A slot that was saved or restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotFile {
    /// Text tokens and embeddings that the slot holds.
    pub tokens: u32,
    /// Bytes of the file.
    pub bytes: u64,
}

impl<D: Decoder> Scheduler<D> {
    /// Saves what idle slot `i` holds of `scope`.
    ///
    /// # Errors
    /// [`Kind::Interrupted`] while the slot answers; [`Kind::Usage`] for another's conversation; [`Kind::File`].
    pub fn save(&mut self, i: usize, scope: &[u8], path: &Path) -> Result<SlotFile> {
        let owner = self.owner(scope)?;
        self.idle(i)?;
        let slot = &self.slots[i];
        if slot.scope.as_deref().is_some_and(|held| held != scope) {
            return Err(Error::usage(format!(
                "slot {i} holds a conversation of another API key; save it with that one"
            )));
        }
        let sequence = slot.sequence.clone();
        let tokens = sequence.tokens(sequence.entries().len());
        let cells = self.decoder.save(i)?;
        Ok(SlotFile { tokens, bytes: slot_file::write(path, owner, sequence, &cells)? })
    }

    /// Makes idle slot `i` hold what was saved of `scope`. After an error about the file the slot is as before; one
    /// whose cells do not fit is empty.
    ///
    /// # Errors
    /// As [`Scheduler::save`]; [`Kind::Context`] for more than a slot takes.
    pub fn restore(&mut self, i: usize, scope: &[u8], path: &Path) -> Result<SlotFile> {
        let owner = self.owner(scope)?;
        self.idle(i)?;
        let (sequence, cells, bytes) = slot_file::read(path, &owner)?;
        for (segment, &most) in self.settings.cells.iter().enumerate() {
            let needed = sequence.cells(segment);
            if needed > most {
                return Err(Error::new(
                    Kind::Context,
                    format!(
                        "the saved slot has {needed} tokens, a slot takes {most}; serve with a larger context"
                    ),
                ));
            }
        }
        self.wipe(i);
        if let Err(error) = self.decoder.restore(i, &cells) {
            self.wipe(i);
            return Err(error);
        }
        let used_at = self.tick();
        let slot = &mut self.slots[i];
        slot.sequence = sequence;
        slot.scope = Some(scope.to_owned());
        slot.used_at = used_at;
        Ok(SlotFile { tokens: slot.sequence.tokens(slot.sequence.entries().len()), bytes })
    }

    fn idle(&self, i: usize) -> Result<()> {
        match self.slots.get(i) {
            None => {
                Err(Error::usage(format!("there are slots from 0 to {}", self.slots.len().saturating_sub(1))))
            }
            Some(slot) if slot.work.is_some() => Err(Error::new(
                Kind::Interrupted,
                format!("slot {i} is answering; ask again when it is idle"),
            )),
            Some(_) => Ok(()),
        }
    }

    fn owner(&self, scope: &[u8]) -> Result<Owner> {
        let pair = self.settings.pair.ok_or_else(|| Error::usage("slots are not saved here"))?;
        Ok(Owner { pair, scope: *blake3::hash(scope).as_bytes() })
    }
}
