//! Columns: where in an object a cell's text stands, and how it is put. It must never know a kind.

use serde_json::Value;

/// A column of a table.
#[derive(Debug)]
pub struct Column {
    /// Heading, as Kubernetes writes it (`Template`); printed in capitals.
    pub name: &'static str,
    /// Shown only with `-o wide`.
    pub wide: bool,
    /// One sentence.
    pub about: &'static str,
    /// The cell.
    pub cell: Cell,
}

/// Where a cell's text comes from.
#[derive(Debug, Clone, Copy)]
pub enum Cell {
    /// A dotted path; lists are joined with commas.
    Path(&'static str),
    /// The time since the timestamp at this path.
    Age(&'static str),
    /// The status of the condition of this type.
    Condition(&'static str),
    /// The reason of the condition of this type.
    Reason(&'static str),
    /// How many entries the object or list at this path has.
    Count(&'static str),
    /// For each entry of the object at the second path, its value at the first path over that: `count/x: 3/5`.
    Share(&'static str, &'static str),
    /// What the kind's own function makes of the object.
    Of(fn(&Value) -> Option<String>),
}

pub(super) const fn column(name: &'static str, cell: Cell, about: &'static str) -> Column {
    Column { name, wide: false, about, cell }
}

pub(super) const fn wide(name: &'static str, cell: Cell, about: &'static str) -> Column {
    Column { name, wide: true, about, cell }
}

pub(super) const AGE: Column =
    column("Age", Cell::Age("metadata.creationTimestamp"), "Time since it was created");

/// The value at a dotted path.
#[must_use]
pub fn at_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(object, |value, part| value.get(part))
}

impl Cell {
    /// The cell's text, which is `<none>` where there is nothing.
    #[must_use]
    pub fn text(self, object: &Value, now: jiff::Timestamp) -> String {
        let text = match self {
            Self::Path(path) => at_path(object, path).and_then(plain),
            Self::Age(path) => at_path(object, path)
                .and_then(Value::as_str)
                .and_then(|text| text.parse().ok())
                .map(|since| age(since, now)),
            Self::Condition(kind) => condition(object, kind, "status"),
            Self::Reason(kind) => condition(object, kind, "reason"),
            Self::Count(path) => Some(match at_path(object, path) {
                Some(Value::Object(map)) => map.len().to_string(),
                Some(Value::Array(list)) => list.len().to_string(),
                Some(_) | None => "0".to_owned(),
            }),
            Self::Share(part, whole) => share(at_path(object, part), at_path(object, whole)),
            Self::Of(text) => text(object),
        };
        text.unwrap_or_else(|| "<none>".to_owned())
    }
}

fn share(part: Option<&Value>, whole: Option<&Value>) -> Option<String> {
    let one = |(key, all): (&String, &Value)| {
        let used = part.and_then(|it| plain(it.get(key)?)).unwrap_or_else(|| "?".to_owned());
        Some(format!("{key}: {used}/{}", plain(all)?))
    };
    let shares: Vec<_> = whole?.as_object()?.iter().filter_map(one).collect();
    (!shares.is_empty()).then(|| shares.join(", "))
}

fn condition(object: &Value, kind: &str, field: &str) -> Option<String> {
    let list = at_path(object, "status.conditions")?.as_array()?;
    let found = list.iter().find(|it| it.get("type").is_some_and(|it| it == kind))?;
    plain(found.get(field)?)
}

fn plain(value: &Value) -> Option<String> {
    match value {
        Value::Null | Value::Object(_) => None,
        Value::String(text) => (!text.is_empty()).then(|| text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Array(list) => {
            let parts: Vec<_> = list.iter().filter_map(plain).collect();
            (!parts.is_empty()).then(|| parts.join(","))
        }
    }
}

/// `$1.94`, rounded up.
#[must_use]
pub fn dollars(microdollars: u64) -> String {
    let cents = microdollars.div_ceil(10_000);
    format!("${}.{:02}", cents / 100, cents % 100)
}

/// The time between two moments as Kubernetes shows it: `25s`, `2m`, `3h`, `4d`, two units while the first is small.
#[must_use]
pub fn age(since: jiff::Timestamp, now: jiff::Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(since.as_second()).max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=599 if seconds % 60 != 0 => format!("{minutes}m{}s", seconds % 60),
        120..=10_799 => format!("{minutes}m"),
        10_800..=28_799 if minutes % 60 != 0 => format!("{hours}h{}m", minutes % 60),
        10_800..=172_799 => format!("{hours}h"),
        172_800..=691_199 if hours % 24 != 0 => format!("{days}d{}h", hours % 24),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_read_as_in_kubernetes() {
        let at = |seconds| jiff::Timestamp::from_second(seconds).unwrap();
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (3_600, "60m"),
            (4 * 3_600 + 60, "4h1m"),
            (86_400, "24h"),
            (3 * 86_400 + 3_600, "3d1h"),
            (30 * 86_400, "30d"),
        ] {
            assert_eq!(age(at(0), at(seconds)), text);
        }
    }
}
