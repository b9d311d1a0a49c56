//! The `hangar` program: parse, run, exit code. Everything else is in the library.

use std::path::Path;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["machine-shim", directory] => hangar::local::process::machine_shim(Path::new(directory)),
        ["sample-app"] => hangar::sample::run(hangar::sample::Options::from_env()?),
        _ => anyhow::bail!("usage: hangar machine-shim <directory> | sample-app"),
    }
}
