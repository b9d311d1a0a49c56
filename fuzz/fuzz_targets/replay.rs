//! See `tests/outside/replay.rs`.

#![no_main]

#[path = "../../tests/outside/replay.rs"]
mod replay;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| replay::check(bytes));
