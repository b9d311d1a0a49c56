//! `hangar plan`: what `apply` would do, before anything happens. It must never change anything.

use serde_json::Value;

use crate::{
    cli::{
        Exit,
        connection::Connection,
        files::{self, FileArgs, Purpose},
        forecast::{self, Call, Claim, Forecast, ObjectForecast},
        printer::{Printer, one_line},
    },
    client,
};

/// What to plan.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["files"]))]
pub struct Args {
    #[command(flatten)]
    files: FileArgs,
    /// The plan as data instead of text
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
    let client = connection.client()?;
    let plan = match forecast::forecast(&client, &bundle.items).await {
        Ok(plan) => plan,
        Err((Some(item), error @ client::Error::Status(_))) => {
            for complaint in item.refusal(&error) {
                printer.note(format_args!("error: {complaint}"));
            }
            return Ok(Exit::Failed);
        }
        Err((_, error)) => return Err(error.into()),
    };
    if args.output == Some(Output::Json) {
        printer.line(serde_json::to_string_pretty(&plan)?)?;
    } else {
        lines(&plan).iter().try_for_each(|it| printer.line(it))?;
    }
    Ok(if plan.changes() { Exit::Changes } else { Exit::Success })
}

fn lines(plan: &Forecast) -> Vec<String> {
    let mut lines = Vec::new();
    for object in &plan.objects {
        about(object, &mut lines);
    }
    let all = || plan.objects.iter().flat_map(|it| &it.actions);
    let actions = || all().filter(|it| !it.held_back);
    let count = |change: &str| plan.objects.iter().filter(|it| it.change == change).count();
    if !plan.changes() {
        lines.push(format!("nothing would change ({} looked at)", plan.objects.len()));
        return lines;
    }
    let restarts = actions().filter(|it| it.restarts).count();
    let risks = actions().filter(|it| it.risk.is_some()).count();
    lines.push(String::new());
    let refused = match count("refused") {
        0 => String::new(),
        refused => format!(", {refused} refused"),
    };
    lines.push(format!(
        "{} to create, {} to change, {} to delete, {} as they are{refused}",
        count("create"),
        count("update"),
        count("delete"),
        count("unchanged"),
    ));
    let calls = actions().count();
    lines.push(format!(
        "calls to Fly: {calls}, of which restart a running machine: {restarts}, put data at risk: {risks}; about {:.0} s at Fly's rate limits",
        plan.seconds.ceil()
    ));
    let held_back = all().filter(|it| it.held_back).count();
    if held_back > 0 {
        lines.push(format!("calls to Fly once a person says so: {held_back}"));
    }
    let bays = || plan.objects.iter().filter_map(|it| it.bays);
    let (made, removed) = bays().fold((0, 0), |(a, b), it| (a + it.made, b + it.removed));
    if (made, removed) != (0, 0) {
        lines.push(format!(
            "bays of pools: {made} to make, {removed} to remove, with calls of their own"
        ));
    }
    lines
}

fn about(object: &ObjectForecast, lines: &mut Vec<String>) {
    let sign = match object.change {
        "create" => "+",
        "update" => "~",
        "delete" => "-",
        "refused" => "!",
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
    if let Some(Claim { bay, why, .. }) = &object.claims {
        lines.push(format!("    > bind bay/{bay}: {} [no call to Fly]", one_line(why)));
    }
    lines.extend(object.actions.iter().map(|it| format!("    {}", action(it))));
    lines.extend(object.notes.iter().map(|it| format!("    note: {}", one_line(it))));
}

fn action(action: &Call) -> String {
    let Call { call, object, why, restarts, risk, held_back } = action;
    let mut line = format!("> {call} {object}");
    if !why.is_empty() {
        line = format!("{line}: {why}");
    }
    if *held_back {
        line.push_str(" [once a person says so]");
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
    use crate::cli::forecast::FieldChange;

    #[test]
    fn a_plan_reads_from_top_to_bottom() {
        let field =
            |path: &str, from: Value, to: Value| FieldChange { path: path.to_owned(), from, to };
        let plan = Forecast {
            objects: vec![
                ObjectForecast {
                    name: "env/alice".to_owned(),
                    change: "update",
                    fields: vec![
                        field("spec.region", Value::Null, "ams".into()),
                        field("spec.env.A", "1".into(), "2".into()),
                        field("spec.owner", "x".into(), Value::Null),
                    ],
                    actions: vec![Call {
                        call: "update-machine",
                        object: "m-1".to_owned(),
                        why: "env changed".to_owned(),
                        restarts: true,
                        risk: Some("unsaved memory"),
                        held_back: false,
                    }],
                    notes: vec!["waits for sleep".to_owned()],
                    ..ObjectForecast::default()
                },
                ObjectForecast {
                    name: "env/bob".to_owned(),
                    change: "create",
                    claims: Some(Claim {
                        bay: "bay-a".to_owned(),
                        pool: "warm".to_owned(),
                        why: "bay bay-a of pool warm is claimed".to_owned(),
                    }),
                    ..ObjectForecast::default()
                },
                ObjectForecast {
                    name: "tmpl/node".to_owned(),
                    change: "unchanged",
                    ..ObjectForecast::default()
                },
            ],
            seconds: 1.2,
        };
        expect_test::expect![[r#"
            ~ env/alice update
                + spec.region: "ams"
                ~ spec.env.A: "1" -> "2"
                - spec.owner: "x"
                > update-machine m-1: env changed [restarts the machine] [risk: unsaved memory]
                note: waits for sleep
            + env/bob create
                > bind bay/bay-a: bay bay-a of pool warm is claimed [no call to Fly]
              tmpl/node unchanged

            1 to create, 1 to change, 0 to delete, 1 as they are
            calls to Fly: 1, of which restart a running machine: 1, put data at risk: 1; about 2 s at Fly's rate limits"#]]
        .assert_eq(&lines(&plan).join("\n"));
    }

    #[test]
    fn a_plan_of_nothing_says_so() {
        assert_eq!(lines(&Forecast::default()), ["nothing would change (0 looked at)"]);
    }
}
