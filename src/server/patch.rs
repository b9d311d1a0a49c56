//! Bodies of writes: reading them within their limit, and the two kinds of patches. It must never quote what it read.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::Value;

use crate::api::{
    self, json,
    kind::{Form, Kind},
    manifest,
};
use crate::server::{call::FieldValidation, protobuf, status::Status};

/// Bytes of a request's body; what is stored is smaller.
pub(super) const BODY_BYTES_MAX: usize = manifest::OBJECT_BYTES_MAX;
/// Bytes of a report, which is about many environments.
pub(super) const REPORT_BYTES_MAX: usize = 1024 * 1024;
/// What browsers add to every request, and nobody else does.
const FETCH_SITE: &str = "sec-fetch-site";
/// How long a body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// What a body is said to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// An object in JSON.
    Json,
    /// An object in YAML.
    Yaml,
    /// An object in Kubernetes' protobuf.
    Protobuf,
    /// RFC 7386.
    MergePatch,
    /// RFC 6902.
    JsonPatch,
    /// A configuration for server-side apply.
    Apply,
    /// Kubernetes' own, which is taken for a merge patch where Kubernetes would offer it.
    StrategicPatch,
    /// There is no such header, in a request of a browser.
    Unsaid,
    /// Something else.
    Other,
}

impl Media {
    /// As the header says.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let Some(value) = headers.get(header::CONTENT_TYPE) else {
            // Some of Kubernetes' clients say nothing and mean JSON. So could a web page, which a browser does not ask about
            // first then; but it tells.
            return if headers.contains_key(FETCH_SITE) { Self::Unsaid } else { Self::Json };
        };
        let text = value.to_str().unwrap_or_default();
        match text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase().as_str() {
            "application/json" => Self::Json,
            "application/yaml" | "application/x-yaml" | "text/yaml" => Self::Yaml,
            "application/vnd.kubernetes.protobuf" => Self::Protobuf,
            "application/merge-patch+json" => Self::MergePatch,
            "application/json-patch+json" => Self::JsonPatch,
            "application/apply-patch+yaml" | "application/apply-patch+json" => Self::Apply,
            "application/strategic-merge-patch+json" => Self::StrategicPatch,
            _ => Self::Other,
        }
    }
}

/// How a stored object is to change.
#[derive(Debug)]
pub(super) enum Change {
    /// Into this one.
    Whole(Value),
    /// By this merge patch.
    Merge(Value),
    /// By these steps.
    Steps(json_patch::Patch),
    /// As one of these, of the object as a group has it.
    Of(&'static Form, Box<Self>),
}

impl Change {
    /// Reads a patch for a kind, and remarks about it.
    pub(super) fn patch(
        kind: Kind,
        media: Media,
        body: &[u8],
        validation: FieldValidation,
    ) -> Result<(Self, Vec<String>), Status> {
        match media {
            Media::MergePatch => {
                json(body, validation).map(|(patch, remarks)| (Self::Merge(patch), remarks))
            }
            // Kubernetes has strategies for its own kinds only.
            Media::StrategicPatch if kind.info().group != api::GROUP => {
                json(body, validation).map(|(patch, remarks)| (Self::Merge(patch), remarks))
            }
            Media::JsonPatch => {
                let (steps, remarks) = json(body, validation)?;
                let steps = serde_json::from_value(steps).map(Self::Steps).map_err(|_| {
                    Status::bad_request("the body is not a list of JSON patch operations")
                })?;
                Ok((steps, remarks))
            }
            Media::StrategicPatch
            | Media::Apply
            | Media::Json
            | Media::Yaml
            | Media::Protobuf
            | Media::Unsaid
            | Media::Other => Err(Status::unsupported_media_type(
                "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }

    /// The same change of an object as a group has it.
    pub(super) fn of_form(self, form: Option<&'static Form>) -> Self {
        match form {
            Some(form) => Self::Of(form, Box::new(self)),
            None => self,
        }
    }

    /// The object as it is to be, from what callers see of it now.
    pub(super) fn apply(&self, mut shown: Value) -> Result<Value, Status> {
        match self {
            Self::Whole(object) => return Ok(object.clone()),
            Self::Of(form, change) => {
                let own = shown.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
                let own = own.to_owned();
                return Ok(form.read(change.apply(form.show(shown))?, &own));
            }
            Self::Merge(patch) => json_patch::merge(&mut shown, patch),
            Self::Steps(steps) => json_patch::patch(&mut shown, steps).map_err(|error| {
                Status::unprocessable(format!(
                    "the JSON patch cannot be applied: operation {} at `{}` failed",
                    error.operation, error.path
                ))
            })?,
        }
        Ok(shown)
    }
}

/// Whatever brings a request's bytes: a connection, or a caller in this process.
pub trait RequestBody: hyper::body::Body<Data = Bytes, Error: Into<Broken>> + Send {}

impl<T: hyper::body::Body<Data = Bytes, Error: Into<Broken>> + Send> RequestBody for T {}

/// Why a body did not arrive.
type Broken = Box<dyn std::error::Error + Send + Sync>;

/// The body, if it is within its limit and comes in time.
pub(super) async fn read(body: impl RequestBody, bytes_max: usize) -> Result<Bytes, Status> {
    let whole = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY_TIMEOUT, whole).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            Err(Status::too_large(format!("the body has more than {bytes_max} bytes")))
        }
        Ok(Err(_)) => Err(Status::bad_request("the body did not arrive whole")),
        Err(_) => Err(Status::bad_request("the body did not arrive in time")),
    }
}

/// An object in JSON, YAML or protobuf, and remarks about it.
pub(super) fn object(
    media: Media,
    body: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    match media {
        Media::Json => json(body, validation),
        Media::Yaml => Ok((yaml(body)?, Vec::new())),
        Media::Protobuf => {
            let object = protobuf::read(body).map_err(|error| match error {
                protobuf::Error::Kind { .. } => Status::unsupported_media_type(error.to_string()),
                protobuf::Error::Broken => Status::bad_request(error.to_string()),
            })?;
            Ok((object, Vec::new()))
        }
        Media::MergePatch
        | Media::Apply
        | Media::JsonPatch
        | Media::StrategicPatch
        | Media::Unsaid
        | Media::Other => Err(Status::unsupported_media_type(
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
        )),
    }
}

/// A configuration for server-side apply, and remarks about it. Most clients that say YAML send JSON.
pub(super) fn configuration(
    body: &[u8],
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), Status> {
    let is_json = body.trim_ascii_start().starts_with(b"{");
    object(if is_json { Media::Json } else { Media::Yaml }, body, validation)
}

fn json(body: &[u8], validation: FieldValidation) -> Result<(Value, Vec<String>), Status> {
    let read = match validation {
        FieldValidation::Strict | FieldValidation::Unsaid => {
            json::parse(body).map(|it| (it, Vec::new()))
        }
        FieldValidation::Warn | FieldValidation::Ignore => json::parse_last(body),
    };
    let (value, mut twice) = read.map_err(|error| {
        Status::bad_request(match &error.problem {
            json::Problem::Syntax => format!("the body: {error}"),
            json::Problem::Duplicate(path) => format!(
                "strict decoding error: duplicate field \"{path}\" (line {}, column {})",
                error.line, error.column
            ),
        })
    })?;
    if validation == FieldValidation::Ignore {
        twice.clear();
    }
    Ok((value, twice.into_iter().map(|it| format!("duplicate field \"{it}\"")).collect()))
}

/// By the rules for manifests, of which a body is one.
fn yaml(body: &[u8]) -> Result<Value, Status> {
    let mut documents = manifest::parse(body)
        .map_err(|it| Status::bad_request(format!("the body: line {}: {}", it.line, it.problem)))?;
    match (documents.pop(), documents.is_empty()) {
        (Some(only), true) => Ok(only.value),
        (Some(_) | None, _) => Err(Status::bad_request("the body is not one object")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn patched(media: Media, patch: Value) -> Result<Value, u16> {
        let before = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {"n": [1, 2]}});
        let strict = FieldValidation::Strict;
        let change = Change::patch(Kind::Environment, media, patch.to_string().as_bytes(), strict);
        change.and_then(|(change, _)| change.apply(before)).map_err(|status| status.code.as_u16())
    }

    #[test]
    fn a_merge_patch_sets_and_removes() {
        let patch = json!({"metadata": {"labels": {"a": null, "c": "3"}}, "spec": {"n": [3]}});
        assert_eq!(
            patched(Media::MergePatch, patch),
            Ok(json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"n": [3]}}))
        );
    }

    #[test]
    fn a_json_patch_whose_test_fails_changes_nothing() {
        let patch = json!([{"op": "test", "path": "/spec/n/0", "value": 7}]);
        assert_eq!(patched(Media::JsonPatch, patch), Err(422));
        let patch = json!([{"op": "remove", "path": "/spec/n/0"}]);
        assert_eq!(patched(Media::JsonPatch, patch).unwrap()["spec"], json!({"n": [2]}));
    }

    #[test]
    fn a_strategic_patch_is_not_for_own_kinds() {
        assert_eq!(patched(Media::StrategicPatch, json!({})), Err(415));
    }
}
