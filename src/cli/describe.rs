//! `hangar describe`: one object, what it waits for and what happened to it. It must never show a secret's values.

use std::fmt::Debug;

use jiff::Timestamp;
use serde_json::Value;

use crate::{
    api::{
        column::{age, at_path, dollars},
        condition::{self, Condition, Truth},
        core::Event,
        environment::{self, BayRef, ConditionType, Environment, SleepStatus},
        kind::Kind,
        meta::{Metadata, ObjectRef},
        pool::WarmPool,
    },
    cli::{
        Exit,
        connection::Connection,
        events,
        failure::{self, Failure},
        merge::LAST_APPLIED,
        printer::{Printer, one_line},
        table,
        targets::{self, Target},
    },
    client::{Client, Error, Query},
    clock::{Clock as _, System},
};

/// What to describe.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND [NAME…] or KIND/NAME…
    #[arg(required = true, value_name = "OBJECT")]
    words: Vec<String>,
    /// Only those of a kind that a label selector selects
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let (client, clock) = (connection.client()?, System::new());
    let mut exit = Exit::Success;
    let mut is_first = true;
    for object in &described(args, connection, &client, printer).await? {
        let value: Value = match client.get(object).await {
            Err(error @ Error::Status(_)) => {
                failure::report(&error.into(), printer);
                exit = Exit::Failed;
                continue;
            }
            value => value?,
        };
        let events = match object.kind {
            Kind::Event => Vec::new(),
            _ => {
                let uid = at_path(&value, "metadata.uid").and_then(Value::as_str);
                events::of(&client, object, uid.unwrap_or_default()).await?
            }
        };
        if !std::mem::take(&mut is_first) {
            printer.line("")?;
        }
        let newest = match object.kind {
            Kind::Environment => newest_revision(&client, object, &value).await,
            _ => None,
        };
        let lines = description(object, &value, (&events, newest), clock.now());
        lines.iter().try_for_each(|line| printer.line(line))?;
    }
    Ok(exit)
}

/// The newest revision of an environment's template, if that can be had: who may not read it has a description all the same.
async fn newest_revision(client: &Client, object: &ObjectRef, environment: &Value) -> Option<u64> {
    let name = at_path(environment, "spec.templateRef.name").and_then(Value::as_str);
    let template = ObjectRef::new(Kind::Template, &object.namespace, name.unwrap_or_default());
    let found = client.get::<Value>(&template).await.ok()?;
    at_path(&found, "status.revision").and_then(Value::as_u64)
}

/// Which objects are meant.
async fn described(
    args: &Args,
    connection: &Connection,
    client: &Client,
    printer: &mut Printer,
) -> anyhow::Result<Vec<ObjectRef>> {
    let namespace = connection.namespace();
    let query = Query { labels: args.selector.clone(), fields: None };
    let targets = targets::parse(&args.words, &namespace)?;
    let mut objects = Vec::new();
    for target in &targets {
        match target {
            Target::One(_) if args.selector.is_some() => {
                return Err(Failure::new(targets::NAME_AND_SELECTOR).into());
            }
            Target::One(object) => objects.push(object.clone()),
            Target::All(kind) => {
                objects.extend(targets::selected(client, *kind, &namespace, &query).await?);
            }
        }
    }
    if objects.is_empty() {
        let is_in_one = targets.iter().any(Target::is_namespaced);
        printer.note(targets::nothing("resources", is_in_one.then_some(&namespace)));
    }
    Ok(objects)
}

/// The lines of a description, with what else there is of it: its events, and the newest revision of its template.
fn description(
    object: &ObjectRef,
    value: &Value,
    (events, newest): (&[Event], Option<u64>),
    now: Timestamp,
) -> Vec<String> {
    let mut page = Page { lines: Vec::new(), now };
    let metadata = value.get("metadata").cloned().unwrap_or_default();
    page.metadata(object, &serde_json::from_value(metadata).unwrap_or_default());
    match object.kind {
        // An object of a newer server may not fit our types; then it is shown as it is.
        Kind::Environment => match serde_json::from_value(value.clone()) {
            Ok(environment) => page.environment(&environment, newest),
            Err(_) => page.rest(value),
        },
        Kind::WarmPool => match serde_json::from_value(value.clone()) {
            Ok(pool) => page.pool(&pool),
            Err(_) => page.rest(value),
        },
        Kind::Secret => page.secret(value),
        Kind::ResourceQuota => page.quota(value),
        _ => page.rest(value),
    }
    page.section("Events", events::section(events, now), events.is_empty());
    page.lines
}

struct Page {
    lines: Vec<String>,
    now: Timestamp,
}

impl Page {
    fn field(&mut self, name: &str, text: &str) {
        if !text.is_empty() {
            self.lines.push(format!("{:<13} {}", format!("{name}:"), one_line(text)));
        }
    }

    fn section(&mut self, name: &str, inside: Vec<String>, is_empty: bool) {
        if is_empty {
            self.field(name, "none");
            return;
        }
        self.lines.push(format!("{name}:"));
        self.lines.extend(inside.into_iter().map(|line| format!("  {line}")));
    }

    fn ago(&self, since: Timestamp) -> String {
        age(since, self.now)
    }

    fn metadata(&mut self, object: &ObjectRef, metadata: &Metadata) {
        self.field("Name", &metadata.name);
        self.field("Namespace", metadata.namespace.as_deref().unwrap_or_default());
        self.field("Kind", object.kind.info().kind_name);
        let pairs: Vec<_> =
            metadata.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.field("Labels", &pairs.join(" "));
        let notes = metadata.annotations.iter().filter(|(key, _)| *key != LAST_APPLIED);
        let notes: Vec<_> = notes.map(|(key, value)| format!("{key}={value}")).collect();
        self.field("Annotations", &notes.join(" "));
        if let Some(created) = metadata.creation_timestamp {
            self.field("Created", &format!("{created:.0} ({} ago)", self.ago(created)));
        }
        if let Some(deleted) = metadata.deletion_timestamp {
            let since = self.ago(deleted);
            let left = metadata.finalizers.join(", ");
            self.field("Deleting", &format!("since {since}, until this is done: {left}"));
        }
    }

    fn environment(&mut self, environment: &Environment, newest: Option<u64>) {
        let (spec, status) = (&environment.spec, &environment.status);
        self.field("Phase", &format!("{:?}", status.phase));
        self.field("URL", status.url.as_deref().unwrap_or_default());
        let name = &spec.template_ref.name;
        let revision = status.template.as_ref().map(|it| match newest {
            Some(newest) if newest != it.revision => format!(
                " (revision {}; the newest is {newest}: hangar rollout status template/{name})",
                it.revision
            ),
            _ => format!(" (revision {})", it.revision),
        });
        self.field("Template", &format!("{name}{}", revision.unwrap_or_default()));
        self.field("Owner", spec.owner.as_deref().unwrap_or_default());
        self.field("Hostnames", &environment.hostnames().join(", "));
        self.field("Access", &format!("{:?}", spec.access()));
        self.field("Mode", &format!("{:?}", spec.operating_mode()));
        let secrets: Vec<_> = spec.secrets.iter().map(|it| it.name.as_str()).collect();
        self.field("Secrets", &secrets.join(", "));
        self.field("Bay", &status.bay.as_ref().map_or_else(|| "none yet".to_owned(), bay));
        if let Some(at) = status.expires_at {
            let left = age(self.now, at);
            self.field("Expires", &format!("{at:.0} (in {left}), and is deleted with its data"));
        }
        if let Some(sleep) = &status.sleep {
            let is_asleep = condition::holds(&status.conditions, ConditionType::Asleep);
            let text = self.sleep(sleep, is_asleep);
            self.field("Sleep", &text);
        }
        if status.observed_generation < environment.metadata.generation {
            self.field(
                "Status",
                "about an older specification; the last change has not been looked at yet",
            );
        }
        self.conditions(&status.conditions);
        let waits = self.waits(waiting(&status.conditions));
        let is_empty = waits.is_empty();
        self.section("Waiting for", waits, is_empty);
    }

    /// One after the other; what one says that the one before says too is not said again.
    fn conditions<K: Debug, R: Debug>(&mut self, conditions: &[Condition<K, R>]) {
        let mut said = "";
        let mut rows = Vec::new();
        for it in conditions {
            let is_same = !it.message.is_empty() && it.message == said;
            said = &it.message;
            rows.push(vec![
                format!("{:?}", it.kind),
                format!("{:?}", it.status),
                format!("{:?}", it.reason),
                self.ago(it.last_transition_time),
                if is_same { "(the same)".to_owned() } else { it.message.clone() },
            ]);
        }
        let rows = table::lines(&["Type", "Status", "Reason", "Since", "Message"], rows);
        self.section("Conditions", rows, conditions.is_empty());
    }

    /// What is waited for, and which conditions wait for it.
    fn waits<'a>(&self, waiting: impl Iterator<Item = &'a environment::Condition>) -> Vec<String> {
        let mut waits: Vec<(String, &environment::Condition)> = Vec::new();
        for it in waiting {
            let kind = format!("{:?}", it.kind);
            match waits.iter_mut().find(|(_, of)| of.message == it.message) {
                Some((kinds, _)) => *kinds = format!("{kinds}, {kind}"),
                None => waits.push((kind, it)),
            }
        }
        let line = |(kinds, it): (String, &environment::Condition)| {
            let (reason, since) = (it.reason, self.ago(it.last_transition_time));
            let what = if it.message.is_empty() { "" } else { " " };
            one_line(&format!("{kinds}: {}{what}({reason:?}, for {since})", it.message))
        };
        waits.into_iter().map(line).collect()
    }

    fn pool(&mut self, pool: &WarmPool) {
        let (spec, status) = (&pool.spec, &pool.status);
        self.field("Template", &spec.template_ref.name);
        let places = spec.wanted().into_iter();
        let places: Vec<_> =
            places.filter_map(|(region, count)| Some(format!("{}={count}", region?))).collect();
        let wanted = match &spec.autoscale {
            Some(it) => format!(
                "{}, from {} to {} as the claims need",
                status.desired_replicas, it.min, it.max
            ),
            None if places.is_empty() => status.desired_replicas.to_string(),
            None => format!("{} ({})", status.desired_replicas, places.join(", ")),
        };
        self.field("Wanted", &wanted);
        let replaced = match status.outdated {
            0 => String::new(),
            old => format!(" ({old} of them to be replaced)"),
        };
        let mut stock =
            format!("{} ready{replaced}, {} on their way", status.ready, status.provisioning);
        for (count, what) in [(status.failed, "failed"), (status.doubtful, "doubtful")] {
            if count > 0 {
                stock = format!("{stock}, {count} {what}");
            }
        }
        self.field("Stock", &stock);
        self.field("Warm state", &format!("{:?}", spec.warm_state()));
        if let Some(since) = status.oldest_ready_at {
            self.field("Oldest ready", &format!("since {since:.0} ({} ago)", self.ago(since)));
        }
        let rate = status.hit_rate_percent.map(|it| format!(" (hit rate {it} %)"));
        let (hits, misses) = (status.claimed_last_hour, status.missed_last_hour);
        let lately = format!("{hits} claimed, {misses} missed{}", rate.unwrap_or_default());
        self.field("Last hour", &lately);
        let cost = dollars(status.cost_per_day_microdollars);
        self.field("Cost", &format!("about {cost} a day, estimated from Fly's published prices"));
        self.conditions(&status.conditions);
    }

    fn sleep(&self, sleep: &SleepStatus, is_asleep: bool) -> String {
        let mut text = if is_asleep { "asleep".to_owned() } else { "awake".to_owned() };
        if let Some(signal) = sleep.signal {
            text = format!("{text} because of {signal:?}");
        }
        if let Some(since) = sleep.since {
            text = format!("{text} since {since:.0} ({} ago)", self.ago(since));
        }
        if let Some(at) = sleep.sleeps_at {
            text = format!("{text}; sleeps in {} if nothing more happens", age(self.now, at));
        }
        text
    }

    fn secret(&mut self, secret: &Value) {
        self.field("Type", secret.get("type").and_then(Value::as_str).unwrap_or("Opaque"));
        let data = secret.get("data").and_then(Value::as_object);
        let size = |value: &Value| {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(value.as_str()?).ok()?;
            Some(bytes.len())
        };
        let keys: Vec<_> = data
            .into_iter()
            .flatten()
            .map(|(key, value)| format!("{key}: {} bytes", size(value).unwrap_or_default()))
            .collect();
        let is_empty = keys.is_empty();
        self.section("Data", keys, is_empty);
    }

    fn quota(&mut self, quota: &Value) {
        let hard = at_path(quota, "spec.hard").and_then(Value::as_object);
        let used = at_path(quota, "status.used");
        let row = |(name, hard): (&String, &Value)| {
            let used =
                used.and_then(|it| it.get(name)).map_or_else(|| "?".to_owned(), table::plain);
            vec![name.clone(), used, table::plain(hard)]
        };
        let rows: Vec<_> = hard.into_iter().flatten().map(row).collect();
        let is_empty = rows.is_empty();
        self.section("Limits", table::lines(&["Resource", "Used", "Hard"], rows), is_empty);
    }

    /// Everything else of an object, as YAML.
    fn rest(&mut self, value: &Value) {
        let fields = value.as_object().into_iter().flatten();
        let fields =
            fields.filter(|(key, _)| !matches!(key.as_str(), "apiVersion" | "kind" | "metadata"));
        for (key, value) in fields {
            let mut name = key.clone();
            if let Some(first) = name.get_mut(..1) {
                first.make_ascii_uppercase();
            }
            match value {
                Value::Object(_) | Value::Array(_) => {
                    let text = serde_yaml::to_string(value).unwrap_or_default();
                    self.section(&name, text.lines().map(one_line).collect(), false);
                }
                plain => self.field(&name, &table::plain(plain)),
            }
        }
    }
}

fn bay(bay: &BayRef) -> String {
    let mut text = format!("{} (app {}", bay.name, bay.app);
    for (name, value) in [("region", &bay.region), ("machine", &bay.machine)] {
        if let Some(value) = value {
            text = format!("{text}, {name} {value}");
        }
    }
    format!("{text}, epoch {})", bay.epoch)
}

/// The conditions that say what is waited for: what should hold and does not, what should not and does. A sleeping
/// environment is not waiting to be ready.
fn waiting(conditions: &[environment::Condition]) -> impl Iterator<Item = &environment::Condition> {
    let is_asleep = condition::holds(conditions, ConditionType::Asleep);
    conditions.iter().filter(move |it| match it.kind {
        ConditionType::Bound
        | ConditionType::Provisioned
        | ConditionType::Updated
        | ConditionType::Personalized
        | ConditionType::Routed
        | ConditionType::Observed
        | ConditionType::Expired => it.status != Truth::True,
        ConditionType::Ready => it.status != Truth::True && !is_asleep,
        ConditionType::Degraded | ConditionType::Stalled => it.status == Truth::True,
        ConditionType::Asleep => false,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(kind: Kind, value: Value, events: Value, expected: &expect_test::Expect) {
        let object = ObjectRef::new(kind, "default", "alice");
        let events: Vec<Event> = serde_json::from_value(events).unwrap();
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        expected.assert_eq(&description(&object, &value, (&events, Some(2)), now).join("\n"));
    }

    #[test]
    fn an_environment_says_what_it_waits_for() {
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                   "lastTransitionTime": "2026-01-01T00:59:40Z"})
        };
        let value = json!({
            "apiVersion": "hangar.dev/v1alpha1", "kind": "Environment",
            "metadata": {"name": "alice", "namespace": "default", "generation": 2, "labels": {"team": "a"},
                         "creationTimestamp": "2026-01-01T00:00:00Z",
                         "annotations": {LAST_APPLIED: "{}"}},
            "spec": {"templateRef": {"name": "node"}, "owner": "alice@example.com"},
            "status": {"phase": "Starting", "observedGeneration": 1, "url": "http://alice.dev.localhost:8080",
                "template": {"revision": 1, "hash": "5d1c", "looked": true},
                "bay": {"name": "bay-1", "app": "hgr-1", "region": "ams", "machine": "3d8d", "epoch": 1},
                "sleep": {"signal": "RecentStart", "since": "2026-01-01T00:59:00Z", "sleepsAt": "2026-01-01T01:14:00Z"},
                "conditions": [
                    condition("Bound", "True", "AsDeclared", ""),
                    condition("Ready", "False", "NotReadyYet", "GET /healthz\nwas not answered yet"),
                    condition("Stalled", "False", "AsDeclared", "")]},
        });
        let events = json!([{"type": "Normal", "reason": "Created", "message": "machine 3d8d", "count": 2,
                             "firstTimestamp": "2026-01-01T00:59:00Z", "lastTimestamp": "2026-01-01T00:59:30Z"}]);
        check(
            Kind::Environment,
            value,
            events,
            &expect_test::expect![[r#"
            Name:         alice
            Namespace:    default
            Kind:         Environment
            Labels:       team=a
            Created:      2026-01-01T00:00:00Z (60m ago)
            Phase:        Starting
            URL:          http://alice.dev.localhost:8080
            Template:     node (revision 1; the newest is 2: hangar rollout status template/node)
            Owner:        alice@example.com
            Hostnames:    alice
            Access:       Private
            Mode:         Auto
            Bay:          bay-1 (app hgr-1, region ams, machine 3d8d, epoch 1)
            Sleep:        awake because of RecentStart since 2026-01-01T00:59:00Z (60s ago); sleeps in 14m if nothing more happens
            Status:       about an older specification; the last change has not been looked at yet
            Conditions:
              TYPE      STATUS   REASON        SINCE   MESSAGE
              Bound     True     AsDeclared    20s
              Ready     False    NotReadyYet   20s     GET /healthz was not answered yet
              Stalled   False    AsDeclared    20s
            Waiting for:
              Ready: GET /healthz was not answered yet (NotReadyYet, for 20s)
            Events:
              LAST SEEN           TYPE     REASON    MESSAGE
              30s (x2 over 60s)   Normal   Created   machine 3d8d"#]],
        );
    }

    #[test]
    fn a_secret_shows_no_value() {
        let value = json!({"metadata": {"name": "alice"}, "type": "Opaque", "data": {"KEY": "aHVudGVyMg=="}});
        check(
            Kind::Secret,
            value,
            json!([]),
            &expect_test::expect![[r#"
            Name:         alice
            Kind:         Secret
            Type:         Opaque
            Data:
              KEY: 7 bytes
            Events:       none"#]],
        );
    }

    #[test]
    fn a_quota_shows_what_is_used_of_what_is_allowed() {
        let value = json!({
            "metadata": {"name": "small", "namespace": "default"},
            "spec": {"hard": {"count/bays.hangar.dev": "12", "count/environments.hangar.dev": "10"}},
            "status": {"used": {"count/environments.hangar.dev": "3"}},
        });
        check(
            Kind::ResourceQuota,
            value,
            json!([]),
            &expect_test::expect![[r#"
            Name:         small
            Namespace:    default
            Kind:         ResourceQuota
            Limits:
              RESOURCE                        USED   HARD
              count/bays.hangar.dev           ?      12
              count/environments.hangar.dev   3      10
            Events:       none"#]],
        );
    }

    #[test]
    fn other_kinds_are_shown_as_they_are() {
        let value =
            json!({"metadata": {"name": "alice"}, "spec": {"regions": ["ams"]}, "status": {}});
        check(
            Kind::Template,
            value,
            json!([]),
            &expect_test::expect![[r#"
            Name:         alice
            Kind:         Template
            Spec:
              regions:
              - ams
            Status:
              {}
            Events:       none"#]],
        );
    }
}
