//! Manifests from `-f`: files, directories, stdin; each object checked by the rules that the server has too, each complaint
//! with file, line and document. A file with anything wrong gives no object at all. It must never send anything.

use std::{
    collections::BTreeMap,
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::Context as _;
use serde_json::Value;

use crate::{
    api::{
        admit,
        kind::Kind,
        manifest::{self, Document},
        meta::ObjectRef,
    },
    cli::{
        connection::Connection,
        failure::Failure,
        merge,
        printer::{Printer, one_line},
        targets,
    },
    client,
};

/// Which files.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct FileArgs {
    /// File or directory of manifests (.yaml, .yml, .json), or - for stdin; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    files: Vec<PathBuf>,
    /// Go into directories in directories
    #[arg(short = 'R', long, requires = "files")]
    recursive: bool,
}

/// What is done with an object of a manifest, which says what is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It is to be so: everything is checked.
    Declare,
    /// It is only named.
    Name,
}

/// An object of a manifest.
#[derive(Debug, Clone)]
pub(super) struct Item {
    file: String,
    document: Document,
    /// Which object.
    pub(super) object: ObjectRef,
    /// Remarks that refuse nothing.
    pub(super) warnings: Vec<String>,
}

/// Something wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    file: String,
    line: usize,
    document: usize,
    message: String,
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, line, document, message } = self;
        // Names in it may be anything that a file holds.
        let text = format!("{file}:{line}: document {document}: {message}");
        f.write_str(&one_line(&text))
    }
}

/// What the files hold.
#[derive(Debug, Default)]
pub(super) struct Bundle {
    /// Objects of files with nothing wrong, in the order in which they are applied.
    pub(super) items: Vec<Item>,
    /// All that is wrong with the other files.
    pub(super) complaints: Vec<Complaint>,
}

impl Item {
    /// The manifest.
    pub(super) fn manifest(&self) -> &Value {
        &self.document.value
    }

    /// The object as the server would have it, with every default, as far as that can be told without it.
    pub(super) fn declared(&self) -> Value {
        let kind = self.object.kind;
        let mut object = merge::without_nulls(&merge::prepared(kind, self.manifest()));
        if kind.info().namespaced
            && let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("namespace".to_owned(), self.object.namespace.as_str().into());
        }
        admit::admit(kind, object.clone(), None).map_or(object, |it| it.object)
    }

    /// A complaint about a field, or, with an empty field, about the object.
    pub(super) fn complaint(&self, field: &str, message: &str) -> Complaint {
        complaint(&self.file, &self.document, field, message)
    }

    /// The server's refusal, field by field where it says which.
    pub(super) fn refusal(&self, error: &client::Error) -> Vec<Complaint> {
        let causes = match error {
            client::Error::Status(status) => status.causes(),
            _ => &[],
        };
        if causes.is_empty() {
            return vec![self.complaint("", &format!("{}: {error}", targets::label(&self.object)))];
        }
        causes.iter().map(|cause| self.complaint(&cause.field, &cause.message)).collect()
    }
}

impl FileArgs {
    /// These paths, as if they had been typed.
    pub(super) fn of(files: &[PathBuf]) -> Self {
        Self { files: files.to_vec(), recursive: false }
    }

    /// Whether any file was named.
    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Reads and checks all of them.
    pub(super) fn read(&self, connection: &Connection, purpose: Purpose) -> anyhow::Result<Bundle> {
        let mut texts = Vec::new();
        for path in &self.files {
            if path.as_os_str() == "-" {
                let text = read_text(io::stdin().lock()).context("cannot read stdin")?;
                texts.push(("stdin".to_owned(), text));
            } else {
                self.collect(path, true, &mut texts)?;
            }
        }
        Ok(bundle(texts, connection, purpose))
    }

    fn collect(
        &self,
        path: &Path,
        named: bool,
        texts: &mut Vec<(String, Vec<u8>)>,
    ) -> anyhow::Result<()> {
        let context = || format!("cannot read {}", path.display());
        if !path.is_dir() {
            if named || is_manifest(path) {
                let text = match fs::File::open(path).and_then(read_text) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {
                        return Err(
                            Failure::hinted(format!("{}: {error}", context()), NO_FILE).into()
                        );
                    }
                    text => text.with_context(context)?,
                };
                texts.push((path.display().to_string(), text));
            }
            return Ok(());
        }
        let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
        let mut inside: Vec<_> =
            entries.with_context(context)?.iter().map(fs::DirEntry::path).collect();
        inside.sort();
        let before = texts.len();
        for path in inside {
            if self.recursive || !path.is_dir() {
                self.collect(&path, false, texts)?;
            }
        }
        if named && texts.len() == before {
            let message = format!("{} holds no manifest", path.display());
            return Err(Failure::hinted(
                message,
                "manifests end in .yaml, .yml or .json; -R looks deeper",
            )
            .into());
        }
        Ok(())
    }
}

const NO_FILE: &str = "-f takes a file, a directory, or - for stdin";

/// No more than tells that it is too much: a file may have no end.
fn read_text(from: impl io::Read) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let max = u64::try_from(manifest::TEXT_BYTES_MAX).unwrap_or(u64::MAX);
    from.take(max + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn is_manifest(path: &Path) -> bool {
    path.extension().is_some_and(|it| it == "yaml" || it == "yml" || it == "json")
}

fn complaint(file: &str, document: &Document, field: &str, message: &str) -> Complaint {
    let message = if field.is_empty() { message.to_owned() } else { format!("{field}: {message}") };
    let line = document.line_of(field);
    Complaint { file: file.to_owned(), line, document: document.index, message }
}

fn bundle(texts: Vec<(String, Vec<u8>)>, connection: &Connection, purpose: Purpose) -> Bundle {
    let mut bundle = Bundle::default();
    let mut seen = BTreeMap::new();
    for (file, text) in texts {
        match read_file(&file, &text, connection, purpose, &mut seen) {
            Ok(items) => bundle.items.extend(items),
            Err(complaints) => bundle.complaints.extend(complaints),
        }
    }
    let place = |kind| Kind::ALL.iter().position(|it| *it == kind);
    bundle.items.sort_by_key(|item| place(item.object.kind));
    bundle
}

fn read_file(
    file: &str,
    text: &[u8],
    connection: &Connection,
    purpose: Purpose,
    seen: &mut BTreeMap<ObjectRef, String>,
) -> Result<Vec<Item>, Vec<Complaint>> {
    let documents = manifest::parse(text).map_err(|error| {
        let message = error.problem.to_string();
        vec![Complaint {
            file: file.to_owned(),
            line: error.line,
            document: error.document,
            message,
        }]
    })?;
    let mut items = Vec::new();
    let mut complaints = Vec::new();
    for document in documents {
        match check(file, document, connection, purpose) {
            Ok(item) => {
                let here = format!("{file}:{}", item.document.line);
                match seen.insert(item.object.clone(), here) {
                    Some(first) if purpose == Purpose::Declare => {
                        let message =
                            format!("{} is already in {first}", targets::label(&item.object));
                        complaints.push(item.complaint("metadata.name", &message));
                    }
                    Some(_) | None => items.push(item),
                }
            }
            Err(wrong) => complaints.extend(wrong),
        }
    }
    if complaints.is_empty() { Ok(items) } else { Err(complaints) }
}

fn check(
    file: &str,
    mut document: Document,
    connection: &Connection,
    purpose: Purpose,
) -> Result<Item, Vec<Complaint>> {
    let one = |document: &Document, field: &str, message: &str| {
        vec![complaint(file, document, field, message)]
    };
    let kind = manifest::kind_of(&document.value)
        .map_err(|wrong| one(&document, &wrong.field, &wrong.message))?;
    let info = kind.info();
    if purpose == Purpose::Declare && !info.writable {
        let message = format!("a {} is made by hangar and cannot be applied", info.kind_name);
        return Err(one(&document, "kind", &message));
    }
    let mut namespace = connection.namespace();
    if info.namespaced {
        set_namespace(&mut document.value, &mut namespace, connection.demanded_namespace())
            .map_err(|message| one(&document, "metadata.namespace", &message))?;
    }
    let mut warnings = Vec::new();
    if purpose == Purpose::Declare {
        // As it was written: what is sent leaves nulls out and a secret's text encoded.
        let complain = |wrong: Vec<admit::Violation>| -> Vec<_> {
            wrong.iter().map(|it| complaint(file, &document, &it.field, &it.message)).collect()
        };
        let wrong = admit::check_text(kind, &document.value);
        if !wrong.is_empty() {
            return Err(complain(wrong));
        }
        let object = merge::without_nulls(&merge::prepared(kind, &document.value));
        match admit::admit(kind, object, None) {
            Ok(admitted) => warnings = admitted.warnings,
            Err(wrong) => return Err(complain(wrong)),
        }
    }
    let name = document.value.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if name.is_empty() {
        return Err(one(&document, "metadata.name", "must be there"));
    }
    let object = ObjectRef::new(kind, &namespace, name);
    Ok(Item { file: file.to_owned(), document, object, warnings })
}

/// An object without a namespace gets the one that is asked for; one with another must not be asked for.
fn set_namespace(
    object: &mut Value,
    namespace: &mut String,
    demanded: Option<&str>,
) -> Result<(), String> {
    let declared = object.pointer("/metadata/namespace").and_then(Value::as_str);
    if let Some(declared) = declared.filter(|it| !it.is_empty()) {
        declared.clone_into(namespace);
        return match demanded {
            Some(demanded) if demanded != declared => {
                Err(format!("`{declared}` is not the namespace `{demanded}` that -n asks for"))
            }
            Some(_) | None => Ok(()),
        };
    }
    let missing = |it: &Value| it.is_null() || it == "";
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut)
        // What is not text is refused later; it is not taken for none.
        && metadata.get("namespace").is_none_or(missing)
    {
        metadata.insert("namespace".to_owned(), Value::String(namespace.clone()));
    }
    Ok(())
}

/// Prints what is wrong, and the remarks on what is not.
pub(super) fn report(bundle: &Bundle, printer: &mut Printer) {
    for complaint in &bundle.complaints {
        printer.note(format_args!("error: {complaint}"));
    }
    for item in &bundle.items {
        for warning in &item.warnings {
            printer.note(format_args!("warning: {}", item.complaint("", warning)));
        }
    }
}

#[cfg(test)]
mod tests;
