//! The load test itself: that it counts what happened, and says so in a form for programs. How long things took is nobody's
//! business here.

#![expect(clippy::unwrap_used, reason = "a failed step fails the test")]

use std::process::{Command, Stdio};

use serde_json::Value;

/// Runs it without what the caller's environment says, and reads what it printed.
fn bench(line: &str) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_hangar"))
        .args(["bench", "claims", "--output", "json", "--fly", "instant"])
        .args(line.split_whitespace())
        .env_clear()
        .env("TMPDIR", std::env::temp_dir())
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn number(report: &Value, path: &str) -> f64 {
    let found = report.pointer(path).and_then(Value::as_f64);
    assert!(found.is_some(), "no number at {path} in\n{report:#}");
    found.unwrap()
}

#[test]
fn every_claim_of_a_large_pool_is_a_hit_and_has_a_bay_of_its_own() {
    let report = bench("--count 20 --rate 100 --pool 24");
    let claims = &report["claims"];
    for (field, count) in [("made", 20), ("hits", 20), ("misses", 0), ("failed", 0), ("doubles", 0)]
    {
        assert_eq!(claims[field], count, "{field} in\n{report:#}");
    }
    assert_eq!(report["rateLimited"], 0, "{report:#}");
    assert_eq!(report["settings"]["fly"], "instant");
    for stage in ["durable", "bound", "routable", "ready"] {
        for percentile in ["p50", "p90", "p99", "max"] {
            assert!(number(&report, &format!("/latencyMs/hits/{stage}/{percentile}")) > 0.0);
        }
    }
    // The API's commit, the claim's, and one with what was written into the machine, which is the one call that is made.
    for (cost, most) in [("storeWrites", 3.0), ("reconciles", 1.0), ("flyCalls", 1.0)] {
        // A pass is counted when it is over, which the last one need not be.
        let found = number(&report, &format!("/perClaim/{cost}"));
        assert!(found <= most && found > most * 0.9, "{cost} in\n{report:#}");
    }
    let smallest = number(&report, "/pool/smallestStock");
    assert!((4.0..=24.0).contains(&smallest), "{report:#}");
    number(&report, "/pool/refillLagMs/p50");
    number(&report, "/fill/tookS");
    number(&report, "/fill/floorS");
}

#[test]
fn more_claimers_than_bays_never_share_one() {
    let report = bench("--count 12 --at-once --pool 5");
    let claims = &report["claims"];
    for (field, count) in [("made", 12), ("failed", 0), ("doubles", 0)] {
        assert_eq!(claims[field], count, "{field} in\n{report:#}");
    }
    let (hits, misses) = (number(&report, "/claims/hits"), number(&report, "/claims/misses"));
    assert_eq!((hits + misses, misses > 0.0), (12.0, true), "{report:#}");
    number(&report, "/latencyMs/misses/bound/p50");
}
