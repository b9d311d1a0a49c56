//! `hangar plan`: what `apply` would do, as the server says it. It must never compute a plan itself, or change anything.

use serde_json::Value;

use crate::{
    cli::{
        Exit,
        connection::Connection,
        files::{self, FileArgs, Purpose},
        printer::{Printer, one_line},
    },
    client::{Planned, PlannedAction, PlannedObject},
};

/// What to plan.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["files"]))]
pub struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// The server's answer instead of text
    #[arg(short, long, value_enum)]
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    /// JSON
    Json,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let bundle = args.files.read(connection, Purpose::Declare)?;
    files::report(&bundle, printer);
    if !bundle.complaints.is_empty() {
        // Half a plan would be taken for a whole one.
        return Ok(Exit::Failed);
    }
    let manifests: Vec<_> = bundle.items.iter().map(|it| it.manifest().clone()).collect();
    let answer: Value = connection.client()?.plan(&manifests).await?;
    let plan: Planned = serde_json::from_value(answer.clone())?;
    if args.output == Some(Output::Json) {
        printer.line(serde_json::to_string_pretty(&answer)?)?;
    } else {
        lines(&plan).iter().try_for_each(|it| printer.line(it))?;
    }
    Ok(if plan.changes() { Exit::Changes } else { Exit::Success })
}

fn lines(plan: &Planned) -> Vec<String> {
    let mut lines = Vec::new();
    for object in &plan.objects {
        about(object, &mut lines);
    }
    let actions = || plan.objects.iter().flat_map(|it| &it.actions);
    let count = |change: &str| plan.objects.iter().filter(|it| it.change == change).count();
    if !plan.changes() {
        lines.push(format!("nothing would change ({} looked at)", plan.objects.len()));
        return lines;
    }
    let restarts = actions().filter(|it| it.restarts).count();
    let risks = actions().filter(|it| it.risk.is_some()).count();
    lines.push(String::new());
    lines.push(format!(
        "{} to create, {} to change, {} to delete, {} as they are",
        count("create"),
        count("update"),
        count("delete"),
        count("unchanged"),
    ));
    let calls = actions().count();
    lines.push(format!(
        "{calls} calls to Fly, {restarts} of them restart a running machine, {risks} put data at risk; about {:.0} s at Fly's rate limits",
        plan.seconds.ceil()
    ));
    lines
}

fn about(object: &PlannedObject, lines: &mut Vec<String>) {
    let sign = match object.change.as_str() {
        "create" => "+",
        "update" => "~",
        "delete" => "-",
        _ => " ",
    };
    lines.push(format!("{sign} {} {}", object.name, object.change));
    for field in &object.fields {
        let change = match (&field.from, &field.to) {
            (Value::Null, to) => format!("+ {}: {to}", field.path),
            (from, Value::Null) => format!("- {}: {from}", field.path),
            (from, to) => format!("~ {}: {from} -> {to}", field.path),
        };
        lines.push(format!("    {}", one_line(&change)));
    }
    lines.extend(object.actions.iter().map(|it| format!("    {}", action(it))));
    lines.extend(object.notes.iter().map(|it| format!("    note: {}", one_line(it))));
}

fn action(action: &PlannedAction) -> String {
    let PlannedAction { call, object, why, restarts, risk } = action;
    let mut line = format!("> {call} {object}");
    if !why.is_empty() {
        line = format!("{line}: {why}");
    }
    if *restarts {
        line.push_str(" [restarts the machine]");
    }
    if let Some(risk) = risk {
        line = format!("{line} [risk: {risk}]");
    }
    one_line(&line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_reads_from_top_to_bottom() {
        let plan: Planned = serde_json::from_value(serde_json::json!({
            "objects": [
                {"ref": "env/alice", "change": "update",
                 "fields": [
                    {"path": "spec.region", "from": null, "to": "ams"},
                    {"path": "spec.env.A", "from": "1", "to": "2"},
                    {"path": "spec.owner", "from": "x", "to": null}],
                 "actions": [{"call": "update-machine", "object": "m-1", "why": "env changed", "restarts": true,
                              "risk": "unsaved memory"}],
                 "notes": ["waits for sleep"]},
                {"ref": "tmpl/node", "change": "unchanged"},
            ],
            "seconds": 1.2,
        }))
        .unwrap();
        expect_test::expect![[r#"
            ~ env/alice update
                + spec.region: "ams"
                ~ spec.env.A: "1" -> "2"
                - spec.owner: "x"
                > update-machine m-1: env changed [restarts the machine] [risk: unsaved memory]
                note: waits for sleep
              tmpl/node unchanged

            0 to create, 1 to change, 0 to delete, 1 as they are
            1 calls to Fly, 1 of them restart a running machine, 1 put data at risk; about 2 s at Fly's rate limits"#]]
        .assert_eq(&lines(&plan).join("\n"));
    }

    #[test]
    fn a_plan_of_nothing_says_so() {
        assert_eq!(lines(&Planned::default()), ["nothing would change (0 looked at)"]);
    }
}
