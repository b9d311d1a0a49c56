//! `hangar wait`, and the waiting of other verbs: until a condition, a field or the absence of an object. It looks at what is,
//! then follows changes; it must never conclude anything from a lost connection.

use std::{
    io::{self, IsTerminal as _},
    str::FromStr,
    time::Duration,
};

use serde_json::Value;

use crate::{
    api::{column::at_path, meta::ObjectRef},
    cli::{
        Exit,
        connection::Connection,
        failure::Failure,
        orphans,
        printer::Printer,
        table,
        targets::{self, Target, label, resource},
    },
    client::{Client, Error, Query, WatchEvent},
    clock::{Clock as _, System},
    retry::Retry,
};

/// Time between attempts to reach a server that is away.
const PAUSE: Duration = Duration::from_secs(1);

/// What to wait for.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND/NAME…, KIND NAME…, or KIND with -l or --all
    #[arg(required = true, value_name = "OBJECT")]
    words: Vec<String>,
    /// condition=TYPE[=STATUS], delete, create, or jsonpath={.PATH}[=VALUE]
    #[arg(long = "for", value_name = "GOAL")]
    goal: Goal,
    /// How long to wait; 0 looks once
    #[arg(long, default_value = "30s", value_parser = duration)]
    timeout: Duration,
    /// Those that a label selector selects
    #[arg(short = 'l', long, value_name = "LABELS", conflicts_with = "all")]
    selector: Option<String>,
    /// All of a kind
    #[arg(long)]
    all: bool,
}

/// A duration: `90s`, `5m`, or `0`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}: write 90s or 5m"))
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Goal {
    /// A condition has a status, at the object's generation.
    Condition { kind: String, status: String },
    /// A field has a value, or any.
    Field { path: String, value: Option<String> },
    /// The object is there.
    Present,
    /// The object is gone, or, with a uid, replaced by another.
    Gone { uid: Option<String> },
    /// What was ordered about an orphan is done, so that it is gone.
    Ordered { uid: String },
    /// An environment serves or sleeps as declared; stuck is a failure.
    Settled,
}

impl FromStr for Goal {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("`{text}` is nothing to wait for");
        match text {
            "delete" => return Ok(Self::Gone { uid: None }),
            "create" => return Ok(Self::Present),
            _ => {}
        }
        if let Some(rest) = text.strip_prefix("condition=") {
            let (kind, status) = rest.split_once('=').unwrap_or((rest, "True"));
            return if kind.is_empty() {
                Err(wrong())
            } else {
                Ok(Self::Condition { kind: kind.to_owned(), status: status.to_owned() })
            };
        }
        let rest = text.strip_prefix("jsonpath=").ok_or_else(wrong)?;
        let (path, value) = rest.split_once('=').map_or((rest, None), |it| (it.0, Some(it.1)));
        let path = path.trim_matches(['\'', '"']);
        let path = path.strip_prefix('{').and_then(|it| it.strip_suffix('}')).unwrap_or(path);
        let path = path.strip_prefix('.').ok_or_else(wrong)?;
        let value = value.map(|it| it.trim_matches(['\'', '"']).to_owned());
        Ok(Self::Field { path: path.to_owned(), value })
    }
}

/// How an object stands to a goal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// There, with a word for it.
    Met(String),
    /// Not yet, for this reason.
    NotYet(String),
    /// Never, for this reason.
    Failed(String),
}

impl Goal {
    /// Judges an object, or its absence.
    pub(super) fn judge(&self, object: Option<&Value>) -> Verdict {
        match (self, object) {
            (Self::Gone { .. }, None) => met(),
            (Self::Gone { uid: Some(uid) }, Some(object))
                if at_path(object, "metadata.uid").is_some_and(|it| it != uid.as_str()) =>
            {
                met()
            }
            (Self::Gone { .. }, Some(object)) => going(object),
            (Self::Ordered { uid }, object) => orphans::judge(object, uid),
            (Self::Present, None) => Verdict::NotYet("it is not there yet".to_owned()),
            (Self::Present, Some(_)) => met(),
            (_, None) => Verdict::Failed("it is not there".to_owned()),
            (Self::Field { path, value }, Some(object)) => {
                let found = at_path(object, path).map(table::plain);
                if found.is_some() && value.as_ref().is_none_or(|it| found.as_ref() == Some(it)) {
                    met()
                } else {
                    Verdict::NotYet(format!("{path} is `{}`", found.unwrap_or_default()))
                }
            }
            (Self::Condition { kind, status }, Some(object)) => condition(object, kind, status),
            (Self::Settled, Some(object)) => settled(object),
        }
    }
}

/// kubectl's word, whatever was waited for.
fn met() -> Verdict {
    Verdict::Met("condition met".to_owned())
}

fn conditions(object: &Value) -> impl Iterator<Item = &Value> {
    at_path(object, "status.conditions").and_then(Value::as_array).into_iter().flatten()
}

fn field<'a>(condition: &'a Value, name: &str) -> &'a str {
    condition.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn reason(condition: &Value) -> String {
    let is = match field(condition, "status") {
        "True" => "",
        "False" => "not ",
        _ => "perhaps ",
    };
    let text = format!("{is}{} ({})", field(condition, "type"), field(condition, "reason"));
    // A condition that is as it should be has nothing to say.
    match field(condition, "message") {
        "" => text,
        message => format!("{text}: {message}"),
    }
}

/// Whether the status is about an older specification.
fn is_behind(object: &Value, condition: Option<&Value>) -> bool {
    let number = |value: Option<&Value>| value.and_then(Value::as_u64);
    let generation = number(at_path(object, "metadata.generation")).unwrap_or_default();
    let observed = number(condition.and_then(|it| it.get("observedGeneration")))
        .filter(|it| *it > 0)
        .or_else(|| number(at_path(object, "status.observedGeneration")));
    observed.is_some_and(|it| it < generation)
}

fn condition(object: &Value, kind: &str, status: &str) -> Verdict {
    let Some(found) = conditions(object).find(|it| field(it, "type").eq_ignore_ascii_case(kind))
    else {
        let there: Vec<_> = conditions(object).map(|it| field(it, "type")).collect();
        let others =
            if there.is_empty() { String::new() } else { format!(", only {}", there.join(", ")) };
        return Verdict::NotYet(format!("there is no condition {kind} yet{others}"));
    };
    if is_behind(object, Some(found)) {
        return Verdict::NotYet("the last change has not been looked at yet".to_owned());
    }
    if field(found, "status").eq_ignore_ascii_case(status) {
        met()
    } else {
        Verdict::NotYet(reason(found))
    }
}

/// A deletion that waits for a person's word is not waited for.
fn going(object: &Value) -> Verdict {
    let held = |it: &&Value| {
        field(it, "type") == "Stalled"
            && field(it, "status") == "True"
            && field(it, "reason") == "Held"
    };
    match conditions(object).find(held) {
        Some(held) => {
            Verdict::Failed(format!("its deletion is held back: {}", field(held, "message")))
        }
        None => Verdict::NotYet(table::plain(
            at_path(object, "metadata.finalizers").unwrap_or(&Value::Null),
        )),
    }
}

fn settled(object: &Value) -> Verdict {
    if is_behind(object, None) || at_path(object, "status.observedGeneration").is_none() {
        return Verdict::NotYet("the last change has not been looked at yet".to_owned());
    }
    let find = |kind: &str| conditions(object).find(|it| field(it, "type") == kind);
    let holds = |kind: &str| find(kind).is_some_and(|it| field(it, "status") == "True");
    if let Some(stalled) = find("Stalled").filter(|_| holds("Stalled")) {
        return Verdict::Failed(reason(stalled));
    }
    // It serves by what was written before, until this is done.
    let is_written_again =
        |it: &&Value| matches!(field(it, "reason"), "Personalizing" | "PersonalizeFailed");
    if let Some(updated) = find("Updated").filter(is_written_again) {
        return Verdict::NotYet(reason(updated));
    }
    if holds("Ready") {
        return Verdict::Met("ready".to_owned());
    }
    if holds("Asleep") {
        return Verdict::Met("asleep".to_owned());
    }
    Verdict::NotYet(find("Ready").map_or_else(|| "nothing was done yet".to_owned(), reason))
}

/// How waiting ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The goal was reached.
    Met(String),
    /// It was to be gone, and already was.
    Needless,
    /// It cannot be.
    Failed(String),
    /// There is no such object.
    Absent,
    /// It was not in time; this was missing last.
    Late(String),
    /// It was not so at the one look that there was time for; this was missing.
    Unmet(String),
}

impl Outcome {
    /// Says how it ended, in kubectl's words and with what was missing; whether it was well.
    pub(super) fn report(
        &self,
        object: &ObjectRef,
        printer: &mut Printer,
    ) -> std::io::Result<bool> {
        let error = match self {
            Self::Met(word) => {
                printer.line(format_args!("{} {word}", label(object)))?;
                return Ok(true);
            }
            Self::Needless => return Ok(true),
            Self::Failed(reason) => format!("error: {}: {reason}", label(object)),
            Self::Absent => {
                let kind = object.kind.info().qualified();
                format!("Error from server (NotFound): {kind} \"{}\" not found", object.name)
            }
            Self::Late(missing) => {
                let name = resource(object);
                format!("error: timed out waiting for the condition on {name}: {missing}")
            }
            Self::Unmet(missing) => {
                format!("error: condition not met for {}: {missing}", resource(object))
            }
        };
        printer.note(error);
        Ok(false)
    }
}

/// Waits for one object, at most `timeout`.
pub(super) async fn until(
    client: &Client,
    object: &ObjectRef,
    goal: &Goal,
    timeout: Duration,
) -> Result<Outcome, Error> {
    watched(client, (object, goal, timeout), |_| ()).await
}

/// The same, and says each new thing that is waited for, with how long it took so far.
pub(super) async fn until_telling(
    client: &Client,
    (object, goal, timeout): (&ObjectRef, &Goal, Duration),
    printer: &mut Printer,
) -> Result<Outcome, Error> {
    let clock = System::new();
    let began = clock.monotonic();
    let tell = |missing: &str| {
        let took = clock.monotonic().saturating_sub(began).as_secs_f64();
        printer.note(format_args!("  {:<20} {took:>5.1} s  {missing}", object.name));
    };
    watched(client, (object, goal, timeout), tell).await
}

async fn watched(
    client: &Client,
    (object, goal, timeout): (&ObjectRef, &Goal, Duration),
    mut tell: impl FnMut(&str),
) -> Result<Outcome, Error> {
    let mut missing = "the server has not answered yet".to_owned();
    let waiting = async {
        loop {
            let asked = (object, goal, timeout.is_zero());
            match look_and_follow(client, asked, &mut missing, &mut tell).await {
                Ok(Some(outcome)) => return Ok(outcome),
                Ok(None) => {}
                // The server may be on its way back; only the time decides.
                Err(error) if error.retry() != Retry::Never && !timeout.is_zero() => {
                    missing = error.to_string();
                }
                Err(error) if error.is_expired() => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(PAUSE).await;
        }
    };
    // Time enough for the one look that a timeout of 0 asks for.
    let limit = if timeout.is_zero() { Duration::from_secs(30) } else { timeout };
    let ended = tokio::time::timeout(limit, waiting).await;
    ended.unwrap_or_else(|_| Ok(Outcome::Late(missing)))
}

/// One list and the watch after it; `None` when the stream ended before the goal was reached.
async fn look_and_follow(
    client: &Client,
    (object, goal, once): (&ObjectRef, &Goal, bool),
    missing: &mut String,
    tell: &mut impl FnMut(&str),
) -> Result<Option<Outcome>, Error> {
    let mut judge = |object: Option<&Value>| match goal.judge(object) {
        Verdict::Met(word) => Some(Outcome::Met(word)),
        Verdict::Failed(_) if object.is_none() => Some(Outcome::Absent),
        Verdict::Failed(reason) => Some(Outcome::Failed(reason)),
        Verdict::NotYet(reason) => {
            if *missing != reason {
                tell(&reason);
            }
            *missing = reason;
            None
        }
    };
    let (namespace, query) = (Some(object.namespace.as_str()), Query::name(&object.name));
    let list = client.list::<Value>(object.kind, namespace, &query).await?;
    if let Some(outcome) = judge(list.items.first()) {
        let is_needless = list.items.is_empty() && matches!(goal, Goal::Gone { .. });
        return Ok(Some(if is_needless { Outcome::Needless } else { outcome }));
    }
    if once {
        return Ok(Some(Outcome::Unmet(missing.clone())));
    }
    let after = Some(list.metadata.resource_version.as_str()).filter(|it| !it.is_empty());
    let mut changes = client.watch::<Value>(object.kind, namespace, &query, after).await?;
    while let Some(change) = changes.next().await? {
        let outcome = match &change {
            WatchEvent::Added(object) | WatchEvent::Modified(object) => judge(Some(object)),
            WatchEvent::Deleted(_) => judge(None),
            WatchEvent::Bookmark(_) => None,
        };
        if outcome.is_some() {
            return Ok(outcome);
        }
    }
    Ok(None)
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let client = connection.client()?;
    let mut objects = Vec::new();
    for target in targets::parse(&args.words, &connection.namespace())? {
        match target {
            Target::One(object) => objects.push(object),
            Target::All(kind) if args.all || args.selector.is_some() => {
                let query = Query { labels: args.selector.clone(), fields: None };
                objects.extend(
                    targets::selected(&client, kind, &connection.namespace(), &query).await?,
                );
            }
            Target::All(kind) => {
                let hint = format!("write {}/NAME, or add -l or --all", kind.info().singular);
                return Err(Failure::usage("no name is given", hint).into());
            }
        }
    }
    // What is to be gone may well be; all else that waits for nothing was most likely mistyped.
    if objects.is_empty() && !matches!(args.goal, Goal::Gone { .. }) {
        return Err(Failure::new("no matching resources found").into());
    }
    let mut exit = Exit::Success;
    for object in &objects {
        let asked = (object, &args.goal, args.timeout);
        // kubectl says nothing meanwhile, and programs may read what it says.
        let outcome = if io::stderr().is_terminal() && !args.timeout.is_zero() {
            until_telling(&client, asked, printer).await?
        } else {
            until(&client, object, &args.goal, args.timeout).await?
        };
        if !outcome.report(object, printer)? {
            exit = Exit::Failed;
        }
        printer.flush()?;
    }
    Ok(exit)
}

#[cfg(test)]
mod tests;
