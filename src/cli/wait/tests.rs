//! What goals can be typed and how objects are judged by them.

use serde_json::json;

use super::*;

#[track_caller]
fn judge(goal: &str, object: Value) -> Verdict {
    goal.parse::<Goal>().unwrap().judge(Some(&object).filter(|it| !it.is_null()))
}

fn environment(generation: u64, conditions: &[(&str, &str)]) -> Value {
    let conditions: Vec<_> = conditions
        .iter()
        .map(
            |(kind, status)| json!({"type": kind, "status": status, "reason": "R", "message": "m"}),
        )
        .collect();
    json!({
        "metadata": {"generation": generation},
        "status": {"observedGeneration": 2, "phase": "Ready", "conditions": conditions},
    })
}

#[test]
fn a_condition_is_met_at_the_current_generation_only() {
    let met = Verdict::Met("condition met".to_owned());
    assert_eq!(judge("condition=Ready", environment(2, &[("Ready", "True")])), met);
    assert_eq!(judge("condition=ready=false", environment(2, &[("Ready", "False")])), met);
    let not_yet = |text: &str| Verdict::NotYet(text.to_owned());
    assert_eq!(
        judge("condition=Ready", environment(3, &[("Ready", "True")])),
        not_yet("the last change has not been looked at yet")
    );
    assert_eq!(
        judge("condition=Ready", environment(2, &[("Ready", "False")])),
        not_yet("not Ready (R): m")
    );
    let mut silent = environment(2, &[("Stalled", "False")]);
    silent["status"]["conditions"][0]["message"] = json!("");
    assert_eq!(judge("condition=Stalled", silent), not_yet("not Stalled (R)"));
    assert_eq!(
        judge("condition=Ready", environment(2, &[])),
        not_yet("there is no condition Ready yet")
    );
    assert_eq!(
        judge("condition=Ready", environment(2, &[("Full", "True"), ("Stalled", "False")])),
        not_yet("there is no condition Ready yet, only Full, Stalled")
    );
}

#[test]
fn fields_are_compared_as_text() {
    let met = Verdict::Met("condition met".to_owned());
    assert_eq!(judge("jsonpath={.status.phase}=Ready", environment(2, &[])), met);
    assert_eq!(judge("jsonpath='{.metadata.generation}'=2", environment(2, &[])), met);
    assert_eq!(judge("jsonpath={.status.phase}", environment(2, &[])), met);
    assert_eq!(
        judge("jsonpath={.status.bay}", environment(2, &[])),
        Verdict::NotYet("status.bay is ``".to_owned())
    );
    assert_eq!(
        judge("jsonpath=.status.phase=Asleep", environment(2, &[])),
        Verdict::NotYet("status.phase is `Ready`".to_owned())
    );
}

#[test]
fn absence_meets_a_deletion_and_fails_everything_else() {
    assert_eq!(judge("delete", Value::Null), Verdict::Met("condition met".to_owned()));
    assert_eq!(
        judge("condition=Ready", Value::Null),
        Verdict::Failed("it is not there".to_owned())
    );
    let gone = Goal::Gone { uid: Some("a".to_owned()) };
    let with_uid = |uid: &str| json!({"metadata": {"uid": uid, "finalizers": ["f"]}});
    assert_eq!(gone.judge(Some(&with_uid("b"))), Verdict::Met("condition met".to_owned()));
    assert_eq!(gone.judge(Some(&with_uid("a"))), Verdict::NotYet("[\"f\"]".to_owned()));
}

#[test]
fn an_environment_settles_when_it_serves_or_sleeps_and_fails_when_it_is_stuck() {
    let judge = |conditions: &[_]| Goal::Settled.judge(Some(&environment(2, conditions)));
    assert_eq!(judge(&[("Ready", "True"), ("Stalled", "False")]), Verdict::Met("ready".to_owned()));
    assert_eq!(judge(&[("Ready", "False"), ("Asleep", "True")]), Verdict::Met("asleep".to_owned()));
    let stuck = Verdict::Failed("Stalled (R): m".to_owned());
    assert_eq!(judge(&[("Ready", "False"), ("Stalled", "True")]), stuck);
    assert_eq!(judge(&[("Ready", "False")]), Verdict::NotYet("not Ready (R): m".to_owned()));
    // What serves while what it adds is written once more is not there yet.
    let mut written_again = environment(2, &[("Ready", "True"), ("Updated", "False")]);
    for reason in ["Personalizing", "PersonalizeFailed"] {
        written_again["status"]["conditions"][1]["reason"] = json!(reason);
        let missing = Verdict::NotYet(format!("not Updated ({reason}): m"));
        assert_eq!(Goal::Settled.judge(Some(&written_again)), missing);
    }
}

#[test]
fn what_is_no_goal_is_refused() {
    for text in ["", "ready", "condition=", "jsonpath=x", "jsonpath={status}=y"] {
        assert!(text.parse::<Goal>().is_err(), "{text}");
    }
}

#[test]
fn a_deletion_that_is_held_back_is_not_waited_for() {
    let stalled = |reason: &str| {
        let condition =
            json!({"type": "Stalled", "status": "True", "reason": reason, "message": "say so"});
        json!({"metadata": {"finalizers": ["hangar.dev/bay"]}, "status": {"conditions": [condition]}})
    };
    assert_eq!(
        judge("delete", stalled("Held")),
        Verdict::Failed("its deletion is held back: say so".to_owned())
    );
    assert!(matches!(judge("delete", stalled("Deleting")), Verdict::NotYet(_)));
}
