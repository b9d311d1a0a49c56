//! See `tests/outside/host.rs`.

#![no_main]

#[path = "../../tests/outside/host.rs"]
mod host;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| host::check(bytes));
