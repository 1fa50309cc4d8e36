//! What a certificate entitles its holder to: pure rules over its names, no I/O, no state.
//!
//! It must never look at a certificate that TLS has not verified, nor entitle anybody to more than the names say.
//!
//! | names | client id |
//! |---|---|
//! | CN or DNS name `ID`, or URI `urn:gapless:device:ID` | `gapless-agent-ID` |
//! | CN `server:ID`, or URI `urn:gapless:server:ID` | `gapless-server-ID` |
//!
//! No device can be called `server:…`: an id has no colon. So a broker that takes the CN for a user's name, as
//! mosquitto and EMQX do, tells the two apart as well.

use std::collections::BTreeSet;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::access::{AGENT, SERVER};

const DEVICE_URN: &str = "urn:gapless:device:";
const SERVER_URN: &str = "urn:gapless:server:";
/// What stands before a server's id in a CN.
pub(crate) const SERVER_PREFIX: &str = "server:";

/// The holder of a verified certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Identity {
    clients: BTreeSet<String>,
    /// Of the certificate, by which it can be revoked.
    pub serial: Vec<u8>,
    /// For a log.
    pub subject: String,
    /// In seconds since 1970.
    pub expires_s: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("its certificate cannot be read")]
pub(super) struct Unreadable;

impl Identity {
    pub(super) fn read(certificate: &[u8]) -> Result<Self, Unreadable> {
        let (_, certificate) = X509Certificate::from_der(certificate).map_err(|_| Unreadable)?;
        let mut clients = BTreeSet::new();
        for name in certificate.subject().iter_common_name() {
            let name = name.as_str().map_err(|_| Unreadable)?;
            clients.insert(match name.strip_prefix(SERVER_PREFIX) {
                Some(server) => format!("{SERVER}{server}"),
                None => format!("{AGENT}{name}"),
            });
        }
        let others = certificate.subject_alternative_name().map_err(|_| Unreadable)?;
        for name in others.iter().flat_map(|others| &others.value.general_names) {
            let client = match name {
                GeneralName::DNSName(name) => Some(format!("{AGENT}{name}")),
                GeneralName::URI(uri) => {
                    let device = uri.strip_prefix(DEVICE_URN).map(|id| format!("{AGENT}{id}"));
                    let server = || uri.strip_prefix(SERVER_URN).map(|id| format!("{SERVER}{id}"));
                    device.or_else(server)
                }
                _ => None,
            };
            clients.extend(client);
        }
        Ok(Identity {
            clients,
            serial: certificate.raw_serial().to_vec(),
            subject: certificate.subject().to_string().chars().take(MOST_SUBJECT).collect(),
            expires_s: certificate.validity().not_after.timestamp(),
        })
    }

    pub(super) fn may_be(&self, client_id: &str) -> bool {
        self.clients.contains(client_id)
    }
}

/// Of a subject that somebody else has written, in a log.
const MOST_SUBJECT: usize = 200;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    use super::*;

    fn identity(common_name: Option<&str>, others: &[SanType]) -> Identity {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        if let Some(name) = common_name {
            parameters.distinguished_name.push(DnType::CommonName, name);
        }
        parameters.subject_alt_names = others.to_vec();
        let certificate = parameters.self_signed(&KeyPair::generate().unwrap()).unwrap();
        Identity::read(certificate.der()).unwrap()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    #[test]
    fn a_device_may_be_itself_and_nobody_else() {
        let dns = SanType::DnsName("cam-7".try_into().unwrap());
        for holder in [
            identity(Some("cam-7"), &[]),
            identity(None, &[dns]),
            identity(None, &[uri("urn:gapless:device:cam-7")]),
        ] {
            assert!(holder.may_be("gapless-agent-cam-7"), "{holder:?}");
            for other in ["gapless-agent-cam-8", "gapless-server-cam-7", "cam-7", "gapless-agent-"]
            {
                assert!(!holder.may_be(other), "{other} for {holder:?}");
            }
        }
    }

    #[test]
    fn a_server_is_told_from_a_device_that_has_its_name() {
        for holder in [
            identity(Some("server:depot"), &[]),
            identity(None, &[uri("urn:gapless:server:depot")]),
        ] {
            assert!(holder.may_be("gapless-server-depot"), "{holder:?}");
            assert!(!holder.may_be("gapless-agent-depot"), "{holder:?}");
            assert!(!holder.may_be("gapless-server-other"), "{holder:?}");
        }
        assert!(!identity(Some("gapless-server-depot"), &[]).may_be("gapless-server-depot"));
    }

    #[test]
    fn who_has_no_name_is_nobody_and_what_is_no_certificate_is_refused() {
        let nobody = identity(None, &[uri("urn:other:device:cam-7")]);
        assert!(!nobody.may_be("gapless-agent-cam-7") && !nobody.may_be("gapless-agent-"));
        assert_eq!(Identity::read(b"no certificate"), Err(Unreadable));
    }
}
