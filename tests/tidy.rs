//! Checks that the compiler cannot: module headers and the direction of dependencies.

#![expect(clippy::unwrap_used, reason = "a failed read fails the test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

/// Module, and the modules that it may name. Anything absent may name anything.
const MAY_USE: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("clock", &[]),
    ("retry", &[]),
    ("tasks", &[]),
    ("telemetry", &["clock"]),
    ("net", &["tasks"]),
    ("plan", &["api", "retry"]),
    ("store", &["api", "clock", "retry", "tasks", "telemetry"]),
    ("fly", &["clock", "retry", "telemetry"]),
    ("local", &["clock", "fly", "net", "retry", "tasks"]),
    ("reconcile", &["api", "clock", "fly", "plan", "retry", "store", "tasks", "telemetry"]),
    ("router", &["api", "clock", "net", "retry", "store", "tasks", "telemetry"]),
    ("server", &["api", "clock", "net", "retry", "store", "tasks", "telemetry"]),
    ("client", &["api", "retry"]),
    ("sample", &["net", "tasks"]),
];

#[test]
fn every_file_opens_with_a_module_header() {
    for (path, text) in sources() {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//! "), "{}: no `//!` header", path.display());
    }
}

#[test]
fn dependencies_point_one_way() {
    let may_use: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let Some(allowed) = may_use.get(module_of(&path).as_str()) else { continue };
        // Unit tests in a file of their own may stand on anything.
        if path.file_name().is_some_and(|name| name == "tests.rs") {
            continue;
        }
        assert!(!text.contains("super::super"), "{}: name it from `crate::`", path.display());
        for (line, used) in named_modules(&text) {
            if used != module_of(&path) && !allowed.contains(&used.as_str()) {
                wrong.push(format!("{}:{line}: uses `{used}`", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "not allowed by MAY_USE:\n{}", wrong.join("\n"));
}

/// The modules that `crate::x` and `crate::{x, y::{z}}` name, and their lines.
fn named_modules(text: &str) -> Vec<(usize, String)> {
    let code: Vec<_> =
        text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect();
    let code = code.join("\n");
    let word = |text: &str| -> String {
        text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut named = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let line = code[..at].lines().count();
        let rest = &code[at + "crate::".len()..];
        let Some(group) = rest.strip_prefix('{') else {
            named.push((line, word(rest)));
            continue;
        };
        let (mut depth, mut start) = (0, 0);
        for (index, c) in group.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth > 0 => depth -= 1,
                ',' | '}' if depth == 0 => {
                    named.push((line, word(&group[start..index])));
                    start = index + 1;
                    if c == '}' {
                        break;
                    }
                }
                _ => {}
            }
        }
    }
    named.retain(|(_, module)| !module.is_empty());
    named
}

#[test]
fn a_group_of_imports_names_every_module_in_it() {
    let text = "use crate::{\n    a::{b, c},\n    d, // crate::e\n};\nlet x = crate::f::g();";
    let named: Vec<_> = named_modules(text).into_iter().map(|(_, module)| module).collect();
    assert_eq!(named, ["a", "d", "f"]);
}

#[test]
fn the_plan_is_pure() {
    let forbidden = ["async", "await", "rand", "tokio", "Clock", "getrandom", "uuid", "SystemTime"];
    let mut wrong = Vec::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| module_of(path) == "plan") {
        for (number, line) in text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            let words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            for word in words.filter(|it| forbidden.contains(it)) {
                wrong.push(format!("{}:{}: `{word}`", path.display(), number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "no place for it in a plan:\n{}", wrong.join("\n"));
}

fn module_of(path: &Path) -> String {
    let inside = path.strip_prefix(root()).unwrap();
    let first = inside.components().next().unwrap().as_os_str().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![root()];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}
