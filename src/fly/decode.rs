//! Reads successful answers: `null` is nothing, and an answer that lacks what it is about is no answer. It must never put a
//! value from the body into an error.

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::fly::wire::{
    App, Apps, Executed, ExtendedVolume, Machine, OrgMachines, OrgVolumes, Regions, SecretsUpdated,
    Snapshot, Started, Volume, Waited,
};

/// The body of a successful answer.
pub trait Answer: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// The place at which it cannot be read.
    fn read(body: &[u8]) -> Result<Self, String>;
}

/// Nothing is expected, and whatever comes is fine.
impl Answer for () {
    fn read(_body: &[u8]) -> Result<Self, String> {
        Ok(())
    }
}

/// What must be true of a part of an answer, and what is taken off it.
trait Sound: DeserializeOwned + Default {
    /// A list without this key is no list: it must not be taken for an empty one.
    const KEY: Option<&'static str> = None;
    /// Whether no body at all stands for the default.
    const OPTIONAL: bool = false;

    /// Says which field is missing.
    fn settle(&mut self) -> Result<(), &'static str> {
        Ok(())
    }
}

impl<T: Sound> Answer for T {
    fn read(body: &[u8]) -> Result<Self, String> {
        if T::OPTIONAL && body.trim_ascii().is_empty() {
            return Ok(T::default());
        }
        let mut value = parse(body)?;
        if let Some(key) = T::KEY
            && value.get(key).is_none()
        {
            return Err(key.to_owned());
        }
        drop_nulls(&mut value);
        let mut answer: T = typed(value)?;
        answer.settle()?;
        Ok(answer)
    }
}

impl<T: Sound> Answer for Vec<T> {
    fn read(body: &[u8]) -> Result<Self, String> {
        let mut value = parse(body)?;
        if value.is_null() {
            return Ok(Self::new());
        }
        drop_nulls(&mut value);
        let mut answer: Self = typed(value)?;
        answer.iter_mut().try_for_each(T::settle)?;
        Ok(answer)
    }
}

impl Sound for App {
    fn settle(&mut self) -> Result<(), &'static str> {
        named(&self.name, "name")
    }
}

impl Sound for Apps {
    const KEY: Option<&'static str> = Some("apps");

    fn settle(&mut self) -> Result<(), &'static str> {
        self.apps.iter_mut().try_for_each(App::settle)
    }
}

impl Sound for Machine {
    fn settle(&mut self) -> Result<(), &'static str> {
        // Made up by the API for old clients.
        self.checks.retain(|check| !check.name.starts_with("bg_deployments_compat"));
        named(&self.id, "id")
    }
}

impl Sound for OrgMachines {
    const KEY: Option<&'static str> = Some("machines");

    fn settle(&mut self) -> Result<(), &'static str> {
        self.machines.iter().try_for_each(|machine| {
            named(&machine.id, "machines[].id")?;
            named(&machine.app_name, "machines[].app_name")
        })
    }
}

impl Sound for OrgVolumes {
    const KEY: Option<&'static str> = Some("volumes");

    fn settle(&mut self) -> Result<(), &'static str> {
        self.volumes.iter_mut().try_for_each(Volume::settle)
    }
}

impl Sound for Volume {
    fn settle(&mut self) -> Result<(), &'static str> {
        named(&self.id, "id")
    }
}

impl Sound for ExtendedVolume {}

impl Sound for Snapshot {
    fn settle(&mut self) -> Result<(), &'static str> {
        named(&self.id, "id")
    }
}

impl Sound for SecretsUpdated {}

impl Sound for Regions {}

impl Sound for Executed {}

impl Sound for Started {
    const OPTIONAL: bool = true;
}

impl Sound for Waited {
    const OPTIONAL: bool = true;
}

fn named(id: &str, field: &'static str) -> Result<(), &'static str> {
    if id.is_empty() { Err(field) } else { Ok(()) }
}

fn parse(body: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(body)
        .map_err(|error| format!("line {} column {}", error.line(), error.column()))
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    // The error's own text may quote the value, so only the place is kept.
    serde_path_to_error::deserialize(value).map_err(|error| error.path().to_string())
}

/// Go writes `null` where others leave the field out.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, field| !field.is_null());
            fields.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
