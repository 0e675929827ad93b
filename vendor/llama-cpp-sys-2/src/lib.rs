//! Raw bindings to llama.cpp with illava's patches applied; see `patches/README.md`.
//!
//! It stands in for the published crate of the same name and version, so that `llama-cpp-2`
//! links against the patched library.

#![allow(non_upper_case_globals, non_camel_case_types, non_snake_case)]
// Generated code, with the comments of upstream's headers: llama-cpp-2 asks for PartialEq on structs that hold callbacks.
#![allow(unpredictable_function_pointer_comparisons, unsafe_op_in_unsafe_fn, clippy::all, rustdoc::all)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
