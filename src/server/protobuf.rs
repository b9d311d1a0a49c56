//! Request bodies in Kubernetes' protobuf, which its newer typed clients send: a table for each kind says which field has
//! which number. Only reading; answers are JSON. It must never panic, whatever the bytes are, nor put a value into an error.

use base64::Engine as _;
use serde_json::{Map, Value, json};

use crate::api::Timestamp;

/// What every body starts with.
const MAGIC: &[u8] = b"k8s\0";
/// Messages in messages; Kubernetes' own have six levels.
const DEPTH_MAX: usize = 16;

/// Why bytes are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Error {
    /// The kind has no table.
    #[error("`{kind}` of `{api_version}` is not read from protobuf here; send JSON")]
    Kind {
        /// As the body says.
        api_version: String,
        /// As the body says.
        kind: String,
    },
    /// Cut off, or not what the table says.
    #[error("the body is not Kubernetes' protobuf")]
    Broken,
}

/// How a field's bytes become JSON.
#[derive(Debug, Clone, Copy)]
enum Type {
    Text,
    /// Base64 in JSON.
    Bytes,
    Number,
    Flag,
    /// Seconds and nanoseconds; in JSON whole seconds.
    Time,
    /// The same, in JSON with microseconds.
    MicroTime,
    /// A message with one text, which stands for it.
    Quantity,
    /// A message with JSON in it.
    Json,
    Message(&'static [Field]),
    List(&'static Type),
    /// A map from text.
    Map(&'static Type),
}

type Field = (u32, &'static str, Type);

use Type::{
    Bytes, Flag, Json, List, Map as MapOf, Message, MicroTime, Number, Quantity, Text, Time,
};

const OWNER: &[Field] = &[
    (1, "kind", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "controller", Flag),
    (7, "blockOwnerDeletion", Flag),
];

const MANAGED: &[Field] = &[
    (1, "manager", Text),
    (2, "operation", Text),
    (3, "apiVersion", Text),
    (4, "time", Time),
    (6, "fieldsType", Text),
    (7, "fieldsV1", Json),
    (8, "subresource", Text),
];

const METADATA: Field = (
    1,
    "metadata",
    Message(&[
        (1, "name", Text),
        (2, "generateName", Text),
        (3, "namespace", Text),
        (4, "selfLink", Text),
        (5, "uid", Text),
        (6, "resourceVersion", Text),
        (7, "generation", Number),
        (8, "creationTimestamp", Time),
        (9, "deletionTimestamp", Time),
        (10, "deletionGracePeriodSeconds", Number),
        (11, "labels", MapOf(&Text)),
        (12, "annotations", MapOf(&Text)),
        (13, "ownerReferences", List(&Message(OWNER))),
        (14, "finalizers", List(&Text)),
        (17, "managedFields", List(&Message(MANAGED))),
    ]),
);

const REFERENCE: &[Field] = &[
    (1, "kind", Text),
    (2, "namespace", Text),
    (3, "name", Text),
    (4, "uid", Text),
    (5, "apiVersion", Text),
    (6, "resourceVersion", Text),
    (7, "fieldPath", Text),
];

const SOURCE: &[Field] = &[(1, "component", Text), (2, "host", Text)];
const SERIES: &[Field] = &[(1, "count", Number), (2, "lastObservedTime", MicroTime)];

const CORE_EVENT: &[Field] = &[
    METADATA,
    (2, "involvedObject", Message(REFERENCE)),
    (3, "reason", Text),
    (4, "message", Text),
    (5, "source", Message(SOURCE)),
    (6, "firstTimestamp", Time),
    (7, "lastTimestamp", Time),
    (8, "count", Number),
    (9, "type", Text),
    (10, "eventTime", MicroTime),
    (11, "series", Message(SERIES)),
    (12, "action", Text),
    (13, "related", Message(REFERENCE)),
    (14, "reportingComponent", Text),
    (15, "reportingInstance", Text),
];

const EVENT: &[Field] = &[
    METADATA,
    (2, "eventTime", MicroTime),
    (3, "series", Message(SERIES)),
    (4, "reportingController", Text),
    (5, "reportingInstance", Text),
    (6, "action", Text),
    (7, "reason", Text),
    (8, "regarding", Message(REFERENCE)),
    (9, "related", Message(REFERENCE)),
    (10, "note", Text),
    (11, "type", Text),
    (12, "deprecatedSource", Message(SOURCE)),
    (13, "deprecatedFirstTimestamp", Time),
    (14, "deprecatedLastTimestamp", Time),
    (15, "deprecatedCount", Number),
];

const LEASE: &[Field] = &[
    METADATA,
    (
        2,
        "spec",
        Message(&[
            (1, "holderIdentity", Text),
            (2, "leaseDurationSeconds", Number),
            (3, "acquireTime", MicroTime),
            (4, "renewTime", MicroTime),
            (5, "leaseTransitions", Number),
            (6, "strategy", Text),
            (7, "preferredHolder", Text),
        ]),
    ),
];

const ACCESS: &[Field] = &[
    METADATA,
    (
        2,
        "spec",
        Message(&[
            (
                1,
                "resourceAttributes",
                Message(&[
                    (1, "namespace", Text),
                    (2, "verb", Text),
                    (3, "group", Text),
                    (4, "version", Text),
                    (5, "resource", Text),
                    (6, "subresource", Text),
                    (7, "name", Text),
                ]),
            ),
            (2, "nonResourceAttributes", Message(&[(1, "path", Text), (2, "verb", Text)])),
        ]),
    ),
];

const DELETE_OPTIONS: &[Field] = &[
    (1, "gracePeriodSeconds", Number),
    (2, "preconditions", Message(&[(1, "uid", Text), (2, "resourceVersion", Text)])),
    (3, "orphanDependents", Flag),
    (4, "propagationPolicy", Text),
    (5, "dryRun", List(&Text)),
];

/// The kinds that are read, and what is in them.
const KINDS: &[(&str, &str, &[Field])] = &[
    (
        "v1",
        "Namespace",
        &[
            METADATA,
            (2, "spec", Message(&[(1, "finalizers", List(&Text))])),
            (3, "status", Message(&[(1, "phase", Text)])),
        ],
    ),
    (
        "v1",
        "ConfigMap",
        &[
            METADATA,
            (2, "data", MapOf(&Text)),
            (3, "binaryData", MapOf(&Bytes)),
            (4, "immutable", Flag),
        ],
    ),
    (
        "v1",
        "Secret",
        &[
            METADATA,
            (2, "data", MapOf(&Bytes)),
            (3, "type", Text),
            (4, "stringData", MapOf(&Text)),
            (5, "immutable", Flag),
        ],
    ),
    ("v1", "ResourceQuota", &[METADATA, (2, "spec", Message(&[(1, "hard", MapOf(&Quantity))]))]),
    ("v1", "Event", CORE_EVENT),
    ("events.k8s.io/v1", "Event", EVENT),
    ("coordination.k8s.io/v1", "Lease", LEASE),
    ("authorization.k8s.io/v1", "SelfSubjectAccessReview", ACCESS),
    (
        "authorization.k8s.io/v1",
        "SelfSubjectRulesReview",
        &[METADATA, (2, "spec", Message(&[(1, "namespace", Text)]))],
    ),
    ("authentication.k8s.io/v1", "SelfSubjectReview", &[METADATA]),
    ("authentication.k8s.io/v1beta1", "SelfSubjectReview", &[METADATA]),
];

/// Reads an object, with its `apiVersion` and `kind`.
///
/// # Errors
/// `Kind` for one that has no table, `Broken` for what is not protobuf.
pub(super) fn read(body: &[u8]) -> Result<Value, Error> {
    let envelope = body.strip_prefix(MAGIC).ok_or(Error::Broken)?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for part in Parts(envelope) {
        match part? {
            (1, Wire::Bytes(of)) => {
                for part in Parts(of) {
                    match part? {
                        (1, Wire::Bytes(bytes)) => api_version = text(bytes)?,
                        (2, Wire::Bytes(bytes)) => kind = text(bytes)?,
                        _ => {}
                    }
                }
            }
            (2, Wire::Bytes(bytes)) => raw = bytes,
            // A content encoding or type: nobody sends one.
            (3 | 4, Wire::Bytes(bytes)) if !bytes.is_empty() => return Err(Error::Broken),
            _ => {}
        }
    }
    // Clients name them in the group of what they delete, or in none.
    let fields = if kind == "DeleteOptions" {
        Some(DELETE_OPTIONS)
    } else {
        let found =
            KINDS.iter().find(|(version, name, _)| *version == api_version && *name == kind);
        found.map(|(_, _, fields)| *fields)
    };
    let Some(fields) = fields else { return Err(Error::Kind { api_version, kind }) };
    let mut object = Map::new();
    object.insert("apiVersion".to_owned(), Value::String(api_version));
    object.insert("kind".to_owned(), Value::String(kind));
    message(fields, raw, DEPTH_MAX, &mut object)?;
    Ok(Value::Object(object))
}

fn message(
    fields: &[Field],
    bytes: &[u8],
    depth: usize,
    into: &mut Map<String, Value>,
) -> Result<(), Error> {
    let depth = depth.checked_sub(1).ok_or(Error::Broken)?;
    for part in Parts(bytes) {
        let (number, wire) = part?;
        let Some((_, name, of)) = fields.iter().find(|(it, _, _)| *it == number) else { continue };
        match of {
            List(item) => {
                let item = value(item, wire, depth)?;
                let list = into.entry(*name).or_insert_with(|| json!([]));
                list.as_array_mut().ok_or(Error::Broken)?.push(item);
            }
            MapOf(item) => {
                let Wire::Bytes(entry) = wire else { return Err(Error::Broken) };
                let (key, item) = pair(item, entry, depth)?;
                let map = into.entry(*name).or_insert_with(|| json!({}));
                map.as_object_mut().ok_or(Error::Broken)?.insert(key, item);
            }
            of => {
                let value = value(of, wire, depth)?;
                // Go writes what is empty too; absent means the same.
                if !(value.is_null() || value == "") {
                    into.insert((*name).to_owned(), value);
                }
            }
        }
    }
    Ok(())
}

fn pair(item: &Type, entry: &[u8], depth: usize) -> Result<(String, Value), Error> {
    let (mut key, mut found) = (String::new(), None);
    for part in Parts(entry) {
        match part? {
            (1, Wire::Bytes(bytes)) => key = text(bytes)?,
            (2, wire) => found = Some(value(item, wire, depth)?),
            _ => {}
        }
    }
    match found {
        Some(found) => Ok((key, found)),
        None => Ok((key, value(item, Wire::Bytes(&[]), depth)?)),
    }
}

fn value(of: &Type, wire: Wire<'_>, depth: usize) -> Result<Value, Error> {
    match (of, wire) {
        (Text, Wire::Bytes(bytes)) => Ok(Value::String(text(bytes)?)),
        (Bytes, Wire::Bytes(bytes)) => {
            Ok(Value::String(base64::engine::general_purpose::STANDARD.encode(bytes)))
        }
        // As Go has it: two's complement.
        (Number, Wire::Number(number)) => Ok(json!(number.cast_signed())),
        (Flag, Wire::Number(number)) => Ok(json!(number != 0)),
        (Time, Wire::Bytes(bytes)) => time(bytes, 0),
        (MicroTime, Wire::Bytes(bytes)) => time(bytes, 6),
        (Quantity, Wire::Bytes(bytes)) => {
            Ok(Value::String(inner(bytes)?.map_or(Ok(String::new()), text)?))
        }
        (Json, Wire::Bytes(bytes)) => match inner(bytes)? {
            Some(bytes) => serde_json::from_slice(bytes).map_err(|_| Error::Broken),
            None => Ok(Value::Null),
        },
        (Message(fields), Wire::Bytes(bytes)) => {
            let mut object = Map::new();
            message(fields, bytes, depth, &mut object)?;
            Ok(Value::Object(object))
        }
        _ => Err(Error::Broken),
    }
}

/// The first field of a message, which is bytes.
fn inner(bytes: &[u8]) -> Result<Option<&[u8]>, Error> {
    let mut found = None;
    for part in Parts(bytes) {
        if let (1, Wire::Bytes(bytes)) = part? {
            found = Some(bytes);
        }
    }
    Ok(found)
}

fn text(bytes: &[u8]) -> Result<String, Error> {
    str::from_utf8(bytes).map(str::to_owned).map_err(|_| Error::Broken)
}

/// A time in RFC 3339, or null for Go's zero time, which it writes as an empty message.
fn time(bytes: &[u8], digits: u8) -> Result<Value, Error> {
    let (mut seconds, mut nanoseconds) = (0_i64, 0_i32);
    for part in Parts(bytes) {
        match part? {
            (1, Wire::Number(number)) => seconds = number.cast_signed(),
            (2, Wire::Number(number)) => {
                nanoseconds = i32::try_from(number.cast_signed()).map_err(|_| Error::Broken)?;
            }
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let time = Timestamp::new(seconds, nanoseconds).map_err(|_| Error::Broken)?;
    let printer = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(digits));
    Ok(Value::String(printer.timestamp_to_string(&time)))
}

/// A field's value as it is on the wire.
#[derive(Debug, Clone, Copy)]
enum Wire<'a> {
    Number(u64),
    Bytes(&'a [u8]),
    /// Of a fixed length; no table has one.
    Fixed,
}

/// A message's fields, one after the other.
struct Parts<'a>(&'a [u8]);

impl<'a> Iterator for Parts<'a> {
    type Item = Result<(u32, Wire<'a>), Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let part = self.part();
        if part.is_none() {
            // Nothing after it can be read.
            self.0 = &[];
        }
        Some(part.ok_or(Error::Broken))
    }
}

impl<'a> Parts<'a> {
    fn part(&mut self) -> Option<(u32, Wire<'a>)> {
        let tag = self.number()?;
        let wire = match tag & 7 {
            0 => Wire::Number(self.number()?),
            1 => {
                self.take(8)?;
                Wire::Fixed
            }
            2 => {
                let length = usize::try_from(self.number()?).ok()?;
                Wire::Bytes(self.take(length)?)
            }
            5 => {
                self.take(4)?;
                Wire::Fixed
            }
            _ => return None,
        };
        let number = u32::try_from(tag >> 3).ok().filter(|it| *it > 0)?;
        Some((number, wire))
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    /// Seven bits in each byte, the lowest first.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        for place in 0..10 {
            let byte = *self.take(1)?.first()?;
            let bits = u64::from(byte & 0x7f);
            if place == 9 && bits > 1 {
                return None;
            }
            number |= bits << (7 * place);
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests;
