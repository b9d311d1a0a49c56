//! Encryption of values at rest: XChaCha20-Poly1305, bound to the key a value is stored under. It must never print,
//! log or return the secret key.
//!
//! A sealed value is a version byte, a random nonce of 24 bytes, then ciphertext and tag.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};

use crate::store::Key;

/// A passphrase this short could be guessed.
pub const PASSPHRASE_CHARS_MIN: usize = 16;

const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;
const VERSION: u8 = 1;
const PASSPHRASE_CONTEXT: &str = "hangar.dev 2026-01 store values from a passphrase";

/// What went wrong with the secret key or with a sealed value.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is neither a key nor long enough to be a passphrase.
    #[error(
        "the secret key is neither 32 bytes in base64 nor a passphrase of at least {PASSPHRASE_CHARS_MIN} characters"
    )]
    Weak,
    /// The key file could not be used.
    #[error("cannot {doing} the key file {}", path.display())]
    File {
        /// open, create …
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Others than its owner may read the key file.
    #[error("the key file {} has mode {mode:03o}; it must be readable by its owner only", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key file does not hold a key.
    #[error("the key file {} has {bytes} bytes instead of {KEY_BYTES}", path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// How many it has.
        bytes: usize,
    },
    /// The system has no randomness.
    #[error("the system gives no random numbers")]
    Random(#[source] getrandom::Error),
    /// The value was not sealed by this key for this place.
    #[error("the value was not sealed with this secret key, or not for this place, or was damaged")]
    Unsealable,
}

/// Seals and opens values. Cheap to clone.
#[derive(Clone)]
pub struct Cipher(XChaCha20Poly1305);

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher")
    }
}

impl Cipher {
    /// A cipher from what a person set: 32 bytes in base64, or a passphrase.
    ///
    /// # Errors
    /// `Weak` when it is neither.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let text = text.trim();
        for form in [&STANDARD, &STANDARD_NO_PAD, &URL_SAFE, &URL_SAFE_NO_PAD] {
            if let Ok(bytes) = form.decode(text)
                && let Ok(key) = <[u8; KEY_BYTES]>::try_from(bytes)
            {
                return Ok(Self::new(&key));
            }
        }
        if text.chars().count() < PASSPHRASE_CHARS_MIN {
            return Err(Error::Weak);
        }
        Ok(Self::new(&blake3::derive_key(PASSPHRASE_CONTEXT, text.as_bytes())))
    }

    /// A cipher from a key file, which is created with a random key if it is not there.
    ///
    /// # Errors
    /// When the file cannot be read or created, others may read it, or it holds no key.
    pub fn from_file(path: &Path) -> Result<Self, Error> {
        let failed = |doing| move |source| Error::File { doing, path: path.to_owned(), source };
        match create(path) {
            Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            created => return created,
        }
        let mode = fs::metadata(path).map_err(failed("read"))?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(Error::Exposed { path: path.to_owned(), mode });
        }
        let bytes = fs::read(path).map_err(failed("read"))?;
        let key = <[u8; KEY_BYTES]>::try_from(bytes.as_slice())
            .map_err(|_wrong| Error::Length { path: path.to_owned(), bytes: bytes.len() })?;
        Ok(Self::new(&key))
    }

    /// A cipher whose key nobody knows and that ends with the process.
    ///
    /// # Errors
    /// `Random`.
    pub fn ephemeral() -> Result<Self, Error> {
        Ok(Self::new(&random()?))
    }

    fn new(key: &[u8; KEY_BYTES]) -> Self {
        Self(XChaCha20Poly1305::new(key.into()))
    }

    /// Seals a value for the place it will be stored at.
    ///
    /// # Errors
    /// `Random`.
    pub fn seal(&self, place: &Key, value: &[u8]) -> Result<Bytes, Error> {
        let nonce: [u8; NONCE_BYTES] = random()?;
        let payload = Payload { msg: value, aad: place.as_str().as_bytes() };
        // It only fails for values of many gigabytes.
        let sealed =
            self.0.encrypt(&XNonce::from(nonce), payload).map_err(|_huge| Error::Unsealable)?;
        Ok([&[VERSION][..], &nonce, &sealed].concat().into())
    }

    /// Opens a value that was sealed for this place.
    ///
    /// # Errors
    /// `Unsealable`.
    pub fn open(&self, place: &Key, sealed: &[u8]) -> Result<Bytes, Error> {
        let rest = sealed.strip_prefix(&[VERSION]).ok_or(Error::Unsealable)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(Error::Unsealable)?;
        let payload = Payload { msg: sealed, aad: place.as_str().as_bytes() };
        let value =
            self.0.decrypt(&XNonce::from(*nonce), payload).map_err(|_forged| Error::Unsealable)?;
        Ok(value.into())
    }
}

fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(Error::Random)?;
    Ok(bytes)
}

/// Creates the key file. A crash in between leaves a short file, which is refused by its length.
fn create(path: &Path) -> Result<Cipher, Error> {
    let failed = |doing| move |source| Error::File { doing, path: path.to_owned(), source };
    let key = random()?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("create"))?;
    file.write_all(&key).and_then(|()| file.sync_all()).map_err(failed("write"))?;
    let dir =
        path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(failed("sync"))?;
    Ok(Cipher::new(&key))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn cipher() -> Cipher {
        Cipher::from_text("correct horse battery staple").unwrap()
    }

    #[test]
    fn what_was_sealed_opens_again_at_its_place() {
        let place = Key::new("secrets/default/a");
        let sealed = cipher().seal(&place, b"hunter2").unwrap();
        assert_eq!(cipher().open(&place, &sealed).unwrap().as_ref(), b"hunter2");
        assert!(!sealed.windows(7).any(|part| part == b"hunter2"));
        assert_ne!(sealed, cipher().seal(&place, b"hunter2").unwrap(), "the nonce is random");
    }

    #[test]
    fn a_sealed_value_cannot_be_moved_changed_or_cut() {
        let place = Key::new("secrets/default/a");
        let sealed = cipher().seal(&place, b"hunter2").unwrap();
        let refused = |place: &str, bytes: &[u8]| {
            assert!(matches!(cipher().open(&Key::new(place), bytes), Err(Error::Unsealable)));
        };
        refused("secrets/default/b", &sealed);
        for at in 0..sealed.len() {
            let mut changed = sealed.to_vec();
            changed[at] ^= 1;
            refused(place.as_str(), &changed);
            refused(place.as_str(), &sealed[..at]);
        }
        let other = Cipher::ephemeral().unwrap();
        assert!(matches!(other.open(&place, &sealed), Err(Error::Unsealable)));
    }

    #[test]
    fn the_key_is_32_bytes_in_base64_or_a_long_passphrase() {
        let place = Key::new("a");
        let key = [7_u8; 32];
        let sealed = Cipher::new(&key).seal(&place, b"x").unwrap();
        for text in [
            STANDARD.encode(key),
            URL_SAFE_NO_PAD.encode(key),
            format!("{}\n", STANDARD.encode(key)),
        ] {
            assert!(Cipher::from_text(&text).unwrap().open(&place, &sealed).is_ok());
        }
        assert!(matches!(Cipher::from_text("too short"), Err(Error::Weak)));
        assert!(Cipher::from_text("sixteen letters!").is_ok());
    }

    #[test]
    fn a_key_file_is_created_for_its_owner_only_and_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("key");
        let place = Key::new("a");
        let sealed = Cipher::from_file(&path).unwrap().seal(&place, b"x").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        assert!(Cipher::from_file(&path).unwrap().open(&place, &sealed).is_ok());
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Cipher::from_file(&path), Err(Error::Exposed { mode: 0o640, .. })));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, b"short").unwrap();
        assert!(matches!(Cipher::from_file(&path), Err(Error::Length { bytes: 5, .. })));
    }

    #[test]
    fn debug_shows_no_key() {
        assert_eq!(format!("{:?}", cipher()), "Cipher");
    }
}
