//! The certificate of the listener: read, checked, and read again when its files change.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum_server::tls_rustls::RustlsConfig;

use crate::tls::{KeyError, Watched, look, read_key};

#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read the certificate {path}, which [http] names")]
    Read {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("{certificate} and {key} are no certificate with its key")]
    Unusable {
        certificate: PathBuf,
        key: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// A certificate in use, and where it came from.
#[derive(Debug)]
pub(super) struct Certificate {
    certificate: PathBuf,
    key: PathBuf,
    files: Watched,
    pub config: RustlsConfig,
}

impl Certificate {
    pub async fn read(certificate: &Path, key: &Path) -> Result<Certificate, TlsError> {
        let files = Watched::since(look([certificate, key]));
        let config = load(certificate, key).await?;
        Ok(Certificate { certificate: certificate.to_owned(), key: key.to_owned(), files, config })
    }

    /// For as long as it is polled: connections that come get what the files hold by then. What cannot be used is
    /// said once, and what was read before is kept.
    pub async fn follow(mut self) {
        loop {
            self.files.tick().await;
            self.look_again().await;
        }
    }

    async fn look_again(&mut self) {
        if !self.files.are_new(look([&*self.certificate, &*self.key])) {
            return;
        }
        let certificate = self.certificate.display();
        match self.renew().await {
            Ok(()) => tracing::info!(%certificate, "read the certificate again"),
            Err(error) => {
                let error = sdcard_indexer::readable::explain(&error);
                tracing::warn!(error, "the certificate that was read before stays in use");
            }
        }
    }

    async fn renew(&self) -> Result<(), TlsError> {
        let config = load(&self.certificate, &self.key).await?;
        self.config.reload_from_config(config.get_inner());
        Ok(())
    }
}

async fn load(certificate: &Path, key: &Path) -> Result<RustlsConfig, TlsError> {
    let (chain, secret) = pem(certificate, key)?;
    let unusable = |source| TlsError::Unusable {
        certificate: certificate.to_owned(),
        key: key.to_owned(),
        source,
    };
    let config = RustlsConfig::from_pem(chain, secret).await.map_err(unusable)?;
    let mut only_http_1 = config.get_inner().as_ref().clone();
    // What axum-server puts there offers HTTP/2, which the listener does not speak.
    only_http_1.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(only_http_1)))
}

fn pem(certificate: &Path, key: &Path) -> Result<(Vec<u8>, Vec<u8>), TlsError> {
    let secret = read_key(key)?;
    let failed = |source| TlsError::Read { path: certificate.to_owned(), source };
    Ok((std::fs::read(certificate).map_err(failed)?, secret))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "tests prepare files that nothing has to survive")]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn write(folder: &Path, mode: u32) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
        std::fs::write(&certificate, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        (certificate, key)
    }

    #[tokio::test]
    async fn a_key_that_others_can_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for mode in [0o640, 0o604, 0o660] {
            let (certificate, key) = write(folder.path(), mode);
            let refused = Certificate::read(&certificate, &key).await.unwrap_err().to_string();
            assert!(refused.contains("chmod 600") && refused.contains("key.pem"), "{refused}");
        }
        let (certificate, key) = write(folder.path(), 0o600);
        Certificate::read(&certificate, &key).await.unwrap();
    }

    #[tokio::test]
    async fn a_certificate_without_its_own_key_is_refused_and_both_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, _) = write(folder.path(), 0o600);
        let other = tempfile::tempdir().unwrap();
        let (_, key) = write(other.path(), 0o600);
        let refused = Certificate::read(&certificate, &key).await.unwrap_err().to_string();
        assert!(refused.contains("certificate.pem") && refused.contains("key.pem"), "{refused}");
        let absent = folder.path().join("absent.pem");
        let refused = Certificate::read(&absent, &key).await.unwrap_err().to_string();
        assert!(refused.contains("absent.pem"), "{refused}");
    }

    #[tokio::test]
    async fn a_new_certificate_is_taken_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key) = write(folder.path(), 0o600);
        let mut certificate = Certificate::read(&path, &key).await.unwrap();
        let config = certificate.config.clone();
        let first = config.get_inner();
        assert_eq!(first.alpn_protocols, [b"http/1.1"]);
        let is_first = |config: &RustlsConfig| Arc::ptr_eq(&first, &config.get_inner());
        certificate.look_again().await;
        assert!(is_first(&config));
        std::fs::write(&path, "-----BEGIN CERTIFICATE-----").unwrap();
        certificate.look_again().await;
        assert!(is_first(&config));
        write(folder.path(), 0o644);
        certificate.look_again().await;
        assert!(is_first(&config));
        write(folder.path(), 0o600);
        certificate.look_again().await;
        assert!(!is_first(&config));
        assert_eq!(config.get_inner().alpn_protocols, [b"http/1.1"]);
    }
}
