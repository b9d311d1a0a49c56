//! Signals by name, as Fly's API writes them. It must never send one.

use std::io;

use rustix::process::Signal;

const NAMES: &[(&str, Signal)] = &[
    ("ABRT", Signal::ABORT),
    ("ALRM", Signal::ALARM),
    ("CONT", Signal::CONT),
    ("FPE", Signal::FPE),
    ("HUP", Signal::HUP),
    ("ILL", Signal::ILL),
    ("INT", Signal::INT),
    ("KILL", Signal::KILL),
    ("PIPE", Signal::PIPE),
    ("QUIT", Signal::QUIT),
    ("SEGV", Signal::SEGV),
    ("TERM", Signal::TERM),
    ("TRAP", Signal::TRAP),
    ("USR1", Signal::USR1),
    ("USR2", Signal::USR2),
    ("WINCH", Signal::WINCH),
];

/// Reads `SIGINT`, `INT` or `2`.
pub(super) fn parse(text: &str) -> io::Result<Signal> {
    let name = text.strip_prefix("SIG").unwrap_or(text);
    NAMES
        .iter()
        .find(|(known, signal)| *known == name || name.parse() == Ok(signal.as_raw()))
        .map(|(_, signal)| *signal)
        .ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{text} is not a signal's name"))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_three_spellings() {
        for text in ["SIGINT", "INT", "2"] {
            assert_eq!(parse(text).unwrap(), Signal::INT);
        }
    }

    #[test]
    fn an_unknown_signal_is_refused_by_its_name() {
        assert_eq!(parse("SIGNOPE").unwrap_err().to_string(), "SIGNOPE is not a signal's name");
    }
}
