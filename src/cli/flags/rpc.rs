//! Flags of a machine that computes layers for another.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use clap::Args;

use super::names;

#[derive(Debug, Args)]
pub struct RpcFlags {
    /// Address to listen at; 0.0.0.0 is every network of this machine (short: -H)
    #[arg(long, short = 'H', value_name = "ADDRESS", default_value_t = Ipv4Addr::LOCALHOST)]
    pub host: Ipv4Addr,
    /// Port to listen at; 0 takes a free one
    #[arg(long, short = 'p', value_name = "N", default_value_t = 50052)]
    pub port: u16,
    /// Threads of the CPU; without, one for each core
    #[arg(long, short = 't', value_name = "N", allow_negative_numbers = true)]
    pub threads: Option<i64>,
    /// Devices to offer, as CUDA0,CUDA1 or CPU; without, all GPUs, or else the CPU (short: -dev)
    #[arg(long, short = 'd', value_name = "NAMES", value_delimiter = ',')]
    pub device: Vec<String>,
    /// Folder in which large tensors are kept, so that the next load does not send them again
    #[arg(long, short = 'c', value_name = "FOLDER")]
    pub cache: Option<PathBuf>,
    /// Kernels for products of many rows on the CPU: auto or stock
    #[arg(long, value_name = "WHOSE", default_value = "auto", value_parser = names::KERNELS, hide_possible_values = true)]
    pub kernels: String,
    /// Say more; twice: llama.cpp's lines
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}
