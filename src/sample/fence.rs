//! Whether a replayed request was meant for this machine: the check that keeps a replaced one from serving. It must never
//! let a request pass because its header is malformed.

/// Judges the value of a `fly-replay-src` header, `instance=..;region=..;t=..;state=..`: its `state` must be `key`.
///
/// Requests without the header did not come through a replay and are not this function's business.
#[must_use]
pub fn admits(replay_src: &[u8], key: &str) -> bool {
    let Ok(text) = std::str::from_utf8(replay_src) else { return false };
    let mut states = text.split(';').filter_map(|field| field.trim().strip_prefix("state="));
    match (states.next(), states.next()) {
        // Digests compare in constant time; the texts themselves would tell how much of a guess is right.
        (Some(state), None) => blake3::hash(state.as_bytes()) == blake3::hash(key.as_bytes()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_right_state_passes() {
        for (header, admitted) in [
            ("instance=m1;region=ams;t=17;state=k1", true),
            ("state=k1", true),
            ("instance=m1; region=ams; t=17; state=k1", true),
            ("instance=m1;region=ams;t=17;state=k2", false),
            ("instance=m1;region=ams;t=17", false),
            ("state=k1;state=k2", false),
            ("state=", false),
            ("", false),
            ("xstate=k1", false),
        ] {
            assert_eq!(admits(header.as_bytes(), "k1"), admitted, "{header}");
        }
        assert!(!admits(b"state=\xff", "k1"));
    }
}
