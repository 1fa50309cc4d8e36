//! TLS towards the broker, from the files that the configuration names.
//!
//! The files are read for each connection, so that a renewed certificate needs no restart. A key that others
//! than its owner can read is never used: whoever has read it can pass for this device, and nobody would find
//! out. The provider of the cryptography is named here and not installed for the whole process.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};

use crate::config::Tls;

/// Rights of anybody but the owner.
const OTHERS: u32 = 0o077;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the key {path}")]
    Key { path: PathBuf, source: io::Error },
    #[error(
        "others than its owner can read the key {path} (mode {mode:03o}), and pass for this device with it: \
         `chmod 600 {path}`; a FAT card has no modes, so keep it elsewhere, or mount with umask=077"
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error("cannot read {path} as PEM")]
    Pem { path: PathBuf, source: pem::Error },
    #[error("{path} holds no certificate that can be used")]
    NoCertificate { path: PathBuf },
    #[error("the certificates cannot be used")]
    Rustls(#[from] Error),
}

pub fn client(tls: &Tls) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates(&tls.ca_file)?);
    if roots.is_empty() {
        return Err(TlsError::NoCertificate { path: tls.ca_file.clone() });
    }
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots);
    let Some(client) = &tls.client else { return Ok(config.with_no_client_auth()) };
    let key = key(&client.key_file)?;
    Ok(config.with_client_auth_cert(certificates(&client.cert_file)?, key)?)
}

/// Mode and bytes are those of one open file: nobody exchanges it between.
fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let failed = |source| TlsError::Key { path: path.to_owned(), source };
    let mut file = File::open(path).map_err(failed)?;
    let mode = file.metadata().map_err(failed)?.mode() & 0o777;
    if mode & OTHERS != 0 {
        return Err(TlsError::Exposed { path: path.to_owned(), mode });
    }
    let mut secret = Vec::new();
    file.read_to_end(&mut secret).map_err(failed)?;
    PrivateKeyDer::from_pem_slice(&secret).map_err(pem_of(path))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(pem_of(path))?;
    found.collect::<Result<_, _>>().map_err(pem_of(path))
}

fn pem_of(path: &Path) -> impl Fn(pem::Error) -> TlsError {
    move |source| TlsError::Pem { path: path.to_owned(), source }
}
