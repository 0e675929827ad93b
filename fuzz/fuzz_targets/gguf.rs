#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| illava_fuzz::gguf(data));
