//! Kubernetes' `MicroTime`: a time that is always written with six digits after the point, which its clients insist on.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A time with microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, JsonSchema)]
#[schemars(with = "String")]
pub struct MicroTime(pub Timestamp);

impl Serialize for MicroTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let printer = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(6));
        serializer.serialize_str(&printer.timestamp_to_string(&self.0))
    }
}

impl<'de> Deserialize<'de> for MicroTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(|_| de::Error::custom("it is not a time of RFC 3339"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_has_six_digits_however_it_was_written() {
        for (written, shown) in [
            ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05.000000Z"),
            ("2026-01-02T04:04:05.1234567+01:00", "2026-01-02T03:04:05.123456Z"),
        ] {
            let time: MicroTime = serde_json::from_value(written.into()).unwrap();
            assert_eq!(serde_json::to_value(time).unwrap(), shown);
        }
        assert!(serde_json::from_value::<MicroTime>("soon".into()).is_err());
    }
}
