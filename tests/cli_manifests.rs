//! Every manifest that we ship is one that we accept.

use std::{collections::BTreeSet, fs, path::Path};

use hangar::api::{admit::admit, manifest};

#[test]
fn every_shipped_manifest_is_admitted_and_names_what_is_there() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("manifests");
    let mut templates = BTreeSet::new();
    let mut used = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let documents = manifest::parse(fs::read_to_string(&path).unwrap()).unwrap();
        assert!(!documents.is_empty(), "{}", path.display());
        for document in documents {
            let kind = manifest::kind_of(&document.value).unwrap();
            let admitted = admit(kind, document.value.clone(), None);
            assert!(admitted.is_ok(), "{}: {admitted:?}", path.display());
            let text = |pointer: &str| document.value.pointer(pointer).map(ToString::to_string);
            if kind.info().kind_name == "Template" {
                templates.extend(text("/metadata/name"));
            }
            used.extend(text("/spec/templateRef/name"));
        }
    }
    assert_eq!(templates, used);
}
