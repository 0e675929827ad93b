//! Ctrl-C: the first ends the generation, the second the program.

use crate::error::{Error, Kind, Result};
use crate::stop::Stop;

/// Installs the handlers.
///
/// # Errors
/// [`Kind::Native`] if the system takes no handler.
pub(super) fn install(stop: Stop) -> Result<()> {
    let failed =
        |error: std::io::Error| Error::new(Kind::Native, format!("cannot watch for Ctrl-C: {error}"));
    let status = i32::from(Kind::Interrupted.exit_code());
    // The order matters: the second signal finds the flag that the first one set.
    signal_hook::flag::register_conditional_shutdown(signal_hook::consts::SIGINT, status, stop.shared())
        .map_err(failed)?;
    signal_hook::flag::register(signal_hook::consts::SIGINT, stop.shared()).map_err(failed)?;
    Ok(())
}
