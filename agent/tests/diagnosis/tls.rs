//! The doctor at brokers that speak TLS.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::rig::{Broker, Rig, write};

/// A CA's certificate, and what it has signed for 127.0.0.1: certificate and key.
fn certificates() -> (String, String, String) {
    let mut of_ca = CertificateParams::new(Vec::new()).unwrap();
    of_ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().unwrap();
    let ca = of_ca.self_signed(&ca_key).unwrap().pem();
    let issuer = Issuer::new(of_ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &issuer).unwrap().pem();
    (ca, certificate, key.serialize_pem())
}

fn broker(certificate: &str, key: &str) -> Broker {
    Broker::with(|folder| {
        let (certificate_file, key_file) = (folder.join("broker.pem"), folder.join("broker.key"));
        write(&certificate_file, certificate.as_bytes());
        write(&key_file, key.as_bytes());
        for path in [folder, &certificate_file, &key_file] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let (certificate, key) = (certificate_file.display(), key_file.display());
        format!("allow_anonymous true\ncertfile {certificate}\nkeyfile {key}\n")
    })
}

fn configure(rig: &Rig, port: u16, ca: &str) {
    write(&rig.path("ca.pem"), ca.as_bytes());
    rig.write_config(&format!(
        "device = \"cam-7\"\nbroker.url = \"mqtts://127.0.0.1:{port}\"\nbroker.tls.ca_file = {:?}\n{}",
        rig.path("ca.pem"),
        rig.rest_of_config()
    ));
}

#[test]
fn a_broker_whose_certificate_the_ca_has_signed_is_let_speak() {
    let (ca, certificate, key) = certificates();
    let broker = broker(&certificate, &key);
    let rig = Rig::new(broker.port);
    configure(&rig, broker.port, &ca);
    let answer = rig.ask(&["doctor", "--json"]);
    assert_eq!(answer.code, 0, "{answer:#?}");
    for check in ["tcp", "tls", "login", "acl"] {
        assert_eq!(answer.verdict(check), "ok", "{check}: {answer:#?}");
    }
}

#[test]
fn another_cas_broker_is_refused_and_the_file_to_look_at_is_named() {
    let (_, certificate, key) = certificates();
    let (other, ..) = certificates();
    let broker = broker(&certificate, &key);
    let rig = Rig::new(broker.port);
    configure(&rig, broker.port, &other);
    let answer = rig.ask(&["doctor", "--json"]);
    assert_eq!(answer.code, 1);
    assert_eq!((answer.verdict("tls"), answer.verdict("login")), ("fail".into(), "skipped".into()));
    assert!(answer.says("tls").contains("ca_file"), "{answer:#?}");
}

#[test]
fn a_broker_that_speaks_plainly_is_no_tls_broker() {
    let broker = Broker::open();
    let (ca, ..) = certificates();
    let rig = Rig::new(broker.port);
    configure(&rig, broker.port, &ca);
    let answer = rig.ask(&["doctor", "--json"]);
    assert_eq!((answer.code, answer.verdict("tls")), (1, "fail".to_owned()), "{answer:#?}");
}

#[test]
fn a_ca_file_that_is_not_there_is_told_by_its_name() {
    let (_, certificate, key) = certificates();
    let broker = broker(&certificate, &key);
    let rig = Rig::new(broker.port);
    configure(&rig, broker.port, "no certificate");
    let answer = rig.ask(&["doctor", "--json"]);
    assert_eq!(answer.verdict("tls"), "fail");
    assert!(answer.says("tls").contains("ca.pem"), "{answer:#?}");
}
