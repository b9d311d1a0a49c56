//! The JSON form of a replay, with the changes that only it can order. It must never accept what the header form refuses.

use std::fmt;

use http::{
    HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE},
    uri::PathAndQuery,
};

use super::{Fields, Invalid, Replay};

/// Changes to a request before it is replayed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Transform {
    /// The new path, with its query if it has one.
    pub path: Option<PathAndQuery>,
    /// Headers taken out.
    pub delete_headers: Vec<HeaderName>,
    /// Headers set after that; they replace those of the same name.
    pub set_headers: Vec<(HeaderName, HeaderValue)>,
}

impl fmt::Debug for Transform {
    /// Values may be credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.set_headers.iter().map(|(name, _)| name).collect();
        f.debug_struct("Transform")
            .field("path", &self.path)
            .field("delete_headers", &self.delete_headers)
            .field("set_headers", &names)
            .finish()
    }
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    region: Option<String>,
    instance: Option<String>,
    prefer_instance: Option<String>,
    app: Option<String>,
    state: Option<String>,
    elsewhere: Option<bool>,
    timeout: Option<String>,
    fallback: Option<String>,
    #[serde(default)]
    transform: Changes,
    // Replays are not cached here, so what is said about caching changes nothing.
    #[serde(rename = "cache")]
    _cache: Option<serde_json::Value>,
    #[serde(rename = "allow_bypass")]
    _allow_bypass: Option<bool>,
}

#[derive(Default, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Changes {
    path: Option<String>,
    #[serde(default)]
    delete_headers: Vec<String>,
    #[serde(default)]
    set_headers: Vec<Header>,
}

#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    name: String,
    value: String,
}

/// Reads a body of type `application/vnd.fly.replay+json`.
///
/// # Errors
/// [`Invalid`] for anything else.
pub fn parse_json(body: &[u8]) -> Result<Replay, Invalid> {
    let document: Document = serde_json::from_slice(body).map_err(|_| Invalid::Unreadable)?;
    let mut fields = Fields::default();
    let texts = [
        ("region", document.region),
        ("instance", document.instance),
        ("prefer_instance", document.prefer_instance),
        ("app", document.app),
        ("state", document.state),
        ("timeout", document.timeout),
        ("fallback", document.fallback),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            fields.set(key, &value, true)?;
        }
    }
    let mut replay = fields.finish()?;
    replay.elsewhere = document.elsewhere.unwrap_or_default();
    replay.transform = document.transform.read()?;
    Ok(replay)
}

impl Changes {
    fn read(self) -> Result<Transform, Invalid> {
        let path = self.path.map(|path| self::path(&path)).transpose()?;
        let delete_headers =
            self.delete_headers.iter().map(|name| header_name(name)).collect::<Result<_, _>>()?;
        let set_headers = self
            .set_headers
            .iter()
            .map(|header| {
                let value = HeaderValue::from_str(&header.value)
                    .map_err(|_| Invalid::Value("transform.set_headers"))?;
                Ok((header_name(&header.name)?, value))
            })
            .collect::<Result<_, _>>()?;
        Ok(Transform { path, delete_headers, set_headers })
    }
}

fn path(text: &str) -> Result<PathAndQuery, Invalid> {
    if !text.starts_with('/') {
        return Err(Invalid::Value("transform.path"));
    }
    text.parse().map_err(|_| Invalid::Value("transform.path"))
}

/// Headers that frame a message belong to the connection and cannot be changed from outside.
fn header_name(text: &str) -> Result<HeaderName, Invalid> {
    let name: HeaderName = text.parse().map_err(|_| Invalid::Value("transform"))?;
    let framing =
        [CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(&name);
    if framing { Err(Invalid::Value("transform")) } else { Ok(name) }
}
