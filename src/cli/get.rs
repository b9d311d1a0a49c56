//! `hangar get`: objects as the server's tables, or whole. It must never decide which columns a kind has.

use serde_json::{Value, json};

use crate::{
    api::{kind::Kind, meta::ObjectRef},
    cli::{
        Exit,
        connection::Connection,
        failure::{self, Failure},
        follow::Follow,
        go_json,
        printer::Printer,
        table::{Columns, Table},
        targets::{self, Target},
    },
    client::{self, Client, Query},
};

/// What to show.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// KIND[,KIND…] [NAME…] or KIND/NAME…
    #[arg(required = true, value_name = "OBJECT")]
    words: Vec<String>,
    /// How
    #[arg(short, long, value_enum)]
    output: Option<Output>,
    /// Only those that a label selector selects: a=b,c!=d,e in (f,g)
    #[arg(short = 'l', long, value_name = "LABELS")]
    selector: Option<String>,
    /// Only those that a field selector selects: status.phase=Ready
    #[arg(long, value_name = "FIELDS")]
    field_selector: Option<String>,
    /// Of all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// With YAML or JSON: also who owns which field
    #[arg(long)]
    show_managed_fields: bool,
    /// What is not there is no error
    #[arg(long)]
    ignore_not_found: bool,
    /// Without the headings
    #[arg(long)]
    no_headers: bool,
    /// Go on showing changes
    #[arg(short, long)]
    watch: bool,
}

/// How objects are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Output {
    /// A table with every column
    Wide,
    /// YAML
    Yaml,
    /// JSON
    Json,
    /// Only KIND/NAME
    Name,
}

pub(super) async fn run(
    args: &Args,
    connection: &Connection,
    printer: &mut Printer,
) -> anyhow::Result<Exit> {
    let namespace = connection.namespace();
    let targets = targets::parse(&args.words, &namespace)?;
    let get = Get {
        client: connection.client()?,
        namespace: (!args.all_namespaces).then_some(namespace),
        query: Query { labels: args.selector.clone(), fields: args.field_selector.clone() },
        output: args.output,
        owners: args.show_managed_fields,
        absence_is_fine: args.ignore_not_found,
        headings: !args.no_headers,
    };
    if targets.iter().any(|it| matches!(it, Target::One(_))) {
        if args.selector.is_some() || args.field_selector.is_some() {
            return Err(Failure::new(targets::NAME_AND_SELECTOR).into());
        }
        if args.all_namespaces {
            let message = "a resource cannot be retrieved by name across all namespaces";
            return Err(Failure::new(message).into());
        }
    }
    match (args.watch, targets.as_slice(), args.output) {
        (true, [one], _) => get.watch(one, printer).await,
        (true, _, _) => Err(Failure::new("only one kind or one object can be watched").into()),
        (false, all, None | Some(Output::Wide)) => get.tables(all, printer).await,
        (false, all, Some(output)) => get.objects(all, output, printer).await,
    }
}

struct Get {
    client: Client,
    namespace: Option<String>,
    query: Query,
    output: Option<Output>,
    /// Whether whole objects are shown with who owns which field.
    owners: bool,
    /// Whether nothing is said of what is not there.
    absence_is_fine: bool,
    headings: bool,
}

impl Get {
    /// Says that one of several objects cannot be had, unless that is fine.
    fn complain(
        &self,
        error: client::Error,
        exit: &mut Exit,
        printer: &mut Printer,
    ) -> anyhow::Result<()> {
        if error.reason().is_none() {
            return Err(error.into());
        }
        if !(self.absence_is_fine && error.is_not_found()) {
            failure::report(&error.into(), printer);
            *exit = Exit::Failed;
        }
        Ok(())
    }

    async fn tables(&self, targets: &[Target], printer: &mut Printer) -> anyhow::Result<Exit> {
        let mut exit = Exit::Success;
        let mut found = Vec::<(Kind, client::Table)>::new();
        for target in targets {
            let (kind, answer) = match target {
                Target::All(kind) => {
                    (*kind, self.client.table(*kind, self.namespace.as_deref(), &self.query).await)
                }
                Target::One(object) => (object.kind, self.client.row(object).await),
            };
            match (answer, found.iter_mut().find(|(it, _)| *it == kind)) {
                (Ok(table), Some((_, same))) => same.rows.extend(table.rows),
                (Ok(table), None) => found.push((kind, table)),
                (Err(error), _) => self.complain(error, &mut exit, printer)?,
            }
        }
        let several = found.len() > 1;
        if found.iter().all(|(_, table)| table.rows.is_empty())
            && exit == Exit::Success
            && !self.absence_is_fine
        {
            let is_in_one = targets.iter().any(Target::is_namespaced);
            let place = self.namespace.as_deref().filter(|_| is_in_one);
            printer.note(targets::nothing("resources", place));
        }
        let (mut is_first, mut has_namespaces) = (true, false);
        for (kind, table) in &found {
            let mut columns = self.columns(*kind, several);
            // As kubectl: from the first kind on that is in namespaces, all tables have the column.
            has_namespaces |= columns.namespace;
            columns.namespace = has_namespaces;
            if table.rows.is_empty() {
                continue;
            }
            if !std::mem::take(&mut is_first) {
                printer.line("")?;
            }
            self.print(&mut Table::default(), &mut columns, table, printer)?;
        }
        Ok(exit)
    }

    fn columns(&self, kind: Kind, several: bool) -> Columns {
        let info = kind.info();
        Columns {
            wide: self.output == Some(Output::Wide),
            namespace: self.namespace.is_none() && info.namespaced,
            prefix: if several { format!("{}/", info.qualified_singular()) } else { String::new() },
            ..Columns::default()
        }
    }

    fn print(
        &self,
        lines: &mut Table,
        columns: &mut Columns,
        table: &client::Table,
        printer: &mut Printer,
    ) -> std::io::Result<()> {
        let mut rows = Vec::new();
        if !table.column_definitions.is_empty() {
            let headings = columns.headings(table);
            rows.extend(self.headings.then_some(headings));
        }
        rows.extend(table.rows.iter().map(|row| columns.row(row)));
        lines.lines(&rows).iter().try_for_each(|line| printer.line(line))
    }

    async fn objects(
        &self,
        targets: &[Target],
        output: Output,
        printer: &mut Printer,
    ) -> anyhow::Result<Exit> {
        let mut exit = Exit::Success;
        let mut found = Vec::<Value>::new();
        for target in targets {
            let answer = match target {
                Target::All(kind) => {
                    let list =
                        self.client.list(*kind, self.namespace.as_deref(), &self.query).await;
                    list.map(|it| it.items)
                }
                Target::One(object) => self.client.get(object).await.map(|it| vec![it]),
            };
            match answer {
                Ok(objects) => found.extend(objects.into_iter().map(|it| self.shown(it))),
                Err(error) => self.complain(error, &mut exit, printer)?,
            }
        }
        match (targets, found.as_slice()) {
            (_, objects) if output == Output::Name => {
                objects.iter().try_for_each(|it| print(it, output, printer))?;
            }
            ([Target::One(_)], [object]) => print(object, output, printer)?,
            ([Target::One(_)], _) => {}
            _ => {
                let metadata = json!({"resourceVersion": ""});
                let list = json!({
                    "apiVersion": "v1", "items": found, "kind": "List", "metadata": metadata,
                });
                print(&list, output, printer)?;
            }
        }
        Ok(exit)
    }

    /// Who owns which field is long, and seldom asked for.
    fn shown(&self, mut object: Value) -> Value {
        if !self.owners
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.shift_remove("managedFields");
        }
        object
    }

    /// What is there, then every change; ends only by a signal or an error.
    async fn watch(&self, target: &Target, printer: &mut Printer) -> anyhow::Result<Exit> {
        let (kind, query, namespace) = match target {
            Target::All(kind) => (*kind, self.query.clone(), self.namespace.as_deref()),
            Target::One(ObjectRef { kind, namespace, name }) => {
                (*kind, Query::name(name), Some(namespace.as_str()))
            }
        };
        if let Some(output @ (Output::Yaml | Output::Json | Output::Name)) = self.output {
            let list = self.client.list::<Value>(kind, namespace, &query).await?;
            let revision = &list.metadata.resource_version;
            let mut changes = Follow::<Value>::new(&self.client, kind, namespace, &query, revision);
            let mut objects = list.items;
            loop {
                for object in objects {
                    if output == Output::Yaml {
                        printer.line("---")?;
                    }
                    print(&self.shown(object), output, printer)?;
                }
                printer.flush()?;
                objects = changes.next(printer).await?.into_object().into_iter().collect();
            }
        }
        let (mut lines, mut columns) = (Table::default(), self.columns(kind, false));
        let mut table = self.client.table(kind, namespace, &query).await?;
        let revision = table.metadata.resource_version.clone();
        let mut changes =
            Follow::<client::Table>::new(&self.client, kind, namespace, &query, &revision);
        // They come with the first row, and once: a watch's first event repeats them.
        let mut headings = Some(std::mem::take(&mut table.column_definitions));
        loop {
            if !table.rows.is_empty() {
                table.column_definitions = headings.take().unwrap_or_default();
                self.print(&mut lines, &mut columns, &table, printer)?;
                printer.flush()?;
            }
            table = changes.next(printer).await?.into_object().unwrap_or_default();
        }
    }
}

/// One object, or a list as one.
pub(super) fn print(object: &Value, output: Output, printer: &mut Printer) -> anyhow::Result<()> {
    match output {
        Output::Yaml | Output::Wide => {
            printer.text(&serde_yaml::to_string(&go_json::sorted(object))?)?;
        }
        Output::Json => printer.line(go_json::indented(object)?)?,
        Output::Name => {
            let text =
                |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
            let kind = text("/kind").to_lowercase();
            let group = text("/apiVersion").split_once('/').map(|(group, _)| format!(".{group}"));
            let group = group.unwrap_or_default();
            printer.line(format_args!("{kind}{group}/{}", text("/metadata/name")))?;
        }
    }
    Ok(())
}
