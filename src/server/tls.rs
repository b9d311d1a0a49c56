//! The server's certificate: one that somebody gives, or one of an own authority that is made at the first start and renewed before
//! it ends. Keys are readable by their owner only. It must never print a key, nor replace what it cannot read.

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde::{Deserialize, Serialize};
use tokio_rustls::TlsAcceptor;

use crate::clock::Clock;
use crate::retry;
use crate::tasks::Shutdown;

/// The authority's certificate, for clients; in the directory of [`Source::Own`].
pub const AUTHORITY: &str = "ca.crt";
const AUTHORITY_KEY: &str = "ca.key";
const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";
/// What the certificates say, so that nobody needs to read them.
const TERMS: &str = "server.json";
const AUTHORITY_TERMS: &str = "ca.json";
/// How often a certificate is read again, and renewed if it ends soon.
const RENEW_EVERY: Duration = Duration::from_secs(3_600);
/// How long the authority holds; with the next one every client needs its certificate anew.
const AUTHORITY_DAYS: i64 = 3_650;
/// How long a server's certificate holds.
const DAYS: i64 = 365;
/// How long before its end a certificate is renewed.
const SPARE_DAYS: i64 = 30;
/// Names that every own certificate has.
const NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From an own authority, kept in a directory.
    Own {
        /// The directory.
        dir: PathBuf,
        /// Names and addresses beside `localhost` and the loopback addresses.
        names: Vec<String>,
    },
    /// From somebody else, who renews these files.
    Given {
        /// The chain, the server's own certificate first, in PEM.
        certificate: PathBuf,
        /// Its key, in PEM.
        key: PathBuf,
    },
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// Which.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A file with something else in it.
    #[error("{} holds no {what}", path.display())]
    Content {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// A certificate cannot be made.
    #[error("cannot make a certificate")]
    Make(#[source] rcgen::Error),
    /// A name that no certificate can be for.
    #[error("a certificate cannot be for `{0}`")]
    Name(String),
    /// A certificate and a key that cannot be used.
    #[error("the certificate in {} cannot be used with its key", path.display())]
    Unusable {
        /// The certificate's file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
}

/// What an own certificate says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Terms {
    until: Timestamp,
    names: Vec<String>,
}

/// A certificate that is shown, and what it is renewed from. Cheap to clone.
#[derive(Clone)]
pub struct Tls {
    source: Source,
    shown: Arc<Shown>,
    config: Arc<ServerConfig>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("source", &self.source).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Tls {
    /// Reads the certificate; an own one is made where there is none, where it ends soon, or where it lacks a name.
    ///
    /// # Errors
    /// Whatever keeps it from being read or made.
    pub fn open(source: Source, now: Timestamp) -> Result<Self, Error> {
        let provider = Arc::new(ring::default_provider());
        let certified = certified(&source, now, &provider)?;
        let shown = Arc::new(Shown(RwLock::new(Arc::new(certified))));
        let unusable = |source| Error::Unusable { path: PathBuf::new(), source };
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        // Upgrades, which streams of pods are, need it.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { source, shown, config: Arc::new(config) })
    }

    /// Reads it again, and renews it where it is own and ends soon. Connections that are open keep what they have.
    ///
    /// # Errors
    /// As [`Tls::open`]; what was shown before stays.
    pub fn renew(&self, now: Timestamp) -> Result<(), Error> {
        let certified = certified(&self.source, now, self.config.crypto_provider())?;
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(certified);
        Ok(())
    }

    /// Keeps it from ending, until shutdown.
    pub(super) async fn keep(self, clock: Arc<dyn Clock>, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.wait() => return,
                () = tokio::time::sleep(RENEW_EVERY) => {}
            }
            if let Err(error) = self.renew(clock.now()) {
                tracing::error!(error = retry::chain(&error), "the certificate stays as it was");
            }
        }
    }

    /// The own authority's certificate in PEM, which clients must know; `None` where the certificate was given.
    #[must_use]
    pub fn authority(&self) -> Option<String> {
        match &self.source {
            Source::Own { dir, .. } => fs::read_to_string(dir.join(AUTHORITY)).ok(),
            Source::Given { .. } => None,
        }
    }

    pub(super) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

fn certified(
    source: &Source,
    now: Timestamp,
    provider: &CryptoProvider,
) -> Result<CertifiedKey, Error> {
    let (certificate, key) = match source {
        Source::Own { dir, names } => {
            let mut all: Vec<_> = NAMES.iter().map(|it| (*it).to_owned()).collect();
            all.extend(names.iter().filter(|it| !NAMES.contains(&it.as_str())).cloned());
            if let Some(wrong) = all.iter().find(|it| !is_name(it)) {
                return Err(Error::Name(wrong.clone()));
            }
            own(dir, all, now)?;
            (dir.join(CERTIFICATE), dir.join(KEY))
        }
        Source::Given { certificate, key } => (certificate.clone(), key.clone()),
    };
    let (chain, secret) = (read(&certificate)?, read(&key)?);
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(chain.as_bytes()).collect();
    let chain = chain.ok().filter(|it| !it.is_empty());
    let chain = chain
        .ok_or_else(|| Error::Content { path: certificate.clone(), what: "certificate in PEM" })?;
    let secret = PrivateKeyDer::from_pem_slice(secret.as_bytes())
        .map_err(|_| Error::Content { path: key, what: "private key in PEM" })?;
    CertifiedKey::from_der(chain, secret, provider)
        .map_err(|source| Error::Unusable { path: certificate, source })
}

/// Whether a certificate can be for this: an address, or a host's name, of which the first part may be `*`.
fn is_name(text: &str) -> bool {
    let is_part = |part: &str| {
        part.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'_'))
            && !part.is_empty()
    };
    let host = text.strip_prefix("*.").unwrap_or(text);
    text.parse::<std::net::IpAddr>().is_ok() || host.split('.').all(is_part)
}

/// Makes what is not there or does not hold long enough.
fn own(dir: &Path, names: Vec<String>, now: Timestamp) -> Result<(), Error> {
    let soon = now + days(SPARE_DAYS);
    let authority = terms(dir, AUTHORITY_TERMS)?.filter(|it| it.until > soon);
    let certificate = terms(dir, TERMS)?.filter(|it| it.until > soon && it.names == names);
    if authority.is_some() && certificate.is_some() {
        return Ok(());
    }
    let failed = |source| Error::File { doing: "make", path: dir.to_owned(), source };
    fs::create_dir_all(dir).map_err(failed)?;
    let issuer = issuer(dir, authority, now)?;
    let until = now + days(DAYS);
    let mut params = CertificateParams::new(names.clone()).map_err(Error::Make)?;
    params.distinguished_name = called("hangar");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    set_time(&mut params, now, until);
    let key = KeyPair::generate().map_err(Error::Make)?;
    let certificate = params.signed_by(&key, &issuer).map_err(Error::Make)?;
    // Between the two files a crash would leave a pair that does not match: without terms both are made again.
    let _absent = fs::remove_file(dir.join(TERMS));
    write(&dir.join(KEY), &key.serialize_pem())?;
    write(&dir.join(CERTIFICATE), &certificate.pem())?;
    write(&dir.join(TERMS), &serde_json::json!(Terms { until, names }).to_string())
}

/// The authority: the one of before, if it holds long enough.
fn issuer(
    dir: &Path,
    kept: Option<Terms>,
    now: Timestamp,
) -> Result<Issuer<'static, KeyPair>, Error> {
    let path = dir.join(AUTHORITY_KEY);
    if let Some(terms) = kept {
        let key = KeyPair::from_pem(&read(&path)?);
        let key = key.map_err(|_| Error::Content { path, what: "private key in PEM" })?;
        return Ok(Issuer::new(authority(now, terms.until), key));
    }
    let until = now + days(AUTHORITY_DAYS);
    let authority = authority(now, until);
    let key = KeyPair::generate().map_err(Error::Make)?;
    let certificate = authority.self_signed(&key).map_err(Error::Make)?;
    let _absent = fs::remove_file(dir.join(TERMS));
    write(&path, &key.serialize_pem())?;
    write(&dir.join(AUTHORITY), &certificate.pem())?;
    let terms = Terms { until, names: Vec::new() };
    write(&dir.join(AUTHORITY_TERMS), &serde_json::json!(terms).to_string())?;
    Ok(Issuer::new(authority, key))
}

/// What a certificate that is there says; one whose terms cannot be read is nobody's to replace.
fn terms(dir: &Path, file: &str) -> Result<Option<Terms>, Error> {
    let path = dir.join(file);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(|_| Error::Content { path, what: "terms of a certificate in JSON" }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::File { doing: "read", path, source }),
    }
}

/// What is said of the authority, always the same: its certificate is not read again.
fn authority(now: Timestamp, until: Timestamp) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = called("hangar's own authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_time(&mut params, now, until);
    params
}

fn called(name: &str) -> DistinguishedName {
    let mut called = DistinguishedName::new();
    called.push(DnType::CommonName, name);
    called
}

fn days(count: i64) -> SignedDuration {
    SignedDuration::from_hours(24 * count)
}

/// From the day before one time to the day of another.
fn set_time(params: &mut CertificateParams, now: Timestamp, until: Timestamp) {
    let date = |at: Timestamp| {
        let day = at.to_zoned(TimeZone::UTC).date();
        let (month, day_of) = (day.month().unsigned_abs(), day.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(day.year()), month, day_of)
    };
    (params.not_before, params.not_after) = (date(now - days(1)), date(until));
}

fn read(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::File { doing: "read", path: path.to_owned(), source };
    fs::read_to_string(path).map_err(failed)
}

/// Writes a file whole, for its owner only.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), Error> {
    let failed = |source| Error::File { doing: "write", path: path.to_owned(), source };
    let partial = path.with_extension("partial");
    let _left_by_a_crash = fs::remove_file(&partial);
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial);
    file.and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&partial, path))
        .map_err(failed)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn own(dir: &Path, names: &[&str], at: &str) -> (String, String) {
        let names = names.iter().map(|it| (*it).to_owned()).collect();
        let source = Source::Own { dir: dir.to_owned(), names };
        let tls = Tls::open(source, at.parse().unwrap()).unwrap();
        (tls.authority().unwrap(), fs::read_to_string(dir.join(CERTIFICATE)).unwrap())
    }

    #[test]
    fn an_own_certificate_stays_until_it_ends_or_lacks_a_name() {
        let dir = tempfile::tempdir().unwrap();
        let first = own(dir.path(), &[], "2026-01-10T00:00:00Z");
        assert_eq!(own(dir.path(), &[], "2026-11-01T00:00:00Z"), first);
        let renewed = own(dir.path(), &[], "2026-12-20T00:00:00Z");
        assert!(renewed.0 == first.0 && renewed.1 != first.1);
        let named = own(dir.path(), &["hangar.example"], "2026-12-21T00:00:00Z");
        assert!(named.0 == first.0 && named.1 != renewed.1);
        let much_later = own(dir.path(), &["hangar.example"], "2035-12-20T00:00:00Z");
        assert!(much_later.0 != first.0);
    }

    #[test]
    fn nobody_else_may_read_it_and_half_of_it_is_made_again() {
        let dir = tempfile::tempdir().unwrap();
        own(dir.path(), &[], "2026-01-10T00:00:00Z");
        for entry in fs::read_dir(dir.path()).unwrap() {
            let mode = entry.unwrap().metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600);
        }
        fs::remove_file(dir.path().join(TERMS)).unwrap();
        fs::remove_file(dir.path().join(CERTIFICATE)).unwrap();
        own(dir.path(), &[], "2026-01-11T00:00:00Z");
        fs::write(dir.path().join(KEY), "no key").unwrap();
        let source = Source::Own { dir: dir.path().to_owned(), names: Vec::new() };
        let open = || Tls::open(source.clone(), "2026-01-11T00:00:00Z".parse().unwrap());
        assert!(matches!(open(), Err(Error::Content { .. })));
        // Everybody would have to learn another authority.
        let authority = fs::read(dir.path().join(AUTHORITY)).unwrap();
        fs::write(dir.path().join(AUTHORITY_TERMS), "{").unwrap();
        assert!(matches!(open(), Err(Error::Content { .. })));
        assert_eq!(fs::read(dir.path().join(AUTHORITY)).unwrap(), authority);
    }
}
