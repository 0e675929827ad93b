//! `illava rpc`: compute layers of a text model for another machine.

use super::flags::{self, RpcFlags};
use super::settings;
use crate::error::{Error, Result};
use crate::pair;

/// # Errors
/// [`crate::error::Kind::Usage`] for an address that cannot be listened on and for devices that are not there.
pub(super) fn rpc(given: &RpcFlags) -> Result<()> {
    flags::kernels(&given.kernels)?.choose();
    if let Some(folder) = &given.cache {
        std::fs::create_dir_all(folder)
            .map_err(|error| Error::usage(format!("--cache {}: {error}", folder.display())))?;
    }
    let threads = settings::all_threads(given.threads)?;
    pair::serve_rpc(given.host, given.port, &given.device, threads, given.cache.as_deref(), |address| {
        if !given.host.is_loopback() {
            eprintln!(
                "warning: every program that reaches {address} can use this machine's memory and perhaps more: the protocol has no \
                 password and no encryption, so keep it to a network that you trust"
            );
        }
        eprintln!("listening on {address}; give it to --rpc on the machine that has the model");
    })
}
