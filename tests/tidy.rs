//! Checks that the compiler cannot: module headers, the direction of dependencies, and that the documents are about this
//! tree.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a failed read fails the test")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::CommandFactory as _;

/// Module, and the modules that it may name. Anything absent may name anything.
const MAY_USE: &[(&str, &[&str])] = &[
    ("api", &[]),
    ("chance", &[]),
    ("clock", &[]),
    ("retry", &[]),
    ("tasks", &[]),
    ("telemetry", &["clock"]),
    ("net", &["tasks"]),
    ("plan", &["api", "retry"]),
    ("store", &["api", "clock", "retry", "tasks", "telemetry"]),
    ("failpoint", &["fly", "store"]),
    ("fly", &["clock", "retry", "telemetry"]),
    ("local", &["chance", "clock", "fly", "net", "retry", "tasks"]),
    (
        "reconcile",
        &["api", "chance", "clock", "fly", "plan", "retry", "store", "tasks", "telemetry"],
    ),
    ("router", &["api", "clock", "net", "retry", "store", "tasks", "telemetry"]),
    ("server", &["api", "chance", "clock", "net", "retry", "store", "tasks", "telemetry"]),
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

/// Documents whose claims about the tree are checked.
const DOCUMENTS: &[&str] = &[
    "README.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/fly.md",
    "docs/kubernetes.md",
    "docs/reliability.md",
    "docs/style.md",
    "examples/README.md",
];

#[test]
fn every_module_is_in_the_code_map() {
    let page = read("docs/architecture.md");
    let rows: Vec<_> = page.lines().filter_map(|it| it.strip_prefix("| `")).collect();
    for entry in fs::read_dir(root()).unwrap() {
        let module = module_of(&entry.unwrap().path());
        let in_map = rows.iter().any(|row| {
            let first = row.split('|').next().unwrap_or_default();
            first.split('`').any(|word| word == module)
        });
        assert!(in_map, "docs/architecture.md: `{module}` is not in the code map");
    }
}

#[test]
fn every_manifest_and_example_is_named_where_people_look() {
    for (directory, page, form) in [
        ("manifests", "README.md", "(manifests/{}.yaml)"),
        ("examples", "examples/README.md", "{}"),
    ] {
        let text = read(page);
        for entry in fs::read_dir(project().join(directory)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|it| it == "md") {
                continue;
            }
            let name = path.file_stem().unwrap().to_string_lossy();
            assert!(text.contains(&form.replace("{}", &name)), "{page}: {name} is not named");
        }
    }
}

#[test]
fn every_setting_is_in_the_readme() {
    let text = read("README.md");
    let rows: Vec<_> = text.lines().filter(|it| it.starts_with('|')).collect();
    let named = |words: &[&str]| rows.iter().any(|row| words.iter().all(|it| row.contains(it)));
    let cli = hangar::cli::Cli::command();
    let servers = ["up", "serve", "router", "local"].map(|it| cli.find_subcommand(it).unwrap());
    for argument in servers.iter().flat_map(|it| it.get_arguments()).chain(cli.get_arguments()) {
        let (Some(flag), Some(variable)) = (argument.get_long(), argument.get_env()) else {
            continue;
        };
        let (flag, variable) = (format!("`--{flag}`"), format!("`{}`", variable.display()));
        assert!(named(&[&flag, &variable]), "README.md: no row with {flag} and {variable}");
    }
    for (path, text) in sources().iter().filter(|(path, _)| module_of(path) == "cli") {
        for literal in text.split('"').filter(|it| is_variable(it)) {
            let row = named(&[&format!("`{literal}`")]);
            assert!(row, "README.md: no row with {literal}, named in {}", path.display());
        }
    }
}

fn is_variable(text: &str) -> bool {
    let prefixed = text.starts_with("HANGAR_") || text.starts_with("FLY_");
    prefixed && text.chars().all(|it| it.is_ascii_uppercase() || it == '_')
}

#[test]
fn what_the_documents_name_is_there() {
    let mut all = String::new();
    for (_, text) in sources().into_iter().chain(rust_files(project().join("tests"))) {
        all.push_str(&text);
    }
    for page in DOCUMENTS {
        let text = read(page).split_whitespace().collect::<Vec<_>>().join(" ");
        let beside = project().join(page);
        for link in text.split("](").skip(1).filter_map(|it| it.split(')').next()) {
            let local = !link.contains("://") && !link.starts_with('#');
            let path = beside.parent().unwrap().join(link);
            assert!(!local || path.exists(), "{page}: {link} is not there");
        }
        for code in text.split('`').skip(1).step_by(2) {
            let (path, names) = code.split_once(": ").unwrap_or((code, ""));
            let inside = ["src/", "tests/", "docs/", "examples/", "manifests/", "benches/"]
                .iter()
                .any(|it| path.starts_with(it));
            let whole = !path.contains(['*', ' ', '<']);
            assert!(!(inside && whole) || project().join(path).exists(), "{page}: no {path}");
            if !path.ends_with(".rs") && !path.contains('/') {
                continue;
            }
            for name in names.split(", ").filter(|it| !it.is_empty() && !it.contains(' ')) {
                let there = ["fn", "const"].iter().any(|it| all.contains(&format!("{it} {name}")));
                assert!(there, "{page}: `{code}`: there is no {name}");
            }
        }
    }
}

#[test]
fn no_file_names_a_place_outside_the_project() {
    // Put together here, so that this file does not name them.
    let places = ["work", "home", "root", "Users"].map(|it| format!("/{it}/"));
    let mut texts = sources();
    for directory in ["tests", "benches", "examples"] {
        texts.extend(rust_files(project().join(directory)));
    }
    let more = DOCUMENTS.iter().chain(&["Cargo.toml", "deny.toml", "clippy.toml", ".ci/run"]);
    texts.extend(more.map(|it| (project().join(it), read(it))));
    for (path, text) in texts {
        for place in &places {
            let named = text.match_indices(place).any(|(at, _)| {
                // The end of a longer path, such as a directory of that name in a machine's own, is none.
                !text[..at].ends_with(|it: char| it.is_alphanumeric() || "._-<>{}`".contains(it))
            });
            assert!(!named, "{}: names {place}", path.display());
        }
    }
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(project().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
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
    rust_files(root())
}

fn rust_files(directory: PathBuf) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![directory];
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
