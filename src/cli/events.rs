//! `hangar events`: what happened, oldest first. It must never make events up from statuses.

use jiff::Timestamp;

use crate::{
    api::{column, core::Event, core::EventType, kind::Kind, meta::ObjectRef},
    cli::{
        Exit,
        connection::Connection,
        follow::Follow,
        printer::Printer,
        table::{self, Table},
        targets,
    },
    client::{self, Client, Error, Query},
    clock::{Clock as _, System},
};

/// Whose events.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only those of one object: env/alice
    #[arg(long = "for", value_name = "KIND/NAME")]
    object: Option<String>,
    /// Of all namespaces
    #[arg(short = 'A', long, conflicts_with = "object")]
    all_namespaces: bool,
    /// Go on showing those to come
    #[arg(short, long)]
    watch: bool,
}

/// The query for one object's events.
fn about(object: &ObjectRef) -> Query {
    let kind = object.kind.info().kind_name;
    let fields = format!("involvedObject.kind={kind},involvedObject.name={}", object.name);
    Query { labels: None, fields: Some(fields) }
}

/// One object's events, oldest first; not those of an earlier one of its name.
pub(super) async fn of(
    client: &Client,
    object: &ObjectRef,
    uid: &str,
) -> Result<Vec<Event>, Error> {
    let namespace = if object.namespace.is_empty() { "default" } else { &object.namespace };
    let list = client.list::<Event>(Kind::Event, Some(namespace), &about(object)).await?;
    let mut events = sorted(list.items);
    events.retain(|it| it.involved_object.uid.is_empty() || it.involved_object.uid == uid);
    Ok(events)
}

fn sorted(mut events: Vec<Event>) -> Vec<Event> {
    events.sort_by_key(|it| it.last_timestamp);
    events
}

/// The cells that every list of events has: age, type, reason; and its message.
pub(super) fn cells(event: &Event, now: Timestamp) -> [String; 4] {
    let age = event.last_timestamp.map_or_else(|| "<none>".to_owned(), |it| column::age(it, now));
    let seen = match (event.count, event.first_timestamp) {
        (2.., Some(first)) => {
            format!("{age} (x{} over {})", event.count, column::age(first, now))
        }
        (2.., None) => format!("{age} (x{})", event.count),
        _ => age,
    };
    let kind = match event.type_ {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    };
    [seen, kind.to_owned(), event.reason.clone(), event.message.clone()]
}

fn row(event: &Event, all_namespaces: bool, now: Timestamp) -> Vec<String> {
    let [seen, kind, reason, message] = cells(event, now);
    let object = &event.involved_object;
    let name = format!("{}/{}", object.kind, object.name);
    let namespace = all_namespaces.then(|| object.namespace.clone());
    namespace.into_iter().chain([seen, kind, reason, name, message]).collect()
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let (client, clock) = (connection.client()?, System::new());
    let default = connection.namespace();
    let namespace = (!args.all_namespaces).then_some(default.as_str());
    let query = match &args.object {
        Some(word) => about(&targets::one(word, &default)?),
        None => Query::default(),
    };
    let list = client.list::<Event>(Kind::Event, namespace, &query).await?;
    let headings = args.all_namespaces.then_some("NAMESPACE");
    let headings = headings.into_iter().chain(["LAST SEEN", "TYPE", "REASON", "OBJECT", "MESSAGE"]);
    let mut rows = vec![headings.map(str::to_owned).collect()];
    let revision = list.metadata.resource_version;
    let events = sorted(list.items);
    if events.is_empty() && !args.watch {
        // kubectl has a full stop here that it leaves out where there are no resources.
        let stop = if namespace.is_none() { "." } else { "" };
        printer.note(format_args!("{}{stop}", targets::nothing("events", namespace)));
        return Ok(Exit::Success);
    }
    rows.extend(events.iter().map(|it| row(it, args.all_namespaces, clock.now())));
    let mut lines = Table::default();
    lines.lines(&rows).iter().try_for_each(|it| printer.line(it))?;
    if !args.watch {
        return Ok(Exit::Success);
    }
    let mut changes = Follow::<Event>::new(&client, Kind::Event, namespace, &query, &revision);
    loop {
        printer.flush()?;
        let change = changes.next(printer).await?;
        // Events are deleted when they are old, which is no news.
        if let client::WatchEvent::Added(event) | client::WatchEvent::Modified(event) = change {
            let row = row(&event, args.all_namespaces, clock.now());
            lines.lines(&[row]).iter().try_for_each(|it| printer.line(it))?;
        }
    }
}

/// A section of a description.
pub(super) fn section(events: &[Event], now: Timestamp) -> Vec<String> {
    let rows = events.iter().map(|it| cells(it, now).to_vec()).collect();
    table::lines(&["Last seen", "Type", "Reason", "Message"], rows)
}
