//! See `tests/outside/fly.rs`.

#![no_main]

#[path = "../../tests/outside/fly.rs"]
mod fly;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| fly::check(bytes));
