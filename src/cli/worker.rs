//! `illava worker`: the process that computes for `serve`.

use super::flags::WorkerFlags;
use super::settings;
use crate::error::Result;
use crate::worker::service::Options;

/// # Errors
/// [`crate::error::Kind::Usage`] naming the flag and what it takes.
pub(super) fn options(flags: &WorkerFlags) -> Result<Options> {
    Ok(Options {
        load: settings::load(&flags.model, flags.template.template()?)?,
        choice: settings::choice(&flags.merge)?,
        sizes: flags.slots.sizes(flags.model.ctx_size)?,
        picture_bytes: flags.slots.picture_bytes(),
        picture_folder: flags.slots.picture_folder(),
        slot_folder: flags.slot_save_path.clone(),
    })
}

#[cfg(unix)]
pub(super) fn worker(flags: &WorkerFlags) -> Result<()> {
    crate::worker::process::run(&options(flags)?)
}

#[cfg(not(unix))]
pub(super) fn worker(_flags: &WorkerFlags) -> Result<()> {
    Err(crate::error::Error::usage("a worker speaks over a Unix socket, which this system has not"))
}
