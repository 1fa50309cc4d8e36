use std::process::Command;

use super::*;
use crate::examples::at;

const NOW_S: i64 = 1_800_000_000;

fn device(name: &str) -> Applicant {
    Applicant { holder: Holder::Device, names: vec![name.into()], valid_for: DAY * 30 }
}

fn openssl(arguments: &[&str], folder: &Path) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output();
    let output = output.expect("openssl is missing: `apt-get install openssl`");
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&said).into_owned())
}

/// As OpenSSL, which mosquitto is built on, sees it.
fn verify(folder: &Path, purpose: &str, certificate: &str) -> (bool, String) {
    let when = (NOW_S + 60).to_string();
    let ca = ["verify", "-attime", &when, "-CAfile", "ca.pem", "-CRLfile", "revoked.pem"];
    openssl(&[&ca[..], &["-crl_check", "-purpose", purpose, certificate]].concat(), folder)
}

#[test]
fn openssl_accepts_what_is_issued_until_it_is_revoked() {
    let state = tempfile::tempdir().unwrap();
    let folder = Authority::folder(state.path());
    let mut authority = Authority::open(state.path(), at(NOW_S)).unwrap();
    let issued = authority.add(&device("cam-7"), KeySource::Made, at(NOW_S)).unwrap();
    write_new(&folder.join("device.pem"), issued.certificate_pem.as_bytes(), 0o644).unwrap();
    let (fine, said) = verify(&folder, "sslclient", "device.pem");
    assert!(fine, "{said}");
    assert!(!verify(&folder, "sslserver", "device.pem").0, "a device is no broker");
    let (_, subject) = openssl(&["x509", "-noout", "-subject", "-in", "device.pem"], &folder);
    assert!(subject.contains("CN = cam-7") || subject.contains("CN=cam-7"), "{subject}");

    assert_eq!(authority.revoke(Holder::Device, "cam-7", false, at(NOW_S)).unwrap().len(), 1);
    let (fine, said) = verify(&folder, "sslclient", "device.pem");
    assert!(!fine && said.contains("revoked"), "{said}");
}

#[test]
fn a_ca_is_the_same_after_it_was_closed_and_remembers_what_it_issued() {
    let state = tempfile::tempdir().unwrap();
    let mut first = Authority::open(state.path(), at(NOW_S)).unwrap();
    let issued = first.add(&device("cam-7"), KeySource::Made, at(NOW_S)).unwrap();
    drop(first);
    let mut again = Authority::open(state.path(), at(NOW_S + 1)).unwrap();
    assert_eq!(again.ca_pem, issued.ca_pem);
    assert_eq!(Authority::issued(state.path()).unwrap(), [issued.issued]);
    let refused = again.add(&device("cam-7"), KeySource::Made, at(NOW_S + 1)).unwrap_err();
    assert!(matches!(refused, AuthorityError::HasOne { .. }), "{refused}");
    let refused = again.renew(&device("cam-8"), KeySource::Made, at(NOW_S + 1)).unwrap_err();
    assert!(matches!(refused, AuthorityError::HasNone { .. }), "{refused}");
}

#[test]
fn a_request_is_signed_for_the_name_that_was_asked_for_and_no_other() {
    let state = tempfile::tempdir().unwrap();
    let folder = state.path();
    let (made, said) = openssl(
        &[
            "req",
            "-new",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-keyout",
            "own.key",
            "-subj",
            "/CN=server:gapless",
            "-out",
            "own.csr",
        ],
        folder,
    );
    assert!(made, "{said}");
    let mut authority = Authority::open(folder, at(NOW_S)).unwrap();
    let request = folder.join("own.csr");
    let signed = authority.add(&device("cam-7"), KeySource::Request(&request), at(NOW_S)).unwrap();
    assert!(signed.key_pem.is_none());
    write_new(&folder.join("own.pem"), signed.certificate_pem.as_bytes(), 0o644).unwrap();
    let (_, subject) = openssl(&["x509", "-noout", "-subject", "-in", "own.pem"], folder);
    assert!(subject.contains("cam-7") && !subject.contains("server"), "{subject}");
    let public = |arguments: &[&str]| openssl(arguments, folder).1;
    assert_eq!(
        public(&["x509", "-noout", "-pubkey", "-in", "own.pem"]),
        public(&["pkey", "-pubout", "-in", "own.key"])
    );
    fs::remove_file(&request).unwrap();
    write_new(&request, b"no request", 0o644).unwrap();
    let refused = authority.add(&device("cam-8"), KeySource::Request(&request), at(NOW_S));
    assert!(matches!(refused, Err(AuthorityError::Request { .. })));
}

#[test]
fn a_brokers_certificate_has_all_its_names() {
    let state = tempfile::tempdir().unwrap();
    let names = vec!["gapless.example".to_owned(), "192.0.2.1".to_owned(), "::1".to_owned()];
    let broker = Applicant { holder: Holder::Broker, names, valid_for: DAY };
    let mut authority = Authority::open(state.path(), at(NOW_S)).unwrap();
    let issued = authority.add(&broker, KeySource::Made, at(NOW_S)).unwrap();
    write_new(&state.path().join("broker.pem"), issued.certificate_pem.as_bytes(), 0o644).unwrap();
    let (_, text) = openssl(&["x509", "-noout", "-text", "-in", "broker.pem"], state.path());
    for part in ["DNS:gapless.example", "IP Address:192.0.2.1", "TLS Web Server Authentication"] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    let odd = Applicant { names: vec!["gäpless".to_owned()], ..broker };
    let refused = authority.add(&odd, KeySource::Made, at(NOW_S)).unwrap_err();
    assert!(matches!(refused, AuthorityError::HostName(_)), "{refused}");
}

#[test]
fn a_ca_of_which_half_is_gone_or_that_others_can_read_is_not_used() {
    use std::os::unix::fs::PermissionsExt;
    let state = tempfile::tempdir().unwrap();
    drop(Authority::open(state.path(), at(NOW_S)).unwrap());
    let key = Authority::folder(state.path()).join("ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Authority::open(state.path(), at(NOW_S)).unwrap_err().to_string();
    assert!(refused.contains("chmod 600"), "{refused}");
    fs::remove_file(&key).unwrap();
    let refused = Authority::open(state.path(), at(NOW_S)).unwrap_err().to_string();
    assert!(refused.contains("ca.key") && refused.contains("ca.pem"), "{refused}");
}

#[test]
fn serials_are_written_as_they_are_read() {
    let serial = serial();
    let text: String = serial.iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(bytes_of(&text), serial);
    assert_eq!(serial[0] & 0xc0, 0x40);
}

#[test]
fn certificates_end_with_a_day() {
    assert_eq!(day_after(at(0)), at(86_400));
    assert_eq!(day_after(at(86_399)), at(86_400));
    assert_eq!(day_after(at(86_400)), at(2 * 86_400));
}
