//! See `tests/outside/manifest.rs`.

#![no_main]

#[path = "../../tests/outside/manifest.rs"]
mod manifest;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| manifest::check(bytes));
