//! See `zabra_fuzz::request`.
#![no_main]

zabra_fuzz::bounded_memory!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| zabra_fuzz::request::run(data));
