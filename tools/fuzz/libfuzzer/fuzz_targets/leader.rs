//! See `zabra_fuzz::leader`.
#![no_main]

zabra_fuzz::bounded_memory!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| zabra_fuzz::leader::run(data));
