//! The planner over a modelled Fly: scenario scripts with checked-in transcripts, and properties that hold in every course.
//!
//! `tests/plan/*.txt` are the scripts, `*.out` what came of them; `UPDATE_EXPECT=1 cargo test --test plan` rewrites those.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]
#![expect(clippy::panic, reason = "a script with a mistake fails the test")]

#[path = "plan/fly.rs"]
mod fly;
#[path = "plan/model.rs"]
mod model;
#[path = "plan/properties.rs"]
mod properties;
#[path = "plan/script.rs"]
mod script;

use std::{fs, path::Path};

#[test]
fn scenarios_go_as_recorded() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/plan");
    let mut scripts: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|it| it.unwrap().path())
        .filter(|it| it.extension().is_some_and(|it| it == "txt"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    for path in scripts {
        let out = script::run(&fs::read_to_string(&path).unwrap());
        expect_test::expect_file![path.with_extension("out")].assert_eq(&out);
    }
}
