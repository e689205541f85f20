//! See `zabra_fuzz::log_recovery`.
#![no_main]

zabra_fuzz::bounded_memory!();

libfuzzer_sys::fuzz_target!(|data: &[u8]| zabra_fuzz::log_recovery::run(data));
