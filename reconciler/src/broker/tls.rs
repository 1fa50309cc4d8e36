//! What the embedded broker's TLS is made of: its files, read at the start and whenever they change.
//!
//! Sessions are not resumed: a certificate that was revoked or has expired since would come in by the session of before.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::CertificateRevocationListDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{
    NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer};

use crate::tls::{self, Seen, TlsError, Watched, look};

/// What is looked for beside [`EmbeddedTls::client_ca`]: the built-in CA keeps its list there.
pub(crate) const REVOKED: &str = "revoked.pem";

/// The `[broker.embedded.tls]` table. Files in PEM.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, try_from = "Written")]
pub struct EmbeddedTls {
    /// This broker's certificate, and behind it those of who signed it.
    pub certificate: PathBuf,
    /// Which nobody but the server's user can read.
    pub key: PathBuf,
    /// Who signs the certificates of devices. Without it they need none, and are believed what they say they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// Certificates that are not valid any more (a CRL of that CA). By default `revoked.pem` beside it, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revoked: Option<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    revoked: Option<PathBuf>,
}

impl TryFrom<Written> for EmbeddedTls {
    type Error = &'static str;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        let Written { certificate, key, client_ca, revoked } = written;
        if revoked.is_some() && client_ca.is_none() {
            return Err("revoked needs client_ca: without it nobody shows a certificate");
        }
        Ok(EmbeddedTls { certificate, key, client_ca, revoked })
    }
}

impl EmbeddedTls {
    /// Makes paths whole: relative ones are relative to `base`.
    pub(crate) fn locate(&mut self, base: &Path) {
        let own = [&mut self.certificate, &mut self.key];
        let clients = [&mut self.client_ca, &mut self.revoked].into_iter().flatten();
        for path in own.into_iter().chain(clients) {
            *path = base.join(&*path);
        }
    }

    /// The list in force: the one that is named has to be there.
    fn revoked(&self) -> Option<PathBuf> {
        let beside = || Some(self.client_ca.as_ref()?.with_file_name(REVOKED));
        self.revoked.clone().or_else(|| beside().filter(|path| path.exists()))
    }

    fn look(&self) -> std::io::Result<Seen> {
        let revoked = self.revoked();
        let own = [&*self.certificate, &*self.key];
        look(own.into_iter().chain(self.client_ca.as_deref()).chain(revoked.as_deref()))
    }
}

#[derive(Debug, thiserror::Error)]
pub enum EmbeddedTlsError {
    #[error(transparent)]
    Files(#[from] TlsError),
    #[error("{path} is no list of revoked certificates (CRL)")]
    Revoked { path: PathBuf },
    #[error("client certificates cannot be checked by {path}")]
    Verifier {
        path: PathBuf,
        #[source]
        source: VerifierBuilderError,
    },
}

/// On which connections are accepted from now on, and which of the accepted ones end.
pub(super) struct Terms {
    pub config: Arc<ServerConfig>,
    /// Serial numbers.
    revoked: HashSet<Vec<u8>>,
}

impl Terms {
    pub(super) fn read(tls: &EmbeddedTls) -> Result<Terms, EmbeddedTlsError> {
        let (verifier, revoked) = match &tls.client_ca {
            None => (WebPkiClientVerifier::no_client_auth(), HashSet::new()),
            Some(ca) => verifier(ca, tls.revoked().as_deref())?,
        };
        let (chain, key) = (tls::certificates(&tls.certificate)?, tls::key(&tls.key)?);
        let mut config = ServerConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Rustls)?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(TlsError::Rustls)?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Terms { config: Arc::new(config), revoked })
    }

    pub(super) fn revoke(&self, serial: &[u8]) -> bool {
        self.revoked.contains(serial)
    }
}

type Verified = (Arc<dyn ClientCertVerifier>, HashSet<Vec<u8>>);

fn verifier(ca: &Path, revoked: Option<&Path>) -> Result<Verified, EmbeddedTlsError> {
    let (mut lists, mut serials) = (Vec::new(), HashSet::new());
    if let Some(path) = revoked {
        let unusable = || EmbeddedTlsError::Revoked { path: path.to_owned() };
        let found = CertificateRevocationListDer::pem_file_iter(path).map_err(tls::pem_of(path))?;
        for list in found {
            let list = list.map_err(tls::pem_of(path))?;
            let (_, read) = CertificateRevocationList::from_der(&list).map_err(|_| unusable())?;
            serials.extend(read.iter_revoked_certificates().map(|one| one.raw_serial().to_vec()));
            lists.push(list);
        }
        if lists.is_empty() {
            return Err(unusable());
        }
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(tls::roots(ca)?.into(), tls::provider());
    let verifier = builder.with_crls(lists).only_check_end_entity_revocation().build();
    let failed = |source| EmbeddedTlsError::Verifier { path: ca.to_owned(), source };
    Ok((verifier.map_err(failed)?, serials))
}

/// For as long as it is polled: connections that come get what the files hold by then. What cannot be used is said
/// once, and what was read before is kept.
pub(super) async fn follow(tls: EmbeddedTls, terms: watch::Sender<Arc<Terms>>) {
    let mut files = Watched::since(tls.look());
    loop {
        files.tick().await;
        if !files.are_new(tls.look()) {
            continue;
        }
        match Terms::read(&tls) {
            Ok(read) => {
                terms.send_replace(Arc::new(read));
                tracing::info!("the embedded broker has read its certificates again");
            }
            Err(error) => {
                let error = sdcard_indexer::readable::explain(&error);
                tracing::warn!(
                    error,
                    "the embedded broker keeps the certificates that it read before"
                );
            }
        }
    }
}
