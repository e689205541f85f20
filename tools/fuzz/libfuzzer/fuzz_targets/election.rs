//! See `zabra_fuzz::election`.
#![no_main]

zabra_fuzz::bounded_memory!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| zabra_fuzz::election::run(data));
