//! Certificates and keys in their files, and what TLS towards a broker is made of them.
//!
//! Whoever speaks TLS here reads its files by these functions, for each connection or whenever they change, so that a
//! renewed certificate needs no restart. A key that others than its owner can read is never used: who has read it
//! can pass for this server wherever it is known, and nobody would find out. The provider of the cryptography is
//! named here and not installed for the whole process.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};

/// So often files in use are looked at. Who renews certificates waits longer anyway.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(2);
/// Rights of anybody but the owner.
const OTHERS: u32 = 0o077;

/// `[broker.tls]`: how a broker of one's own is reached. Files in PEM.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// Who may have signed the broker's certificate; the system's own list is not looked at.
    pub ca_file: PathBuf,
    /// What this server shows the broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<ClientCertificate>,
}

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientCertificate {
    pub cert_file: PathBuf,
    /// Which nobody but the server's user can read.
    pub key_file: PathBuf,
}

impl Tls {
    /// Makes paths whole: relative ones are relative to `base`.
    pub(crate) fn locate(&mut self, base: &Path) {
        self.ca_file = base.join(&self.ca_file);
        if let Some(client) = &mut self.client {
            client.cert_file = base.join(&client.cert_file);
            client.key_file = base.join(&client.key_file);
        }
    }
}

/// Why a key is not used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("cannot read the key {path}")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(
        "others than its owner can read the key {path} (mode {mode:03o}), and pass for its holder with it: \
         `chmod 600 {path}`, and where others may have read it, get another one"
    )]
    Exposed { path: PathBuf, mode: u32 },
}

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("cannot read {path} as PEM")]
    Pem {
        path: PathBuf,
        #[source]
        source: pem::Error,
    },
    #[error("{path} holds no certificate that can be used")]
    NoCertificate { path: PathBuf },
    #[error("the certificates cannot be used")]
    Rustls(#[from] Error),
}

/// What tells one state of some files from the next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Seen(Vec<(u64, u64, i64, i64)>);

pub(crate) fn look<'a>(paths: impl IntoIterator<Item = &'a Path>) -> io::Result<Seen> {
    let state = |path: &Path| -> io::Result<_> {
        let metadata = std::fs::metadata(path)?;
        Ok((metadata.ino(), metadata.size(), metadata.mtime(), metadata.mtime_nsec()))
    };
    paths.into_iter().map(state).collect::<Result<_, _>>().map(Seen)
}

/// Files in use, looked at again and again.
#[derive(Debug)]
pub(crate) struct Watched {
    seen: Option<Seen>,
    looks: Interval,
}

impl Watched {
    /// `seen`: before they were read.
    pub(crate) fn since(seen: io::Result<Seen>) -> Watched {
        let mut looks = tokio::time::interval(LOOKED_AT_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Watched { seen: seen.ok(), looks }
    }

    /// Waits until it is time to look.
    pub(crate) async fn tick(&mut self) {
        self.looks.tick().await;
    }

    /// Whether they are others than last time. Files that are away are waited for.
    pub(crate) fn are_new(&mut self, now: io::Result<Seen>) -> bool {
        let now = now.ok();
        let are_new = now.is_some() && now != self.seen;
        if are_new {
            self.seen = now;
        }
        are_new
    }
}

/// The key in its file, as it stands there. Mode and bytes are those of one open file: nobody exchanges it between.
pub fn read_key(path: &Path) -> Result<Vec<u8>, KeyError> {
    let failed = |source| KeyError::Read { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(KeyError::Exposed { path: path.to_owned(), mode });
    }
    let mut secret = Vec::new();
    file.read_to_end(&mut secret).map_err(failed)?;
    Ok(secret)
}

pub(crate) fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read_key(path)?).map_err(pem_of(path))
}

pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(pem_of(path))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(pem_of(path))?;
    match found.is_empty() {
        true => Err(TlsError::NoCertificate { path: path.to_owned() }),
        false => Ok(found),
    }
}

/// Whose signatures are believed.
pub(crate) fn roots(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(path)?);
    match roots.is_empty() {
        true => Err(TlsError::NoCertificate { path: path.to_owned() }),
        false => Ok(roots),
    }
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// What one connection to a broker is made with, of what the files hold now.
pub fn client(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(&tls.ca_file)?);
    let Some(client) = &tls.client else { return Ok(config.with_no_client_auth()) };
    let (chain, key) = (certificates(&client.cert_file)?, key(&client.key_file)?);
    Ok(config.with_client_auth_cert(chain, key)?)
}

pub(crate) fn pem_of(path: &Path) -> impl Fn(pem::Error) -> TlsError {
    move |source| TlsError::Pem { path: path.to_owned(), source }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests prepare files that nothing has to survive")]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn files(folder: &Path) -> Tls {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.join("one.pem"), folder.join("one.key"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
        let client = ClientCertificate { cert_file: certificate.clone(), key_file: key };
        Tls { ca_file: certificate, client: Some(client) }
    }

    #[test]
    fn a_key_that_others_can_read_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let tls = files(folder.path());
        client(&tls).unwrap();
        let key = &tls.client.as_ref().unwrap().key_file;
        for mode in [0o640, 0o604, 0o610, 0o666] {
            fs::set_permissions(key, Permissions::from_mode(mode)).unwrap();
            let refused = client(&tls).unwrap_err().to_string();
            for part in ["chmod 600", "one.key", &format!("{mode:o}")] {
                assert!(refused.contains(part), "{part} is not in {refused}");
            }
        }
        fs::set_permissions(key, Permissions::from_mode(0o400)).unwrap();
        client(&tls).unwrap();
    }

    #[test]
    fn files_that_hold_something_else_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let tls = files(folder.path());
        let empty = folder.path().join("empty.pem");
        fs::write(&empty, "").unwrap();
        let refused = client(&Tls { ca_file: empty, ..tls.clone() }).unwrap_err().to_string();
        assert!(refused.contains("empty.pem"), "{refused}");
        let absent = Tls { ca_file: folder.path().join("absent.pem"), ..tls.clone() };
        assert!(client(&absent).unwrap_err().to_string().contains("absent.pem"));
        let key_file = &tls.client.as_ref().unwrap().key_file;
        fs::write(key_file, "-----BEGIN PRIVATE KEY-----").unwrap();
        assert!(client(&tls).unwrap_err().to_string().contains("one.key"));
    }
}
