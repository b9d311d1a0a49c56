//! JSON Schema of the kinds, for editors, and their reference as Markdown; both come from the types and their doc comments.
//! It must never say anything that the types do not.

use std::fmt::Write as _;

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::SchemaSettings,
    transform::{RecursiveTransform, Transform as _},
};
use serde_json::{Map, Value, json};

use crate::api::{
    access_token::AccessToken,
    bay::Bay,
    core::{ConfigMap, Event, Namespace, Secret},
    definition::CustomResourceDefinition,
    environment::Environment,
    hold::Hold,
    hostname::Hostname,
    kind::Kind,
    lease::Lease,
    orphan::Orphan,
    pod::Pod,
    pool::WarmPool,
    quota::ResourceQuota,
    rollout::TemplateRevision,
    template::Template,
};

/// Schema of one kind's objects.
#[must_use]
pub fn of(kind: Kind) -> Value {
    let mut generator = generator();
    let mut root = object(kind, &mut generator);
    if let Some(fields) = root.as_object_mut() {
        fields.insert("$schema".to_owned(), json!(DRAFT));
        fields.insert("$defs".to_owned(), definitions(&mut generator));
    }
    root
}

/// Schema of any object that can be applied.
#[must_use]
pub fn of_manifests() -> Value {
    let mut generator = generator();
    let kinds = Kind::ALL.into_iter().filter(|it| it.info().writable);
    let any: Vec<_> = kinds.map(|kind| object(kind, &mut generator)).collect();
    json!({
        "$schema": DRAFT,
        "title": "hangar manifest",
        "description": "An object that `hangar apply` takes",
        "type": "object",
        "required": ["apiVersion", "kind", "metadata"],
        "oneOf": any,
        "$defs": definitions(&mut generator),
    })
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

fn generator() -> SchemaGenerator {
    SchemaSettings::draft2020_12().into_generator()
}

fn definitions(generator: &mut SchemaGenerator) -> Value {
    let mut definitions = Value::Object(generator.take_definitions(true));
    for schema in definitions.as_object_mut().into_iter().flat_map(Map::values_mut) {
        strict(schema);
    }
    definitions
}

/// A kind's schema, in which `apiVersion` and `kind` are what they must be.
fn object(kind: Kind, generator: &mut SchemaGenerator) -> Value {
    let schema = match kind {
        Kind::Template => inline::<Template>(generator),
        Kind::Environment => inline::<Environment>(generator),
        Kind::TemplateRevision => inline::<TemplateRevision>(generator),
        Kind::WarmPool => inline::<WarmPool>(generator),
        Kind::Bay => inline::<Bay>(generator),
        Kind::Hostname => inline::<Hostname>(generator),
        Kind::Orphan => inline::<Orphan>(generator),
        Kind::Hold => inline::<Hold>(generator),
        Kind::ResourceQuota => inline::<ResourceQuota>(generator),
        Kind::Namespace => inline::<Namespace>(generator),
        Kind::Secret => inline::<Secret>(generator),
        Kind::ConfigMap => inline::<ConfigMap>(generator),
        Kind::Event => inline::<Event>(generator),
        Kind::Lease => inline::<Lease>(generator),
        Kind::CustomResourceDefinition => inline::<CustomResourceDefinition>(generator),
        Kind::AccessToken => inline::<AccessToken>(generator),
        Kind::Pod => inline::<Pod>(generator),
    };
    let mut schema = schema.to_value();
    strict(&mut schema);
    let info = kind.info();
    schema["title"] = json!(info.kind_name);
    schema["properties"]["apiVersion"] = json!({"const": info.api_version()});
    schema["properties"]["kind"] = json!({"const": info.kind_name});
    let mut required = vec![json!("apiVersion"), json!("kind"), json!("metadata")];
    let others = schema["required"].as_array().into_iter().flatten();
    let others: Vec<_> = others.filter(|it| !required.contains(it)).cloned().collect();
    required.extend(others);
    schema["required"] = Value::Array(required);
    schema
}

fn inline<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    T::json_schema(generator)
}

/// Fields that the type does not have are errors, as at admission; defaults that are empty or whole objects say nothing.
fn strict(schema: &mut Value) {
    let Ok(typed) = <&mut Schema>::try_from(schema) else { return };
    RecursiveTransform(|schema: &mut Schema| {
        if schema
            .get("default")
            .is_some_and(|it| it.is_object() || it.is_array() || it.is_null() || it == "")
        {
            schema.remove("default");
        }
        if schema.get("properties").is_some() && schema.get("additionalProperties").is_none() {
            schema.insert("additionalProperties".to_owned(), json!(false));
        }
    })
    .transform(typed);
}

/// The reference of all kinds, as Markdown.
#[must_use]
pub fn reference() -> String {
    let mut text = INTRODUCTION.to_owned();
    for kind in Kind::ALL {
        let schema = of(kind);
        Reference { defs: &schema["$defs"], text: &mut text }.kind(kind, &schema);
    }
    text
}

const INTRODUCTION: &str = "\
# Kinds

Generated from `src/api` by `hangar schema --docs`; a test keeps it so. `hangar schema` prints the same as JSON Schema for
editors.

Durations are text such as `90s`, `15m`, `30d`; sizes are text such as `512Mi`, `10Gi`. Fields that a kind does not have are
refused. `metadata` is Kubernetes': `name`, `namespace`, `labels`, `annotations` are yours, the rest is the server's.

Nothing is guessed. A field that is there twice is refused, and so is what is not text where text must be: `8080`, `true` and
`~` want quotes in `env`, labels, annotations and secrets. Text has no control characters but, where programs read it (`env`,
`command`, `entrypoint`, `files`, annotations, `stringData`), tabs and line breaks. An object has at most 256 KiB as it is
written, its aliases written out, and 63 KiB as it is stored; a file has at most 4 MiB. A file with anything wrong is not
applied at all.
";

struct Reference<'a> {
    defs: &'a Value,
    text: &'a mut String,
}

impl Reference<'_> {
    /// Writing to a string cannot fail.
    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        let _infallible = writeln!(self.text, "{line}");
    }

    fn kind(&mut self, kind: Kind, schema: &Value) {
        let info = kind.info();
        self.line(format_args!("\n## {}\n", info.kind_name));
        self.line(format_args!("{}.\n", info.about));
        let short = match info.short_names {
            [] => String::new(),
            names => format!(" ({})", names.join(", ")),
        };
        let scope = if info.namespaced { "in a namespace" } else { "in no namespace" };
        let hand = match (info.writable, info.deletable) {
            (true, _) => "",
            (false, true) => "; made by hangar, read and deleted by users",
            (false, false) => "; made by hangar, read by users",
        };
        let (version, plural) = (info.api_version(), info.plural);
        self.line(format_args!("`{version}`, `{plural}`{short}, {scope}{hand}.\n"));
        self.line(format_args!("| field | type | |\n|---|---|---|"));
        let fields = schema["properties"].as_object().into_iter().flatten();
        let fields: Vec<_> = fields
            .filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind" | "metadata"))
            .collect();
        for (name, field) in fields {
            let is_required = requires(schema, name);
            self.field(name, field, is_required);
        }
        if let Some(condition) = self.condition(schema).cloned() {
            for (title, field) in [("Conditions", "type"), ("Reasons", "reason")] {
                self.line(format_args!("\n### {title} of {}\n", info.kind_name));
                self.line(format_args!("| {field} | |\n|---|---|"));
                let list = self.resolved(&condition["properties"][field]).clone();
                for (name, about) in variants(&list) {
                    self.line(format_args!("| {name} | {about} |"));
                }
            }
        }
    }

    fn condition<'v>(&'v self, schema: &'v Value) -> Option<&'v Value> {
        let status = self.resolved(schema.get("properties")?.get("status")?);
        Some(self.resolved(status.get("properties")?.get("conditions")?.get("items")?))
    }

    /// A row for the field and, below it, for the fields in it.
    fn field(&mut self, path: &str, field: &Value, is_required: bool) {
        let resolved = self.resolved(field).clone();
        let kind = self.type_of(field);
        let about = field.get("description").or_else(|| resolved.get("description"));
        let mut about = about.and_then(Value::as_str).unwrap_or_default().replace('\n', " ");
        let variants = variants(&resolved);
        if let Some(default) = field.get("default").or_else(|| resolved.get("default")) {
            about = format!("{about} Default: `{}`.", default.to_string().trim_matches('"'));
        }
        for (name, meaning) in &variants {
            let _infallible = write!(about, "<br>`{name}`: {}", meaning.trim_end_matches('.'));
        }
        let kind = if is_required { format!("{kind}, required") } else { kind };
        self.line(format_args!("| `{path}` | {kind} | {about} |"));
        if path.ends_with("conditions") {
            // They and their reasons have tables of their own.
            return;
        }
        let (inside, path) = match resolved.get("items") {
            Some(items) => (self.resolved(items).clone(), format!("{path}[]")),
            None => (resolved, path.to_owned()),
        };
        for (name, field) in inside["properties"].as_object().into_iter().flatten() {
            self.field(&format!("{path}.{name}"), field, requires(&inside, name));
        }
    }

    /// The schema behind references and "or null".
    fn resolved<'v>(&'v self, schema: &'v Value) -> &'v Value {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str) {
            let name = name.rsplit('/').next().unwrap_or_default();
            return self.resolved(&self.defs[name]);
        }
        let not_null = |it: &&Value| it.get("type").is_none_or(|it| it != "null");
        match schema.get("anyOf").and_then(Value::as_array) {
            Some(any) => any.iter().find(not_null).map_or(schema, |it| self.resolved(it)),
            None => schema,
        }
    }

    fn type_of(&self, schema: &Value) -> String {
        let schema = self.resolved(schema);
        if !variants(schema).is_empty() {
            return "one of".to_owned();
        }
        let name = match schema.get("type") {
            Some(Value::Array(types)) => types.iter().find(|it| *it != "null"),
            other => other,
        };
        match name.and_then(Value::as_str) {
            Some("array") => format!("list of {}", self.type_of(&schema["items"])),
            Some("object") => match schema.get("additionalProperties") {
                Some(values @ Value::Object(_)) => format!("map of {}", self.type_of(values)),
                Some(_) | None => "object".to_owned(),
            },
            Some("string") => "text".to_owned(),
            Some("integer") => "number".to_owned(),
            Some(other) => other.to_owned(),
            None => "anything".to_owned(),
        }
    }
}

fn requires(schema: &Value, name: &str) -> bool {
    schema["required"].as_array().is_some_and(|it| it.iter().any(|it| it == name))
}

/// Names and descriptions of an enum's variants.
fn variants(schema: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().replace('\n', " ");
    let list = schema.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    list.filter(|it| it.get("const").is_some())
        .map(|it| (text(&it["const"]), text(&it["description"])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_is_what_the_types_say() {
        expect_test::expect_file!["../../docs/api.md"].assert_eq(&reference());
    }

    #[test]
    fn a_manifests_kind_decides_its_schema() {
        let schema = of_manifests();
        let kinds: Vec<_> = schema["oneOf"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| it["properties"]["kind"]["const"].as_str().unwrap())
            .collect();
        assert_eq!(
            kinds,
            [
                "Namespace",
                "ResourceQuota",
                "Secret",
                "ConfigMap",
                "Template",
                "WarmPool",
                "Environment",
                "Event",
                "Lease",
                "AccessToken"
            ]
        );
        assert_eq!(schema["oneOf"][5]["additionalProperties"], false);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for kind in Kind::ALL {
            let schema = of(kind);
            let text = schema.to_string();
            for reference in text.split("\"#/$defs/").skip(1) {
                let name = reference.split('"').next().unwrap_or_default();
                assert!(schema["$defs"].get(name).is_some(), "{kind:?}: {name}");
            }
        }
    }
}
