//! Sizes, durations and times of the day as people write them, kept as they were written. It must never round silently.

use std::{borrow::Cow, fmt, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A Kubernetes quantity of bytes: `1Gi`, `512Mi`, `1G`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bytes(String);

impl Bytes {
    /// Reads a quantity.
    ///
    /// # Errors
    /// A sentence that says what a quantity looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        bytes(text).map(|_| Self(text.to_owned())).ok_or_else(|| {
            format!(
                "`{text}` is not a size: write a whole number and a unit, such as 512Mi or 10Gi"
            )
        })
    }

    /// How many bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes(&self.0).unwrap_or_default()
    }

    /// How many MiB, rounded up.
    #[must_use]
    pub fn mib(&self) -> u64 {
        self.bytes().div_ceil(1 << 20)
    }

    /// How many GiB, rounded up.
    #[must_use]
    pub fn gib(&self) -> u64 {
        self.bytes().div_ceil(1 << 30)
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn bytes(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let factor: u64 = match unit {
        "" => 1,
        "k" => 1_000,
        "M" => 1_000_000,
        "G" => 1_000_000_000,
        "T" => 1_000_000_000_000,
        "Ki" => 1 << 10,
        "Mi" => 1 << 20,
        "Gi" => 1 << 30,
        "Ti" => 1 << 40,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for Bytes {
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^[0-9]+(k|M|G|T|Ki|Mi|Gi|Ti)?$"})
    }
}

/// A length of time: `90s`, `15m`, `30d`, `1h 30m`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Span(String);

impl Span {
    /// Reads a duration.
    ///
    /// # Errors
    /// A sentence that says what a duration looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(|_| Self(text.to_owned())).map_err(|error| {
            format!("`{text}` is not a duration ({error}): write a number and a unit, such as 90s, 15m or 30d")
        })
    }

    /// How long.
    #[must_use]
    pub fn get(&self) -> Duration {
        humantime::parse_duration(&self.0).unwrap_or_default()
    }

    /// As it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A time of the day: `02:30`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimeOfDay(u16);

impl TimeOfDay {
    /// Reads hours and minutes.
    ///
    /// # Errors
    /// A sentence that says what a time looks like.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_number = |it: &&str| it.len() == 2 && it.bytes().all(|it| it.is_ascii_digit());
        let two = |it: &str| Some(it).filter(is_number)?.parse::<u16>().ok();
        let parts = text.split_once(':').and_then(|(h, m)| Some((two(h)?, two(m)?)));
        match parts.filter(|(hours, minutes)| *hours < 24 && *minutes < 60) {
            Some((hours, minutes)) => Ok(Self(hours * 60 + minutes)),
            None => Err(format!(
                "`{text}` is not a time of the day: write hours and minutes, such as \"02:30\""
            )),
        }
    }

    /// Minutes since midnight.
    #[must_use]
    pub fn minutes(self) -> u16 {
        self.0
    }
}

impl fmt::Display for TimeOfDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02}:{:02}", self.0 / 60, self.0 % 60)
    }
}

impl Serialize for TimeOfDay {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TimeOfDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for TimeOfDay {
    fn schema_name() -> Cow<'static, str> {
        "TimeOfDay".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "pattern": "^([01][0-9]|2[0-3]):[0-5][0-9]$"})
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl JsonSchema for Span {
    fn schema_name() -> Cow<'static, str> {
        "Span".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^([0-9]+ ?(ns|us|ms|s|sec|m|min|h|hr|d|day|days|w|week|weeks|M|month|y|year)[a-z]* ?)+$"
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_rounded_up_to_flys_units() {
        let gib = |text: &str| Bytes::parse(text).map(|it| it.gib());
        assert_eq!(gib("10Gi"), Ok(10));
        assert_eq!(gib("1G"), Ok(1));
        assert_eq!(gib("1025Mi"), Ok(2));
        assert_eq!(Bytes::parse("512Mi").map(|it| it.mib()), Ok(512));
    }

    #[test]
    fn what_is_not_a_size_or_a_duration_is_refused() {
        for text in ["", "Gi", "1.5Gi", "-1Gi", "10 Gi", "10GiB", "99999999999Ti"] {
            assert!(Bytes::parse(text).is_err(), "{text}");
        }
        for text in ["", "15", "m15", "-1m", "15 parsecs"] {
            assert!(Span::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_duration_stays_as_it_was_written() {
        let span = Span::parse("90s").ok();
        assert_eq!(span.as_ref().map(Span::as_str), Some("90s"));
        assert_eq!(span.map(|it| it.get()), Some(Duration::from_secs(90)));
    }
}
