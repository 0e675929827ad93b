//! Which devices a text model's layers go to.

use std::ffi::CStr;

use llama_cpp_sys_2 as sys;

use crate::error::{Error, Result};

/// How layers are placed that are not left on the CPU.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Placement {
    /// Devices by llama.cpp's names (`CUDA0`), in order; empty is none, `None` all there are.
    pub devices: Option<Vec<String>>,
    pub split: Split,
    /// Proportions of the devices; empty divides by free memory.
    pub shares: Vec<f32>,
    /// The device for everything with [`Split::None`], counted from 0.
    pub main: u32,
    /// RPC servers, as `host:port`, whose devices come before those of this machine.
    pub rpc: Vec<String>,
}

/// How a model is divided among devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Split {
    /// One device has all.
    None,
    /// Whole layers.
    #[default]
    Layer,
    /// Rows of each matrix.
    Row,
}

/// Values that llama.cpp's parameters point to; they must outlive the load.
pub(super) struct Placed {
    devices: Vec<sys::ggml_backend_dev_t>,
    shares: Vec<f32>,
}

impl Placement {
    /// Writes the placement into `params`, which points into the returned value.
    ///
    /// # Errors
    /// [`crate::error::Kind::Usage`] for a device that this build or machine has not, and for more shares than devices can be.
    pub(super) fn put(&self, params: &mut sys::llama_model_params) -> Result<Placed> {
        let mut placed = Placed { devices: Vec::new(), shares: self.shares.clone() };
        if let Some(names) = &self.devices {
            placed.devices = names.iter().map(|name| device(name)).collect::<Result<_>>()?;
            placed.devices.push(std::ptr::null_mut());
            params.devices = placed.devices.as_mut_ptr();
        }
        // SAFETY: takes nothing, returns a number.
        let most = unsafe { sys::llama_max_devices() };
        if placed.shares.len() > most {
            return Err(Error::usage(format!(
                "{} shares of devices: there can be {most}; give fewer",
                placed.shares.len()
            )));
        }
        if !placed.shares.is_empty() {
            // llama.cpp reads as many as there can be devices.
            placed.shares.resize(most, 0.0);
            params.tensor_split = placed.shares.as_ptr();
        }
        params.split_mode = match self.split {
            Split::None => sys::LLAMA_SPLIT_MODE_NONE,
            Split::Layer => sys::LLAMA_SPLIT_MODE_LAYER,
            Split::Row => sys::LLAMA_SPLIT_MODE_ROW,
        };
        params.main_gpu = i32::try_from(self.main).unwrap_or(i32::MAX);
        Ok(placed)
    }
}

fn device(name: &str) -> Result<sys::ggml_backend_dev_t> {
    let found = devices().into_iter().find(|(other, _)| other == name);
    found.map(|(_, device)| device).ok_or_else(|| {
        let names: Vec<String> = devices().into_iter().map(|(name, _)| name).collect();
        Error::usage(format!(
            "device {name}: this build and machine have {}; choose among them",
            names.join(", ")
        ))
    })
}

/// The devices to compute on for others: those named, else the machine's GPUs, else its CPU.
pub(super) fn to_serve(names: &[String]) -> Result<Vec<sys::ggml_backend_dev_t>> {
    if !names.is_empty() {
        return names.iter().map(|name| device(name)).collect();
    }
    let all = || devices().into_iter().map(|(_, device)| device);
    let gpus: Vec<_> = all().filter(|device| is_gpu(*device)).collect();
    Ok(if gpus.is_empty() { all().filter(|device| !is_remote(*device)).take(1).collect() } else { gpus })
}

/// Whether there is a device beside the CPU, here or at an RPC server.
pub(super) fn has_gpu() -> bool {
    devices().into_iter().any(|(_, device)| is_gpu(device))
}

/// Whether this machine has such a device itself.
#[must_use]
pub fn has_own_gpu() -> bool {
    devices().into_iter().any(|(_, device)| is_gpu(device) && !is_remote(device))
}

fn is_gpu(device: sys::ggml_backend_dev_t) -> bool {
    // SAFETY: the registry's devices live as long as the process.
    let kind = unsafe { sys::ggml_backend_dev_type(device) };
    matches!(kind, sys::GGML_BACKEND_DEVICE_TYPE_GPU | sys::GGML_BACKEND_DEVICE_TYPE_IGPU)
}

fn is_remote(device: sys::ggml_backend_dev_t) -> bool {
    // SAFETY: as above; a device knows its backend, whose name is a constant that ends in a zero byte.
    unsafe { CStr::from_ptr(sys::ggml_backend_reg_name(sys::ggml_backend_dev_backend_reg(device))) == c"RPC" }
}

/// The devices of this build and machine, with their names.
fn devices() -> Vec<(String, sys::ggml_backend_dev_t)> {
    // SAFETY: the registry answers any thread and keeps its devices; names are static and zero-terminated.
    unsafe {
        (0..sys::ggml_backend_dev_count())
            .map(|i| sys::ggml_backend_dev_get(i))
            .map(|device| {
                let name = CStr::from_ptr(sys::ggml_backend_dev_name(device));
                (name.to_string_lossy().into_owned(), device)
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params() -> sys::llama_model_params {
        // SAFETY: takes nothing, returns plain values.
        unsafe { sys::llama_model_default_params() }
    }

    #[test]
    fn parameters() {
        super::super::backend().unwrap();
        let mut plain = params();
        Placement::default().put(&mut plain).unwrap();
        assert_eq!((plain.main_gpu, plain.split_mode), (params().main_gpu, params().split_mode));
        assert!(plain.devices.is_null() && plain.tensor_split.is_null());
        let placement = Placement {
            devices: Some(vec!["CPU".into()]),
            split: Split::Row,
            shares: vec![3.0, 1.0],
            main: 2,
            ..Placement::default()
        };
        let mut params = params();
        let placed = placement.put(&mut params).unwrap();
        assert_eq!((params.main_gpu, params.split_mode), (2, sys::LLAMA_SPLIT_MODE_ROW));
        assert_eq!(placed.devices.len(), 2);
        assert!(placed.devices[1].is_null() && !params.devices.is_null());
        // SAFETY: `put` filled as many shares as there can be devices.
        assert_eq!(unsafe { (*params.tensor_split, *params.tensor_split.add(1)) }, (3.0, 1.0));
    }

    #[test]
    fn a_device_that_is_not_there() {
        super::super::backend().unwrap();
        let placement = Placement { devices: Some(vec!["CUDA9".into()]), ..Placement::default() };
        let error = placement.put(&mut params()).err().unwrap();
        assert_eq!(error.kind(), crate::error::Kind::Usage);
        assert!(
            error.to_string().starts_with("device CUDA9: this build") && error.to_string().contains("CPU")
        );
        let shares = Placement { shares: vec![1.0; 1000], ..Placement::default() };
        assert!(shares.put(&mut params()).err().unwrap().to_string().contains("1000 shares"));
    }
}
