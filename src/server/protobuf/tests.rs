//! The decoder against bytes that are written here by the same rules, against broken ones, and against chance.

use proptest::prelude::*;

use super::*;

fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    loop {
        let byte = u8::try_from(number & 0x7f).unwrap();
        number >>= 7;
        if number == 0 {
            bytes.push(byte);
            return bytes;
        }
        bytes.push(byte | 0x80);
    }
}

fn number(field: u64, value: u64) -> Vec<u8> {
    [varint(field << 3), varint(value)].concat()
}

fn bytes(field: u64, value: &[u8]) -> Vec<u8> {
    [varint(field << 3 | 2), varint(value.len() as u64), value.to_vec()].concat()
}

fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
    let of = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
    [MAGIC.to_vec(), bytes(1, &of), bytes(2, raw), bytes(3, b""), bytes(4, b"")].concat()
}

fn named(name: &str) -> Vec<u8> {
    bytes(1, &[bytes(1, name.as_bytes()), bytes(2, b""), bytes(8, b"")].concat())
}

#[test]
fn a_config_map_is_what_its_json_would_be() {
    let entry = |key: &[u8], value: &[u8]| [bytes(1, key), bytes(2, value)].concat();
    let raw = [
        named("settings"),
        bytes(2, &entry(b"K", b"v")),
        bytes(2, &entry(b"EMPTY", b"")),
        bytes(2, &bytes(1, b"ABSENT")),
        bytes(3, &entry(b"B", &[0, 255])),
        number(4, 1),
        bytes(99, b"from a newer version"),
    ];
    let read = read(&envelope("v1", "ConfigMap", &raw.concat())).unwrap();
    let expected = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "settings"},
        "data": {"K": "v", "EMPTY": "", "ABSENT": ""},
        "binaryData": {"B": "AP8="},
        "immutable": true,
    });
    assert_eq!(read, expected);
}

#[test]
fn times_quantities_lists_and_negative_numbers_are_read() {
    let time = [number(1, 1_767_323_045), number(2, 6_000)].concat();
    let spec = [bytes(1, b"me"), number(2, 15), bytes(4, &time)].concat();
    let lease = envelope("coordination.k8s.io/v1", "Lease", &bytes(2, &spec));
    assert_eq!(
        read(&lease).unwrap()["spec"],
        json!({"holderIdentity": "me", "leaseDurationSeconds": 15, "renewTime": "2026-01-02T03:04:05.000006Z"})
    );
    let hard = [bytes(1, b"pods"), bytes(2, &bytes(1, b"5"))].concat();
    let quota = envelope("v1", "ResourceQuota", &bytes(2, &bytes(1, &hard)));
    assert_eq!(read(&quota).unwrap()["spec"], json!({"hard": {"pods": "5"}}));
    let options = [number(1, u64::MAX), bytes(5, b"All"), bytes(4, b"Background")].concat();
    assert_eq!(
        read(&envelope("hangar.dev/v1alpha1", "DeleteOptions", &options)).unwrap(),
        json!({
            "apiVersion": "hangar.dev/v1alpha1",
            "kind": "DeleteOptions",
            "gracePeriodSeconds": -1,
            "dryRun": ["All"],
            "propagationPolicy": "Background",
        })
    );
}

#[test]
fn a_kind_without_a_table_is_named() {
    let error = read(&envelope("v1", "Pod", &named("p"))).unwrap_err();
    assert_eq!(error, Error::Kind { api_version: "v1".to_owned(), kind: "Pod".to_owned() });
}

#[test]
fn what_is_cut_off_or_of_another_type_is_refused() {
    let whole = envelope("v1", "Namespace", &named("team-a"));
    assert_eq!(read(&whole).unwrap()["metadata"]["name"], "team-a");
    let trailing = bytes(3, b"").len() + bytes(4, b"").len();
    for end in MAGIC.len()..whole.len() - trailing {
        // A cut between two fields leaves an envelope without what follows, which names no kind or no object.
        let cut = read(&whole[..end]);
        assert!(cut.as_ref().is_ok_and(|it| it.get("metadata").is_none()) || cut.is_err(), "{end}");
    }
    for raw in [number(1, 7), bytes(1, &bytes(1, &[0xff])), vec![0x0b], vec![0x80; 11], vec![0]] {
        assert_eq!(read(&envelope("v1", "Namespace", &raw)), Err(Error::Broken), "{raw:?}");
    }
    assert_eq!(read(b"{\"kind\": \"Namespace\"}"), Err(Error::Broken));
}

proptest! {
    /// Every kind's table is walked, by bytes that are mostly well-formed.
    #[test]
    fn no_bytes_make_it_panic(kind in 0..KINDS.len(), raw in message(4)) {
        let (api_version, kind, _) = KINDS[kind];
        let _read = read(&envelope(api_version, kind, &raw));
        let _read = read(&[MAGIC, &raw].concat());
        let _read = read(&raw);
    }
}

/// Fields of any number and type, messages in them, and now and then something broken.
fn message(depth: u32) -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        4 => (1_u64..18, any::<u64>()).prop_map(|(field, value)| number(field, value)),
        4 => (1_u64..18, "[a-z]{0,5}").prop_map(|(field, value)| bytes(field, value.as_bytes())),
        1 => proptest::collection::vec(any::<u8>(), 0..8),
    ];
    leaf.prop_recursive(depth, 64, 6, |inside| {
        (1_u64..18, proptest::collection::vec(inside, 0..6))
            .prop_map(|(field, parts)| bytes(field, &parts.concat()))
    })
}
