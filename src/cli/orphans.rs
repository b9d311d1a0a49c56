//! `hangar orphans`: what Fly has that the store does not account for, and the reverse; and orders about one of them. It must
//! never act on more than the one that was named.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::{
    api::{
        column::{age, dollars},
        kind::Kind,
        meta::ObjectRef,
        orphan::{MadeBy, Order, Orphan, OrphanPhase, OrphanStatus, OrphanWhat, Side, Verb},
    },
    cli::{
        Exit,
        connection::Connection,
        failure::Failure,
        get::{self, Output},
        printer::Printer,
        table, targets,
        wait::{self, Goal},
    },
    client::{Client, Query},
    clock::{Clock as _, System},
};

/// What to show, or what to do about one.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these
    #[arg(value_name = "NAME", conflicts_with_all = ["adopt", "delete"])]
    names: Vec<String>,
    /// Also those of other installations of hangar, which can never be acted on
    #[arg(long)]
    others: bool,
    /// How
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Bind this one to an environment that has no bay
    #[arg(long, value_name = "NAME", requires = "to")]
    adopt: Option<String>,
    /// The environment: env/NAME
    #[arg(long, value_name = "ENVIRONMENT", requires = "adopt")]
    to: Option<String>,
    /// Destroy this one, with all that is in it
    #[arg(long, value_name = "NAME", conflicts_with = "adopt")]
    delete: Option<String>,
    /// Say what would be done, or why not, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// How long to wait until it is done; 0 does not wait
    #[arg(long, default_value = "10m", value_parser = wait::duration)]
    timeout: Duration,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let client = connection.client()?;
    let ordered = match (&args.delete, &args.adopt) {
        (Some(name), _) => Some((Verb::Delete, name)),
        (None, Some(name)) => Some((Verb::Adopt, name)),
        (None, None) => None,
    };
    if let Some((verb, name)) = ordered {
        return order(args, connection, &client, (verb, name), printer).await;
    }
    let list = client.list::<Orphan>(Kind::Orphan, None, &Query::default()).await?;
    let named = |it: &Orphan| args.names.is_empty() || args.names.contains(&it.metadata.name);
    let (others, mine): (Vec<_>, Vec<_>) = list
        .items
        .into_iter()
        .filter(named)
        .partition(|it| it.status.made_by == MadeBy::Another && args.names.is_empty());
    let hidden = if args.others { 0 } else { others.len() };
    let shown: Vec<_> =
        mine.into_iter().chain(others.into_iter().filter(|_| args.others)).collect();
    if let Some(missing) =
        args.names.iter().find(|name| !shown.iter().any(|it| it.metadata.name == **name))
    {
        return Err(Failure::hinted(
            format!("there is no orphan {missing}"),
            "`hangar orphans --others` lists all of them",
        )
        .into());
    }
    match args.output {
        None | Some(Output::Wide) => {
            let wide = args.output == Some(Output::Wide);
            for line in lines(&shown, wide, System::new().now()) {
                printer.line(line)?;
            }
            if shown.is_empty() {
                printer.note("no orphans: Fly has what the store accounts for");
            }
            if hidden > 0 {
                printer.note(format_args!(
                    "{hidden} more belong to other installations of hangar: --others shows them"
                ));
            }
        }
        Some(Output::Name) => {
            for orphan in &shown {
                get::print(&serde_json::to_value(orphan)?, Output::Name, printer)?;
            }
        }
        Some(output) => {
            let list = json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": shown});
            get::print(&list, output, printer)?;
        }
    }
    Ok(Exit::Success)
}

/// The table, and what all of it costs.
fn lines(orphans: &[Orphan], wide: bool, now: Timestamp) -> Vec<String> {
    if orphans.is_empty() {
        return Vec::new();
    }
    let mut headings = vec!["Name", "Side", "What", "Phase", "Environment", "Age", "Month"];
    headings.extend(if wide { &["Made-By", "App", "Evidence"][..] } else { &["Evidence"][..] });
    let rows = orphans.iter().map(|it| row(it, wide, now)).collect();
    let mut lines = table::lines(&headings, rows);
    let sum: u64 = orphans.iter().map(|it| it.status.monthly_cost_microdollars).sum();
    if sum > 0 {
        lines
            .push(format!("about {} a month, estimated from Fly's published prices", dollars(sum)));
    }
    lines
}

fn row(orphan: &Orphan, wide: bool, now: Timestamp) -> Vec<String> {
    let it = &orphan.status;
    let since = it.evidence.created_at.or(it.evidence.first_seen_at);
    let mut row = vec![
        orphan.metadata.name.clone(),
        match it.side {
            Side::Unaccounted => "Fly",
            Side::Lost => "store",
        }
        .to_owned(),
        match it.what {
            OrphanWhat::App => "app",
            OrphanWhat::Machine => "machine",
            OrphanWhat::Volume => "volume",
        }
        .to_owned(),
        phase(it),
        it.environment.clone().unwrap_or_else(|| "<none>".to_owned()),
        since.map_or_else(|| "<none>".to_owned(), |it| age(it, now)),
        dollars(it.monthly_cost_microdollars),
    ];
    if wide {
        row.extend([format!("{:?}", it.made_by), it.app.clone()]);
    }
    let ordered =
        it.order.as_ref().map(|order| format!("{:?} ordered: {}", order.verb, order.message));
    row.push(ordered.unwrap_or_else(|| evidence(it, now)));
    row
}

fn phase(status: &OrphanStatus) -> String {
    match (status.phase, &status.order) {
        (_, Some(order)) if order.is_open() => "ordered".to_owned(),
        (OrphanPhase::Pending, _) => "pending".to_owned(),
        (OrphanPhase::Confirmed, _) => "confirmed".to_owned(),
    }
}

fn evidence(status: &OrphanStatus, now: Timestamp) -> String {
    let seen = status.evidence.first_seen_at.map(|it| age(it, now)).unwrap_or_default();
    format!("{} (in every complete list for {seen})", status.evidence.message)
}

async fn order(
    args: &Args,
    connection: &Connection,
    client: &Client,
    (verb, name): (Verb, &str),
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let name = name.strip_prefix("orphan/").unwrap_or(name);
    let target = ObjectRef::new(Kind::Orphan, "", name);
    let to = args.to.as_deref().map(|it| targets::one(it, &connection.namespace())).transpose()?;
    if let Some(other) = to.as_ref().filter(|it| it.kind != Kind::Environment) {
        return Err(Failure::hinted(
            format!("{} is no environment", targets::label(other)),
            "write env/NAME",
        )
        .into());
    }
    let orphan: Orphan = client.get(&target).await?;
    let steps = orphan.status.course(verb);
    let mut body = json!({"verb": verb, "uid": orphan.metadata.uid});
    if let Some(to) = &to {
        body["to"] = json!({"namespace": to.namespace, "name": to.name});
    }
    // The server refuses with the same sentence, and knows the environment.
    let answer: Orphan = client.order(&target, &body, args.dry_run).await?;
    let steps = steps.map_err(Failure::new)?;
    if args.dry_run {
        printer.line(format_args!("{} would:", targets::label(&target)))?;
        for (number, step) in (1..).zip(&steps) {
            printer.line(format_args!("  {number}. {step}"))?;
        }
        return Ok(Exit::Success);
    }
    printer.line(format_args!("{} ordered: {}", targets::label(&target), said(&answer)))?;
    printer.flush()?;
    if args.timeout.is_zero() {
        return Ok(Exit::Success);
    }
    let goal = Goal::Ordered { uid: orphan.metadata.uid };
    let ended = wait::until(client, &target, &goal, args.timeout).await?;
    Ok(if ended.report(&target, printer)? { Exit::Success } else { Exit::Failed })
}

fn said(orphan: &Orphan) -> String {
    let verb = orphan.status.order.as_ref().map(|it: &Order| it.verb).unwrap_or_default();
    match verb {
        Verb::Adopt => "it is proven, and then adopted".to_owned(),
        Verb::Delete => "it is proven, and then destroyed id by id".to_owned(),
    }
}

/// How an orphan under an order stands: gone is done.
pub(super) fn judge(object: Option<&Value>, uid: &str) -> wait::Verdict {
    use wait::Verdict;
    let Some(object) = object else { return Verdict::Met("done".to_owned()) };
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    if text("/metadata/uid") != uid {
        return Verdict::Met("done".to_owned());
    }
    let message = text("/status/order/message").to_owned();
    if text("/status/order/state") == "Refused" {
        return Verdict::Failed(message);
    }
    Verdict::NotYet(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn orphan(name: &str, status: OrphanStatus) -> Orphan {
        let metadata = crate::api::meta::Metadata { name: name.to_owned(), ..Default::default() };
        Orphan { api_version: String::new(), kind: String::new(), metadata, status }
    }

    #[test]
    fn the_table_says_what_it_is_how_it_is_known_and_what_it_costs() {
        let evidence = crate::api::orphan::Evidence {
            first_seen_at: Some(at(0)),
            message: "Fly's lists have it and no bay names it".to_owned(),
            ..Default::default()
        };
        let app = OrphanStatus {
            environment: Some("env/alice".to_owned()),
            phase: OrphanPhase::Confirmed,
            evidence: evidence.clone(),
            monthly_cost_microdollars: 3_517_800,
            ..OrphanStatus::default()
        };
        let mut ordered = app.clone();
        ordered.what = OrphanWhat::Volume;
        ordered.monthly_cost_microdollars = 1;
        ordered.order =
            Some(Order { message: "it is read once more".to_owned(), ..Order::default() });
        let orphans = [orphan("app-hgr-abc", app), orphan("volume-vol-1", ordered)];
        let shown = lines(&orphans, false, at(3_600)).join("\n");
        expect_test::expect![[r#"
            NAME           SIDE   WHAT     PHASE       ENVIRONMENT   AGE   MONTH   EVIDENCE
            app-hgr-abc    Fly    app      confirmed   env/alice     60m   $3.52   Fly's lists have it and no bay names it (in every complete list for 60m)
            volume-vol-1   Fly    volume   ordered     env/alice     60m   $0.01   Delete ordered: it is read once more
            about $3.52 a month, estimated from Fly's published prices"#]]
        .assert_eq(&shown);
        assert!(lines(&[], false, at(0)).is_empty());
    }

    #[test]
    fn an_order_is_done_when_its_orphan_is_gone() {
        let refused = json!({"metadata": {"uid": "o1"}, "status": {"order": {"state": "Refused", "message": "why"}}});
        assert_eq!(judge(None, "o1"), wait::Verdict::Met("done".to_owned()));
        assert_eq!(judge(Some(&refused), "o1"), wait::Verdict::Failed("why".to_owned()));
        assert_eq!(judge(Some(&refused), "o2"), wait::Verdict::Met("done".to_owned()));
        let open = json!({"metadata": {"uid": "o1"}, "status": {"order": {"state": "Working", "message": "it is read"}}});
        assert_eq!(judge(Some(&open), "o1"), wait::Verdict::NotYet("it is read".to_owned()));
    }
}
