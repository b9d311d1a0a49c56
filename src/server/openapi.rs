//! The addresses of OpenAPI documents, and what caches may keep. It must never say what is in a document; `api::openapi` does.

use std::sync::LazyLock;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, header};
use serde_json::{Map, Value, json};

use crate::api::{
    offer::{self, Behind},
    openapi,
};
use crate::net::Body;
use crate::server::{call::OpenApi, respond, status::Status};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROTOBUF: HeaderValue =
    HeaderValue::from_static("application/com.github.proto-openapi.spec.v2.v1.0+protobuf");

/// The old form as clients read it, `swagger: "2.0"`, a title, a version, and nothing described: what they ask of it is in the
/// new form, but they must be able to read it.
const OLD: &[u8] = b"\x0a\x032.0\x12\x10\x0a\x06hangar\x12\x06v0.1.0\x42\x00\x4a\x00";

/// A document and its hash.
struct Document {
    group: &'static str,
    version: &'static str,
    bytes: Bytes,
    hash: String,
}

static DOCUMENTS: LazyLock<Vec<Document>> = LazyLock::new(|| {
    let mut documents = Vec::new();
    for group in offer::groups() {
        for version in group.versions {
            let described = |it: &offer::Offer| matches!(it.behind, Behind::Kind(..));
            if !offer::of(group.name, version).any(described) {
                continue;
            }
            let bytes = Bytes::from(openapi::document(group.name, version).to_string());
            let hash = blake3::hash(&bytes).to_hex().to_string().to_uppercase();
            documents.push(Document { group: group.name, version, bytes, hash });
        }
    }
    documents
});

impl Document {
    /// `apis/hangar.dev/v1alpha1`
    fn path(&self) -> String {
        let base = if self.group.is_empty() { "api" } else { "apis" };
        format!("{base}/{}", offer::api_version(self.group, self.version))
    }

    fn address(&self) -> String {
        format!("/openapi/v3/{}?hash={}", self.path(), self.hash)
    }
}

/// Answers a request for a document.
pub(super) fn answer(asked: &OpenApi, headers: &HeaderMap) -> Result<Response<Body>, Status> {
    match asked {
        OpenApi::Old => Ok(old(headers)),
        OpenApi::Index => {
            let path = |it: &Document| (it.path(), json!({"serverRelativeURL": it.address()}));
            let paths: Map<String, Value> = DOCUMENTS.iter().map(path).collect();
            Ok(respond::json_as(&json!({"paths": paths}), JSON))
        }
        OpenApi::Group(group, version, hash) => {
            let found = DOCUMENTS.iter().find(|it| it.group == *group && it.version == *version);
            let found = found.ok_or_else(Status::no_such_path)?;
            let tag = headers.get(header::IF_NONE_MATCH).and_then(|it| it.to_str().ok());
            if tag.is_some_and(|it| it.trim_matches('"') == found.hash) {
                return Ok(respond::not_modified());
            }
            match hash {
                Some(hash) if *hash != found.hash => Ok(respond::moved(&found.address())),
                hash => {
                    let what = (JSON, found.hash.as_str());
                    Ok(respond::document(found.bytes.clone(), what, hash.is_some()))
                }
            }
        }
    }
}

fn old(headers: &HeaderMap) -> Response<Body> {
    let accept = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let first = accept.split(',').next().unwrap_or_default();
    if first.contains("proto-openapi") {
        return respond::document(OLD, (PROTOBUF, "old"), false);
    }
    let document = json!({
        "swagger": "2.0",
        "info": {"title": "hangar", "version": "v0.1.0"},
        "paths": {},
        "definitions": {},
    });
    respond::json_as(&document, JSON)
}
