//! Tables of who may do what.

use super::*;

fn scoped(namespaces: &[&str], verbs: &[&str], resources: &[&str]) -> Caller {
    let words = |list: &[&str]| list.iter().map(|it| (*it).to_owned()).collect();
    let spec = AccessTokenSpec {
        namespaces: words(namespaces),
        verbs: words(verbs),
        resources: words(resources),
        ..AccessTokenSpec::default()
    };
    Caller::Scoped(Arc::new(Pass { name: "ci".to_owned(), uid: "u".to_owned(), spec }))
}

fn may(caller: &Caller, verb: &str, what: &str, namespace: Option<&str>) -> bool {
    let (name, group) = what.split_once('.').unwrap_or((what, ""));
    let (name, part) = name.split_once('/').unwrap_or((name, ""));
    super::may(caller, verb, Thing::Resource { group, name, part }, namespace).is_ok()
}

#[test]
fn what_the_api_can_do_may_be_done() {
    let check = |verb: &str, what: &str, expected: bool| {
        assert_eq!(may(&Caller::Local, verb, what, Some("team-a")), expected, "{verb} {what}");
    };
    check("create", "environments.hangar.dev", true);
    check("patch", "environments/status.hangar.dev", true);
    check("update", "warmpools/scale.hangar.dev", true);
    check("create", "bays.hangar.dev", false);
    check("watch", "bays.hangar.dev", true);
    check("*", "bays.hangar.dev", false);
    check("*", "environments.hangar.dev", true);
    check("*", "*.*", true);
    check("get", "secrets", true);
    check("get", "secrets.hangar.dev", false);
    check("get", "nodes", false);
    check("approve", "environments.hangar.dev", false);
    check("get", "accesstokens.hangar.dev", true);
}

#[test]
fn a_path_is_for_whom_it_answers() {
    let check =
        |caller: &Caller, verb, path| super::may(caller, verb, Thing::Path(path), None).is_ok();
    for (verb, path) in [("get", "/version"), ("get", "/openapi/v3"), ("post", "/backups")] {
        assert!(check(&Caller::Token, verb, path), "{path}");
    }
    assert!(!check(&Caller::Token, "post", "/version"));
    assert!(!check(&Caller::Token, "get", "/nothing"));
    let reader = scoped(&["*"], &["get"], &["*", "/metrics"]);
    assert!(check(&reader, "get", "/version") && check(&reader, "get", "/metrics"));
    assert!(!check(&reader, "get", "/logs") && !check(&reader, "post", "/backups"));
    assert!(!check(&reader, "get", "*"));
}

/// A request, what a review calls it, and whether a token for `team-a` lets do it that may `get`, `list` and `create` environments,
/// namespaces and `pods/exec`. `H` stands for the path of hangar's own group, `C` for the core's.
const ASKED: &str = "
GET H/namespaces/team-a/environments/x            | get environments.hangar.dev               | yes
GET H/namespaces/team-a/environments              | list environments.hangar.dev              | yes
GET H/namespaces/team-b/environments              | list environments.hangar.dev              | no
GET H/environments                                | list environments.hangar.dev              | no
GET H/namespaces/team-a/environments?watch=1      | watch environments.hangar.dev             | no
POST H/namespaces/team-a/environments             | create environments.hangar.dev            | yes
PATCH H/namespaces/team-a/environments/x          | patch environments.hangar.dev             | no
DELETE H/namespaces/team-a/environments/x         | delete environments.hangar.dev            | no
DELETE H/namespaces/team-a/environments           | deletecollection environments.hangar.dev  | no
GET H/namespaces/team-a/environments/x/status     | get environments/status.hangar.dev        | no
GET C/namespaces/team-a/pods/x/exec?command=a&stdout=1  | create pods/exec                    | yes
POST C/namespaces/team-a/pods/x/exec?command=a&stdout=1 | create pods/exec                    | yes
GET C/namespaces/team-b/pods/x/exec?command=a&stdout=1  | create pods/exec                    | no
GET C/namespaces/team-a/pods/x/attach?stdout=1    | create pods/attach                        | no
GET C/namespaces/team-a/pods/x/portforward        | create pods/portforward                   | no
GET C/namespaces/team-a/pods/x/log                | get pods/log                              | no
DELETE C/namespaces/team-a/pods/x                 | delete pods                               | no
GET C/namespaces/team-a                           | get namespaces                            | yes
GET C/namespaces/team-b                           | get namespaces                            | no
GET C/namespaces                                  | list namespaces                           | no
GET C/namespaces/team-a/secrets/x                 | get secrets                               | no
GET H/accesstokens                                | list accesstokens.hangar.dev              | no
GET /apis/metrics.k8s.io/v1beta1/namespaces/team-a/pods | list pods.metrics.k8s.io            | no
";

#[test]
fn a_scope_is_kept_to_and_reviews_and_calls_say_the_same() {
    let team = scoped(
        &["team-a"],
        &["get", "list", "create"],
        &["environments", "pods/exec", "namespaces"],
    );
    for row in ASKED.trim().lines() {
        let cells: Vec<_> = row.split('|').map(str::trim).collect();
        let [request, review, expected] = cells[..] else { panic!("{row}") };
        let (method, path) = request.split_once(' ').unwrap();
        let own = path.strip_prefix('H').map(|it| format!("/apis/hangar.dev/v1alpha1{it}"));
        let core = path.strip_prefix('C').map(|it| format!("/api/v1{it}"));
        let path = own.or(core).unwrap_or_else(|| path.to_owned());
        let (path, query) =
            path.split_once('?').map_or((path.as_str(), None), |(a, b)| (a, Some(b)));
        let call = Call::parse(&method.parse().unwrap(), path, query).unwrap();
        assert_eq!(is_let(&team, asked(&call)), expected == "yes", "{row}");
        let namespace = path.split("/namespaces/").nth(1).and_then(|it| it.split('/').next());
        let (verb, what) = review.split_once(' ').unwrap();
        assert_eq!(may(&team, verb, what, namespace), expected == "yes", "{row}");
    }
    let all = scoped(&["*"], &["*"], &["*"]);
    assert!(may(&all, "deletecollection", "secrets", None));
    assert!(!may(&all, "get", "accesstokens.hangar.dev", None));
    assert!(!may(&all, "create", "bays.hangar.dev", None), "it is hangar's own");
    assert!(may(&team, "create", "selfsubjectaccessreviews.authorization.k8s.io", None));
}

#[test]
fn a_refusal_has_kubernetes_words() {
    let said = |path: &str| {
        let call = Call::parse(&Method::GET, path, None).unwrap();
        refusal(&scoped(&[], &[], &[]), asked(&call)).message
    };
    assert_eq!(
        said("/apis/hangar.dev/v1alpha1/namespaces/default/environments"),
        "environments.hangar.dev is forbidden: User \"ci\" cannot list resource \"environments\" in API group \"hangar.dev\" in the namespace \"default\""
    );
    assert_eq!(
        said("/api/v1/namespaces/default/pods/alice/log"),
        "pods \"alice\" is forbidden: User \"ci\" cannot get resource \"pods/log\" in API group \"\" in the namespace \"default\""
    );
    assert_eq!(
        said("/api/v1/secrets"),
        "secrets is forbidden: User \"ci\" cannot list resource \"secrets\" in API group \"\" at the cluster scope"
    );
    assert_eq!(said("/logs"), "forbidden: User \"ci\" cannot get path \"/logs\"");
}
