//! What `/` shows, as a page and as JSON. It must never write a value into HTML unescaped, nor load anything.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::sample::{place::Place, visits::Count};

/// What is shown.
#[derive(Debug)]
pub(super) struct View<'a> {
    pub(super) place: &'a Place,
    pub(super) count: Count,
}

pub(super) fn json(view: &View<'_>) -> Value {
    let View { place, count } = view;
    json!({
        "environment": place.environment,
        "app": place.app,
        "machine": place.machine,
        "region": place.region,
        "epoch": place.epoch,
        "visits": count.total,
        "visits_since_start": count.since_start,
        "visits_kept": count.kept,
        "env": place.env,
    })
}

pub(super) fn html(view: &View<'_>) -> String {
    let View { place, count } = view;
    let name = if place.environment.is_empty() { "this environment" } else { &place.environment };
    let mut facts = String::new();
    for (what, value) in [
        ("App", &place.app),
        ("Machine", &place.machine),
        ("Region", &place.region),
        ("Epoch", &place.epoch),
    ] {
        if !value.is_empty() {
            let value = escape(value);
            // Writing to a string cannot fail.
            let _ok = write!(facts, "<div><dt>{what}</dt><dd>{value}</dd></div>");
        }
    }
    let kept = if count.kept {
        "Counted on the volume: they survive sleep, restarts and new machines."
    } else {
        "There is no volume here, so the count starts anew with the app."
    };
    let mut rows = String::new();
    for (name, value) in &place.env {
        let (name, value) = (escape(name), escape(value));
        let _ok = write!(rows, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>");
    }
    let hidden = match place.hidden {
        0 => String::new(),
        1 => "One more is not shown: it looks like a secret.".to_owned(),
        many => format!("{many} more are not shown: they look like secrets."),
    };
    format!(
        include_str!("page.html"),
        title = escape(name),
        style = include_str!("page.css"),
        visits = count.total,
        since_start = count.since_start,
        kept = kept,
        facts = facts,
        rows = rows,
        hidden = hidden,
    )
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(name: &str, env: &[(&str, &str)]) -> String {
        let own = [("HANGAR_ENVIRONMENT", name), ("FLY_MACHINE_ID", "m1")];
        let all = own.iter().chain(env).map(|(name, value)| ((*name).into(), (*value).into()));
        let place = Place::from_env(all);
        let count = Count { total: 7, since_start: 2, kept: true };
        html(&View { place: &place, count })
    }

    #[test]
    fn nothing_from_outside_reaches_the_page_as_html() {
        let page = shown("<script>alert(1)</script>", &[("A", "\"><img src=x>{rows}")]);
        assert!(!page.contains("<script") && !page.contains("<img"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
        assert!(page.contains("&quot;&gt;&lt;img src=x&gt;{rows}"));
    }

    #[test]
    fn the_page_names_its_environment_and_machine_and_loads_nothing() {
        let page = shown("alice", &[("A_TOKEN", "hush")]);
        assert!(page.contains("<h1>alice</h1>") && page.contains("m1") && page.contains(">7<"));
        assert!(!page.contains("hush") && page.contains("One more is not shown"));
        assert!(!page.contains("http://") && !page.contains("https://"));
    }
}
