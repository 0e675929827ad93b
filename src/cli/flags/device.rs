//! Flags that choose the devices of a model.

use clap::Args;

use super::names;

use crate::error::{Error, Result};
use crate::pair::{Placement, Split};

#[derive(Debug, Clone, Args)]
pub struct DeviceFlags {
    /// Layers on the GPU: a number, auto or all (short: -ngl)
    #[arg(
        long,
        visible_alias = "n-gpu-layers",
        value_name = "N",
        allow_negative_numbers = true,
        env = "LLAMA_ARG_N_GPU_LAYERS",
        help_heading = "Model"
    )]
    pub gpu_layers: Option<String>,
    /// Devices for the layers, as CUDA0,CUDA1, or none for the CPU alone (short: -dev)
    #[arg(long, value_name = "NAMES", env = "LLAMA_ARG_DEVICE", help_heading = "Model")]
    pub device: Option<String>,
    /// How a model is divided among GPUs: layer, row or none (short: -sm)
    #[arg(
        long,
        value_name = "MODE",
        default_value = "layer",
        env = "LLAMA_ARG_SPLIT_MODE",
        value_parser = names::SPLITS, hide_possible_values = true, help_heading = "Model"
    )]
    pub split_mode: String,
    /// Proportions of the GPUs, as 3,1 (short: -ts)
    #[arg(long, value_name = "N0,N1,...", env = "LLAMA_ARG_TENSOR_SPLIT", help_heading = "Model")]
    pub tensor_split: Option<String>,
    /// The GPU that has the whole model with --split-mode none, from 0 (short: -mg)
    #[arg(long, value_name = "N", default_value_t = 0, env = "LLAMA_ARG_MAIN_GPU", help_heading = "Model")]
    pub main_gpu: u32,
    /// Machines that compute layers, as host:port,...: `illava rpc` runs there; nothing is encrypted, so trust the network
    #[arg(long, value_name = "ADDRESSES", env = "LLAMA_ARG_RPC", help_heading = "Model")]
    pub rpc: Option<String>,
    /// Leave the image encoder on the CPU
    #[arg(long, env = "LLAMA_ARG_NO_MMPROJ_OFFLOAD", value_parser = clap::builder::FalseyValueParser::new(), help_heading = "Model")]
    pub no_mmproj_offload: bool,
}

impl DeviceFlags {
    /// # Errors
    /// [`crate::error::Kind::Usage`] naming the flag and what it takes.
    pub(in crate::cli) fn layers(&self) -> Result<Option<u32>> {
        layers(self.gpu_layers.as_deref())
    }

    /// # Errors
    /// [`crate::error::Kind::Usage`] naming the flag and what it takes.
    pub(in crate::cli) fn placement(&self) -> Result<Placement> {
        Ok(Placement {
            devices: self.device.as_deref().map(devices),
            split: split(&self.split_mode)?,
            shares: self.tensor_split.as_deref().map_or(Ok(Vec::new()), shares)?,
            main: self.main_gpu,
            rpc: self.rpc.as_deref().map_or(Ok(Vec::new()), servers)?,
        })
    }

    /// Whether the image encoder may go to a GPU.
    pub(in crate::cli) fn encoder_may_go(&self) -> bool {
        !self.no_mmproj_offload && self.device.as_deref() != Some("none")
    }
}

fn layers(text: Option<&str>) -> Result<Option<u32>> {
    match text {
        None | Some("auto" | "-1") => Ok(None),
        Some("all") => Ok(Some(i32::MAX.unsigned_abs())),
        Some(text) => text
            .parse::<u32>()
            .ok()
            .filter(|n| i32::try_from(*n).is_ok())
            .map(Some)
            .ok_or_else(|| Error::usage(format!("-ngl {text}: give a number of layers, auto or all"))),
    }
}

fn devices(text: &str) -> Vec<String> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty() && *name != "none");
    names.map(str::to_owned).collect()
}

fn servers(text: &str) -> Result<Vec<String>> {
    let servers: Vec<String> = text.split(',').map(|server| server.trim().to_owned()).collect();
    let has_port = |server: &String| {
        server
            .rsplit_once(':')
            .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|n| n > 0))
    };
    match servers.iter().find(|server| !has_port(server)) {
        None => Ok(servers),
        Some(server) => Err(Error::usage(format!(
            "--rpc {server}: give addresses as host:port, such as 192.168.0.2:50052"
        ))),
    }
}

fn split(text: &str) -> Result<Split> {
    match text {
        "none" => Ok(Split::None),
        "layer" => Ok(Split::Layer),
        "row" => Ok(Split::Row),
        _ => Err(Error::usage(format!("-sm {text}: choose layer, row or none"))),
    }
}

/// llama.cpp takes commas and slashes.
fn shares(text: &str) -> Result<Vec<f32>> {
    let bad = || Error::usage(format!("-ts {text}: give proportions, as 3,1"));
    let shares = text.split([',', '/']).map(|part| part.trim().parse::<f32>());
    let shares = shares.collect::<std::result::Result<Vec<_>, _>>().map_err(|_| bad())?;
    match shares.iter().all(|share| share.is_finite() && *share >= 0.0) {
        true => Ok(shares),
        false => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_flags_mean() {
        assert_eq!(layers(Some("-1")).unwrap(), None);
        assert_eq!(layers(Some("99")).unwrap(), Some(99));
        assert_eq!(devices("CUDA0, CUDA1"), ["CUDA0", "CUDA1"]);
        assert!(devices("none").is_empty());
        assert_eq!(shares("3,1").unwrap(), [3.0, 1.0]);
        assert_eq!(shares("3/1").unwrap(), [3.0, 1.0]);
        assert_eq!(split("none").unwrap(), Split::None);
        assert_eq!(servers("a:1, 10.0.0.2:50052").unwrap(), ["a:1", "10.0.0.2:50052"]);
        for bad in ["a", "a:", ":1", "a:0", "a:1,"] {
            assert!(servers(bad).unwrap_err().to_string().starts_with("--rpc "), "{bad}");
        }
        for error in [shares("3,x").unwrap_err(), shares("-1").unwrap_err(), split("tensor").unwrap_err()] {
            assert!(error.to_string().contains("-ts") || error.to_string().contains("-sm"), "{error}");
        }
    }
}
