//! TLS towards the broker, from the files that the configuration names.
//!
//! The files are read for each connection, so that a renewed certificate needs no restart. The provider of
//! the cryptography is named here and not installed for the whole process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::{self, PemObject};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{ClientConfig, Error, RootCertStore};

use crate::config::Tls;

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
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
    let key = PrivateKeyDer::from_pem_file(&client.key_file).map_err(pem_of(&client.key_file))?;
    Ok(config.with_client_auth_cert(certificates(&client.cert_file)?, key)?)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found = CertificateDer::pem_file_iter(path).map_err(pem_of(path))?;
    found.collect::<Result<_, _>>().map_err(pem_of(path))
}

fn pem_of(path: &Path) -> impl Fn(pem::Error) -> TlsError {
    move |source| TlsError::Pem { path: path.to_owned(), source }
}
