//! Columns in capitals, cells under them. Widths only grow, so that rows of a watch stay under their headings. It must never
//! ask for anything.

use serde_json::Value;

use crate::{cli::printer::one_line, client};

/// Spaces between columns.
const GAP: usize = 3;

/// A table that is printed row by row.
#[derive(Debug, Clone, Default)]
pub(super) struct Table {
    widths: Vec<usize>,
}

impl Table {
    /// Lines of these rows; the last column is not padded.
    pub(super) fn lines(&mut self, rows: &[Vec<String>]) -> Vec<String> {
        let rows: Vec<Vec<String>> =
            rows.iter().map(|row| row.iter().map(|cell| one_line(cell)).collect()).collect();
        for row in &rows {
            self.widths.resize(self.widths.len().max(row.len()), 0);
            for (width, cell) in self.widths.iter_mut().zip(row) {
                *width = (*width).max(cell.chars().count());
            }
        }
        rows.iter().map(|row| self.line(row)).collect()
    }

    fn line(&self, row: &[String]) -> String {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&self.widths) {
            line.push_str(cell);
            let padding = width + GAP - cell.chars().count();
            line.extend(std::iter::repeat_n(' ', padding));
        }
        line.truncate(line.trim_end().len());
        line
    }
}

/// Headings and rows, once.
pub(super) fn lines(headings: &[&str], rows: Vec<Vec<String>>) -> Vec<String> {
    let mut all = vec![headings.iter().map(|it| it.to_uppercase()).collect()];
    all.extend(rows);
    Table::default().lines(&all)
}

/// Which of the server's columns are shown, and what stands before them.
#[derive(Debug, Clone, Default)]
pub(super) struct Columns {
    /// Show those that are not always shown.
    pub(super) wide: bool,
    /// Begin with the namespace.
    pub(super) namespace: bool,
    /// Put this before each name: `environment/`.
    pub(super) prefix: String,
    /// For each of the server's columns, whether it is shown; set with the headings.
    pub(super) shown: Vec<bool>,
}

impl Columns {
    /// The headings, which also settle which cells of the rows to come are shown.
    pub(super) fn headings(&mut self, table: &client::Table) -> Vec<String> {
        self.shown =
            table.column_definitions.iter().map(|it| self.wide || it.priority == 0).collect();
        let shown = table.column_definitions.iter().zip(&self.shown).filter(|(_, shown)| **shown);
        let names = shown.map(|(column, _)| column.name.to_uppercase());
        self.namespace.then(|| "NAMESPACE".to_owned()).into_iter().chain(names).collect()
    }

    /// The cells of a row.
    pub(super) fn row(&self, row: &client::TableRow) -> Vec<String> {
        let mut cells = Vec::new();
        if self.namespace {
            let namespace =
                row.object.pointer("/metadata/namespace").map_or_else(String::new, plain);
            cells.push(namespace);
        }
        for (place, (cell, shown)) in row.cells.iter().zip(&self.shown).enumerate() {
            if *shown {
                let prefix = if place == 0 { self.prefix.as_str() } else { "" };
                cells.push(format!("{prefix}{}", plain(cell)));
            }
        }
        cells
    }
}

/// A value as text: strings without quotes.
pub(super) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn server_table() -> client::Table {
        serde_json::from_value(json!({
            "columnDefinitions": [{"name": "Name"}, {"name": "Phase"}, {"name": "Bay", "priority": 1}],
            "rows": [
                {"cells": ["alice", "Ready", "bay-1"], "object": {"metadata": {"namespace": "a"}}},
                {"cells": ["b", "A\u{1b}[31mB\n", null], "object": {"metadata": {"namespace": "team-b"}}},
            ],
        }))
        .unwrap()
    }

    #[track_caller]
    fn check(mut columns: Columns, expected: &[&str]) {
        let table = server_table();
        let mut rows = vec![columns.headings(&table)];
        rows.extend(table.rows.iter().map(|row| columns.row(row)));
        assert_eq!(Table::default().lines(&rows), expected);
    }

    #[test]
    fn columns_are_aligned_and_wide_ones_left_out() {
        check(Columns::default(), &["NAME    PHASE", "alice   Ready", "b       A [31mB"]);
    }

    #[test]
    fn wide_tables_have_every_column_and_namespaces_come_first() {
        check(
            Columns {
                wide: true,
                namespace: true,
                prefix: "environment/".to_owned(),
                ..Columns::default()
            },
            &[
                "NAMESPACE   NAME                PHASE     BAY",
                "a           environment/alice   Ready     bay-1",
                "team-b      environment/b       A [31mB",
            ],
        );
    }

    #[test]
    fn later_rows_stay_under_their_headings() {
        let row = |cells: [&str; 2]| vec![cells.map(str::to_owned).to_vec()];
        let mut table = Table::default();
        assert_eq!(table.lines(&row(["NAME", "X"])), ["NAME   X"]);
        assert_eq!(table.lines(&row(["a", "1"])), ["a      1"]);
        assert_eq!(table.lines(&row(["longer", "2"])), ["longer   2"]);
        assert_eq!(table.lines(&row(["a", "3"])), ["a        3"]);
    }
}
