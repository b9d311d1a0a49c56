//! What faults do to the answer of a call: one in its place, or the real one bent, late or cut. It must never know what the
//! call does.

use std::time::Duration;

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CONTENT_LENGTH, RETRY_AFTER},
};
use serde_json::{Value, json};

use crate::chance;
use crate::local::{
    Backend,
    delivered::Delivered,
    faults::{Kind, Rule},
    refusal::Refusal,
    respond,
};

const SLOW: Duration = Duration::from_secs(90);
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(5);
const EXEC: Duration = Duration::from_secs(30);
const STATE: &str = "hibernating";
/// A field that Fly does not have.
const FIELD: &str = "orbit";

impl Backend {
    /// What is answered in place of the call's effect, if the effect is not to be.
    pub(in crate::local) fn instead(&self, rule: &Rule, template: &str) -> Option<Delivered> {
        let done = match rule.kind {
            Kind::Answer408NotDone
            | Kind::Answer500NotDone
            | Kind::Answer502NotDone
            | Kind::Answer503NotDone
            | Kind::ResetBefore
            | Kind::RateLimited
            | Kind::RateLimitedRetryAfter
            | Kind::Unauthenticated
            | Kind::Forbidden
            | Kind::FlappingNotFound => false,
            Kind::Storm408 => chance::below(&*self.faults.chance, 2) == 0,
            _ => true,
        };
        if done {
            return None;
        }
        if rule.kind == Kind::ResetBefore {
            return Some(Delivered::Nothing);
        }
        self.canned(rule, template).map(Delivered::Whole)
    }

    /// What becomes of the answer after the effect.
    pub(in crate::local) async fn bend(
        &self,
        rule: &Rule,
        template: &str,
        real: Response<Bytes>,
    ) -> Delivered {
        if rule.kind == Kind::ExecTimesOut {
            tokio::time::sleep(rule.takes.unwrap_or(EXEC)).await;
        }
        if let Some(canned) = self.canned(rule, template) {
            return Delivered::Whole(canned);
        }
        match rule.kind {
            Kind::ResetAfter => Delivered::Nothing,
            Kind::Slow => {
                tokio::time::sleep(rule.takes.unwrap_or(SLOW)).await;
                Delivered::Whole(real)
            }
            Kind::TruncatedJson => Delivered::Whole(real.map(half)),
            Kind::TruncatedBody => Delivered::Cut(cut(real)),
            Kind::UnknownState => {
                let word = json!(rule.state.as_deref().unwrap_or(STATE));
                Delivered::Whole(edited(real, |it| {
                    if let Some(state) = it.get_mut("state") {
                        *state = word.clone();
                    }
                }))
            }
            Kind::RegionMissing => Delivered::Whole(edited(real, |it| {
                it.remove("region");
            })),
            Kind::UnknownField => Delivered::Whole(edited(real, |it| {
                it.insert(FIELD.to_owned(), json!({"apogee_km": 35_786}));
            })),
            Kind::EmptyOk => Delivered::Whole(emptied(real)),
            Kind::ExecFails => Delivered::Whole(edited(real, |it| {
                it.insert("exit_code".to_owned(), json!(rule.code.unwrap_or(1)));
            })),
            Kind::MachineNameViolation => Delivered::Whole(self.sent_twice(real)),
            _ => Delivered::Whole(real),
        }
    }

    /// What the second of two equal creations is answered, if the first went well.
    fn sent_twice(&self, real: Response<Bytes>) -> Response<Bytes> {
        let made: Value = serde_json::from_slice(real.body()).unwrap_or_default();
        let text = |field: &str| made.get(field).and_then(Value::as_str).map(str::to_owned);
        match (text("id"), text("name")) {
            (Some(id), Some(name)) if real.status().is_success() => {
                respond::response(Err(Refusal::NameViolation { id, name }), &self.request_id())
            }
            _ => real,
        }
    }

    /// An answer that does not hang on the call.
    fn canned(&self, rule: &Rule, template: &str) -> Option<Response<Bytes>> {
        let id = self.request_id();
        let refused = |refusal| respond::response(Err(refusal), &id);
        Some(match rule.kind {
            Kind::Answer408Done | Kind::Answer408NotDone | Kind::Storm408 | Kind::ExecTimesOut => {
                refused(Refusal::Deadline("context deadline exceeded"))
            }
            Kind::Answer500Done | Kind::Answer500NotDone => {
                refused(Refusal::Internal("internal server error".to_owned()))
            }
            Kind::Answer502Done | Kind::Answer502NotDone => respond::page(
                StatusCode::BAD_GATEWAY,
                ("text/html", "<html><head><title>502 Bad Gateway</title></head></html>"),
                &id,
            ),
            Kind::Answer503Done | Kind::Answer503NotDone => respond::page(
                StatusCode::SERVICE_UNAVAILABLE,
                ("text/plain; charset=utf-8", "Service Unavailable"),
                &id,
            ),
            Kind::RateLimited => refused(Refusal::RateLimited),
            Kind::RateLimitedRetryAfter => {
                let mut response = refused(Refusal::RateLimited);
                let seconds = rule.takes.unwrap_or(RETRY_AFTER_DEFAULT).as_secs();
                response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
                response
            }
            Kind::Unauthenticated => refused(Refusal::Unauthenticated),
            Kind::Forbidden => refused(Refusal::Forbidden),
            Kind::FlappingNotFound => refused(Refusal::NotFound(subject_of(template))),
            _ => return None,
        })
    }
}

/// What a 404 for this path would be about.
fn subject_of(template: &str) -> &'static str {
    if template.contains("machines/{id}") {
        "machine"
    } else if template.contains("volumes/{id}") {
        "volume"
    } else {
        "app"
    }
}

fn half(body: Bytes) -> Bytes {
    body.slice(..body.len() / 2)
}

/// The head promises all of the body.
fn cut(mut whole: Response<Bytes>) -> Response<Bytes> {
    let length = HeaderValue::from(whole.body().len());
    whole.headers_mut().insert(CONTENT_LENGTH, length);
    whole.map(half)
}

/// Edits every object that stands for something: the answer itself, or what it lists.
fn edited(
    real: Response<Bytes>,
    edit: impl Fn(&mut serde_json::Map<String, Value>),
) -> Response<Bytes> {
    if !real.status().is_success() {
        return real;
    }
    real.map(|body| {
        let Ok(mut value) = serde_json::from_slice::<Value>(&body) else { return body };
        let each = |list: &mut Vec<Value>| {
            list.iter_mut().filter_map(Value::as_object_mut).for_each(&edit);
        };
        match &mut value {
            Value::Array(list) => each(list),
            Value::Object(object) => {
                for list in ["machines", "volumes", "apps"] {
                    if let Some(Value::Array(list)) = object.get_mut(list) {
                        each(list);
                    }
                }
                edit(object);
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
        Bytes::from(value.to_string())
    })
}

fn emptied(mut real: Response<Bytes>) -> Response<Bytes> {
    *real.status_mut() = StatusCode::OK;
    real.map(|body| Bytes::from_static(if body.starts_with(b"[") { b"[]" } else { b"{}" }))
}
