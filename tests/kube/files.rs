//! The files that kubectl is given. It must never hold what a row of the matrix is about: which file a row takes says that.

use std::{fs, path::Path};

const TEMPLATE: &str = "\
apiVersion: hangar.dev/v1alpha1
kind: Template
metadata: {name: node}
spec:
  machine: {image: 'hangar.dev/sample-app:1'}
  services: [{name: web, internalPort: 8080}]
  regions: [ams]
";

const POOL: &str = "\
apiVersion: hangar.dev/v1alpha1
kind: WarmPool
metadata: {name: stock}
spec: {templateRef: {name: node}, replicas: 1}
";

/// A file's name and what is in it.
fn all() -> Vec<(&'static str, String)> {
    let env = |name: &str, more: &str| {
        format!(
            "apiVersion: hangar.dev/v1alpha1\nkind: Environment\nmetadata: {{{name}}}\nspec: {{templateRef: {{name: node}}, owner: a@example.com{more}}}\n"
        )
    };
    vec![
        ("template.yaml", TEMPLATE.to_owned()),
        ("pool.yaml", POOL.to_owned()),
        ("pool-empty.yaml", POOL.replace("replicas: 1", "replicas: 0")),
        ("demo.yaml", env("name: demo, labels: {team: a}", "")),
        ("demo-2.yaml", env("name: demo, labels: {team: a}", ", env: {A: '2'}")),
        ("applied.yaml", env("name: applied, labels: {team: a}", ", env: {A: '1'}, hostnames: [one]")),
        ("applied-2.yaml", env("name: applied", ", env: {B: '2'}, hostnames: [one]")),
        (
            "other.yaml",
            "apiVersion: hangar.dev/v1alpha1\nkind: Environment\nmetadata: {name: applied, labels: {other: 'yes'}}\nspec: {env: {C: '3'}, hostnames: [two]}\n".to_owned(),
        ),
        (
            "against.yaml",
            "apiVersion: hangar.dev/v1alpha1\nkind: Environment\nmetadata: {name: applied}\nspec: {owner: c@example.com}\n".to_owned(),
        ),
        (
            "opaque.yaml",
            "apiVersion: v1\nkind: Secret\nmetadata: {name: opaque}\nstringData: {K: hidden}\n".to_owned(),
        ),
        ("made.yaml", env("name: made", "")),
        ("again.yaml", env("name: made", ", env: {AGAIN: 'yes'}")),
        ("dry.yaml", env("name: dry", "")),
        (
            "odd.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: odd}\ndata: {a: 'a <b> && c é'}\n".to_owned(),
        ),
        ("drawn.yaml", env("generateName: drawn-", "")),
        ("wrong.yaml", env("name: wrong", ", regoin: ams")),
        ("warned.yaml", env("name: warned", ", regoin: ams")),
        ("ignored.yaml", env("name: ignored", ", regoin: ams")),
        ("invalid.yaml", env("name: invalid", ", operatingMode: Sideways")),
        ("elsewhere.yaml", env("name: elsewhere, namespace: nowhere", "")),
        ("team.yaml", env("name: inside, namespace: team-a", "")),
        ("pruned.yaml", env("name: pruned, labels: {prune: 'yes'}", "")),
        ("kept.yaml", env("name: kept, labels: {prune: 'yes'}", "")),
        ("built/kustomization.yaml", "resources: [env.yaml]\nnameSuffix: -k\n".to_owned()),
        ("built/env.yaml", env("name: built", "")),
        (
            "settings.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {a: '1'}\n".to_owned(),
        ),
        (
            "settings-2.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: applied}\ndata: {b: '2'}\n".to_owned(),
        ),
        (
            "lease.yaml",
            "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: lead}\nspec: {holderIdentity: me, leaseDurationSeconds: 15, renewTime: '2026-01-02T03:04:05.000006Z'}\n".to_owned(),
        ),
    ]
}

/// Writes them all into a directory.
pub(crate) fn write(directory: &Path) {
    for (name, text) in all() {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
}
