//! Manifests of tests, as YAML.

/// A template with a volume and a readiness check that sleeps only by order. `more` are lines of its spec; later ones win
/// nothing, so they must be others.
pub(crate) fn template(name: &str, image: &str, more: &str) -> String {
    format!(
        "---
apiVersion: hangar.dev/v1alpha1
kind: Template
metadata: {{name: {name}}}
spec:
  machine:
    image: {image}
    guest: {{cpuKind: shared, cpus: 1, memory: 256Mi}}
  services: [{{name: web, internalPort: 8080}}]
  regions: [ams]
  readiness: {{http: {{path: /healthz, port: 8080}}, timeout: 3s}}
  volume: {{mountPath: /data, size: 1Gi}}
  update: {{strategy: Rolling}}
{}",
        indented(more)
    )
}

/// A public environment. `more` are lines of its spec.
pub(crate) fn environment(name: &str, template: &str, more: &str) -> String {
    format!(
        "---
apiVersion: hangar.dev/v1alpha1
kind: Environment
metadata: {{name: {name}, labels: {{team: {name}s}}}}
spec:
  templateRef: {{name: {template}}}
  access: Public
{}",
        indented(more)
    )
}

/// The sample application.
pub(crate) const SAMPLE: &str = "hangar.dev/sample-app:1";

/// One environment of the sample application.
pub(crate) fn one(name: &str) -> String {
    template("workspace", SAMPLE, "") + &environment(name, "workspace", "")
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("  {line}\n")).collect()
}
