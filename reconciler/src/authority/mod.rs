//! The built-in CA: issues what devices, servers and brokers show each other, and takes it back.
//!
//! Owns one folder of the state directory, whether or not a server runs: a broker needs its certificate before the
//! first start. Whoever changes something there holds its lock.
//!
//! | file | |
//! |---|---|
//! | `ca.key` | mode 0600: whoever reads it can make anybody's credentials |
//! | `ca.pem` | for everybody who checks certificates |
//! | `revoked.pem` | the list of revoked certificates (CRL), for whoever lets clients in |
//! | `register.json` | what was issued when, to whom, by which user, and what was revoked |
//!
//! It must never write a key of a device anywhere but where it was told to, nor keep one.
//!
//! Certificates are valid from 1970 on: a camera without a battery for its clock begins there, and could otherwise not
//! check its broker's certificate before it has the time, for which it may need the network behind that broker.

mod register;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams,
    CertificateSigningRequestParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SanType,
    SerialNumber, date_time_ymd,
};
use sdcard_indexer::time::Timestamp;

pub use register::{Holder, Issued};
use register::{MOST_ISSUED, Register};

use crate::broker::{REVOKED, SERVER_PREFIX};
use crate::durable::{self, DurableError};
use crate::tls::{KeyError, read_key};

const DAY: Duration = Duration::from_secs(24 * 3_600);
/// Of the CA itself.
const CA_YEARS: i16 = 25;
/// Of the list of revoked certificates: OpenSSL lets nobody in by one that is out of date, and nobody renews it by
/// the clock here.
const LIST_YEARS: i16 = 25;

#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    #[error(transparent)]
    Durable(#[from] DurableError),
    #[error(transparent)]
    Key(#[from] KeyError),
    #[error("cannot {operation} {path}")]
    Files {
        operation: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{here} is there and {lacking} is not: put it back, or move both away for another CA")]
    Half { here: PathBuf, lacking: PathBuf },
    #[error("{path} cannot be used")]
    Unusable {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error("{path} is not what was written there")]
    Register {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("{path} is no request to be signed (PEM, PKCS #10)")]
    Request {
        path: PathBuf,
        #[source]
        source: rcgen::Error,
    },
    #[error("`{0}` is no name of a host, and no address")]
    HostName(String),
    #[error("a certificate cannot be made")]
    Made(#[source] rcgen::Error),
    #[error(
        "the {holder} {name} has a certificate until {expires}: `renew` gives it another one, `revoke` takes it back"
    )]
    HasOne { holder: Holder, name: String, expires: Timestamp },
    #[error("the {holder} {name} has never had a certificate of this CA: `add` gives it one")]
    HasNone { holder: Holder, name: String },
    #[error("{MOST_ISSUED} certificates are issued, which is as many as one CA here may have")]
    Full,
}

/// Who asks for a certificate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Applicant {
    pub holder: Holder,
    /// An id; for a broker, all names and addresses by which clients connect to it.
    pub names: Vec<String>,
    pub valid_for: Duration,
}

/// Where the holder's key is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeySource<'a> {
    /// Made here, and handed out with the certificate.
    Made,
    /// With the holder, who has written this request (PEM).
    Request(&'a Path),
}

/// What is handed out.
#[derive(Debug)]
pub struct Credentials {
    pub issued: Issued,
    pub certificate_pem: String,
    /// Where it was made here.
    pub key_pem: Option<String>,
    pub ca_pem: String,
}

/// The CA, locked.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
    ca_pem: String,
    register: Register,
    _lock: File,
}

impl Authority {
    /// The CA of this state directory, which is made where there is none.
    pub fn open(state_dir: &Path, now: Timestamp) -> Result<Authority, AuthorityError> {
        let folder = Self::folder(state_dir);
        durable::create_directories(state_dir)?;
        match DirBuilder::new().mode(0o700).create(&folder) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(failed("create the folder", &folder)(source));
            }
            _ => {}
        }
        let lock = lock(&folder)?;
        let (certificate, key) = (folder.join("ca.pem"), folder.join("ca.key"));
        let is_new = match (certificate.exists(), key.exists()) {
            (true, true) => false,
            (false, false) => true,
            (true, false) => return Err(AuthorityError::Half { here: certificate, lacking: key }),
            (false, true) => return Err(AuthorityError::Half { here: key, lacking: certificate }),
        };
        if is_new {
            make(&certificate, &key, now)?;
        }
        let secret = read_key(&key)?;
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| AuthorityError::Unusable { path, source }
        };
        let pair = KeyPair::from_pem(&String::from_utf8_lossy(&secret)).map_err(unusable(&key))?;
        let ca_pem = fs::read_to_string(&certificate).map_err(failed("read", &certificate))?;
        let issuer = Issuer::from_ca_cert_pem(&ca_pem, pair).map_err(unusable(&certificate))?;
        let register = read_register(&folder)?;
        let mut authority = Authority { folder, issuer, ca_pem, register, _lock: lock };
        if is_new {
            authority.remember(now)?;
        }
        Ok(authority)
    }

    /// Where its files lie.
    pub fn folder(state_dir: &Path) -> PathBuf {
        state_dir.join("authority")
    }

    /// What was issued; nothing where there is no CA yet. Makes none, and needs no lock.
    pub fn issued(state_dir: &Path) -> Result<Vec<Issued>, AuthorityError> {
        Ok(read_register(&Self::folder(state_dir))?.issued)
    }

    /// For somebody who has no valid certificate.
    pub fn add(
        &mut self,
        applicant: &Applicant,
        key: KeySource<'_>,
        now: Timestamp,
    ) -> Result<Credentials, AuthorityError> {
        let (holder, name) = (applicant.holder, applicant.name());
        if let Some(valid) = self.register.valid(holder, name, now).last() {
            let (name, expires) = (name.to_owned(), valid.expires);
            return Err(AuthorityError::HasOne { holder, name, expires });
        }
        self.issue(applicant, key, now)
    }

    /// Another one for somebody who has had one; those before stay valid until they expire or are revoked.
    pub fn renew(
        &mut self,
        applicant: &Applicant,
        key: KeySource<'_>,
        now: Timestamp,
    ) -> Result<Credentials, AuthorityError> {
        let (holder, name) = (applicant.holder, applicant.name());
        if !self.register.issued.iter().any(|one| one.is_of(holder, name)) {
            return Err(AuthorityError::HasNone { holder, name: name.to_owned() });
        }
        self.issue(applicant, key, now)
    }

    /// Takes back what somebody has, or all but the newest, and writes the list. Answers what it was.
    pub fn revoke(
        &mut self,
        holder: Holder,
        name: &str,
        but_newest: bool,
        now: Timestamp,
    ) -> Result<Vec<Issued>, AuthorityError> {
        let revoked = self.register.revoke(holder, name, but_newest, now);
        self.remember(now)?;
        Ok(revoked)
    }

    fn issue(
        &mut self,
        applicant: &Applicant,
        key: KeySource<'_>,
        now: Timestamp,
    ) -> Result<Credentials, AuthorityError> {
        if self.register.issued.len() >= MOST_ISSUED {
            return Err(AuthorityError::Full);
        }
        let expires = day_after(now.saturating_add(applicant.valid_for));
        let serial = serial();
        let mut parameters = parameters(applicant)?;
        parameters.not_after = date_of(expires);
        parameters.serial_number = Some(SerialNumber::from_slice(&serial));
        let (certificate, key_pem) = match key {
            KeySource::Made => {
                let pair = KeyPair::generate().map_err(AuthorityError::Made)?;
                let certificate = parameters.signed_by(&pair, &self.issuer);
                (certificate.map_err(AuthorityError::Made)?, Some(pair.serialize_pem()))
            }
            KeySource::Request(path) => {
                let text = fs::read_to_string(path).map_err(failed("read", path))?;
                let refused = |source| AuthorityError::Request { path: path.to_owned(), source };
                let mut request =
                    CertificateSigningRequestParams::from_pem(&text).map_err(refused)?;
                // Of the request nothing is taken but the key, which has signed it.
                request.params = parameters;
                (request.signed_by(&self.issuer).map_err(AuthorityError::Made)?, None)
            }
        };
        let issued = Issued {
            holder: applicant.holder,
            name: applicant.name().to_owned(),
            serial: serial.iter().map(|byte| format!("{byte:02X}")).collect(),
            issued: now,
            expires,
            revoked: None,
            by_uid: nix::unistd::getuid().as_raw(),
        };
        self.register.add(issued.clone(), now);
        // Known before it is used: what nobody knows of, nobody can revoke.
        self.remember(now)?;
        let ca_pem = self.ca_pem.clone();
        Ok(Credentials { issued, certificate_pem: certificate.pem(), key_pem, ca_pem })
    }

    /// Writes register and list; the register first, from which the list can be made again.
    fn remember(&mut self, now: Timestamp) -> Result<(), AuthorityError> {
        self.register.revisions += 1;
        let text = serde_json::to_vec_pretty(&self.register)
            .expect("a register is made of what JSON has words for");
        write_over(&self.folder.join(REGISTER), &text, 0o600)?;
        let revoked = self.register.revoked().map(|(one, at)| RevokedCertParams {
            serial_number: SerialNumber::from_slice(&bytes_of(&one.serial)),
            revocation_time: date_of(at),
            reason_code: Some(RevocationReason::Superseded),
            invalidity_date: None,
        });
        let list = CertificateRevocationListParams {
            this_update: date_of(now),
            next_update: years_after(now, LIST_YEARS),
            crl_number: SerialNumber::from_slice(&self.register.revisions.to_be_bytes()),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let list = list.signed_by(&self.issuer).map_err(AuthorityError::Made)?;
        let text = list.pem().map_err(AuthorityError::Made)?;
        write_over(&self.folder.join(REVOKED), text.as_bytes(), 0o644)
    }
}

impl Applicant {
    /// By which it is known in the register.
    fn name(&self) -> &str {
        self.names.first().map_or("", String::as_str)
    }
}

const REGISTER: &str = "register.json";

/// All but for how long, and by which number.
fn parameters(applicant: &Applicant) -> Result<CertificateParams, AuthorityError> {
    let mut parameters = CertificateParams::default();
    let (common_name, purpose) = match applicant.holder {
        Holder::Device => (applicant.name().to_owned(), ExtendedKeyUsagePurpose::ClientAuth),
        Holder::Server => {
            (format!("{SERVER_PREFIX}{}", applicant.name()), ExtendedKeyUsagePurpose::ClientAuth)
        }
        Holder::Broker => (applicant.name().to_owned(), ExtendedKeyUsagePurpose::ServerAuth),
    };
    if applicant.holder == Holder::Broker {
        for name in &applicant.names {
            parameters.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => {
                    let host = name.as_str().try_into();
                    SanType::DnsName(host.map_err(|_| AuthorityError::HostName(name.clone()))?)
                }
            });
        }
    }
    parameters.distinguished_name = DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.not_before = date_time_ymd(1970, 1, 1);
    parameters.is_ca = IsCa::ExplicitNoCa;
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages = vec![purpose];
    parameters.use_authority_key_identifier_extension = true;
    Ok(parameters)
}

fn make(certificate: &Path, key: &Path, now: Timestamp) -> Result<(), AuthorityError> {
    let pair = KeyPair::generate().map_err(AuthorityError::Made)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = DistinguishedName::new();
    // Two CAs of one name would be taken for each other by whoever looks at names alone.
    let number = serial()[..4].iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    parameters.distinguished_name.push(DnType::CommonName, format!("Gapless CA {number}"));
    parameters.not_before = date_time_ymd(1970, 1, 1);
    parameters.not_after = years_after(now, CA_YEARS);
    parameters.serial_number = Some(SerialNumber::from_slice(&serial()));
    parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let made = parameters.self_signed(&pair).map_err(AuthorityError::Made)?;
    write_new(key, pair.serialize_pem().as_bytes(), 0o600)?;
    write_new(certificate, made.pem().as_bytes(), 0o644)
}

/// A new file, whole and durable on return; no other is replaced.
pub fn write_new(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let written = OpenOptions::new().write(true).create_new(true).mode(mode).open(path).and_then(
        |mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        },
    );
    written.map_err(failed("write", path))?;
    Ok(durable::sync_directory(durable::parent_of(path))?)
}

/// In place of what was there, in one step.
pub fn write_over(path: &Path, bytes: &[u8], mode: u32) -> Result<(), AuthorityError> {
    let hidden = durable::hidden_beside(path);
    durable::remove(&hidden)?;
    write_new(&hidden, bytes, mode)?;
    Ok(durable::replace(&hidden, path)?)
}

fn read_register(folder: &Path) -> Result<Register, AuthorityError> {
    let path = folder.join(REGISTER);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text)
            .map_err(|source| AuthorityError::Register { path: path.clone(), source }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Register::default()),
        Err(error) => Err(failed("read", &path)(error)),
    }
}

/// Whoever comes second waits: nobody holds it for longer than it takes to write some files.
fn lock(folder: &Path) -> Result<File, AuthorityError> {
    let path = folder.join("lock");
    let opened =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(failed("open", &path))?;
    file.lock().map_err(failed("lock", &path))?;
    Ok(file)
}

fn failed(operation: &'static str, path: &Path) -> impl Fn(io::Error) -> AuthorityError {
    move |source| AuthorityError::Files { operation, path: path.to_owned(), source }
}

/// 127 bits, as a positive number of 16 bytes without a leading zero: every reader writes it the same way.
fn serial() -> [u8; 16] {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x3f | 0x40;
    bytes
}

fn bytes_of(serial: &str) -> Vec<u8> {
    let digits = serial.as_bytes().chunks(2);
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or("00"), 16);
    digits.map(|pair| byte(pair).unwrap_or(0)).collect()
}

/// The midnight (UTC) that follows: certificates are valid by days.
fn day_after(instant: Timestamp) -> Timestamp {
    let day_ns = DAY.as_nanos() as i64;
    let days = instant.as_nanos().div_euclid(day_ns).saturating_add(1);
    Timestamp::from_nanos(days.saturating_mul(day_ns))
}

fn date_of(instant: Timestamp) -> Date {
    let date = sdcard_indexer::readable::zoned(instant).date();
    date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs())
}

fn years_after(instant: Timestamp, years: i16) -> Date {
    let date = sdcard_indexer::readable::zoned(instant).date();
    // Every month has a first day.
    date_time_ymd(i32::from(date.year() + years), date.month().unsigned_abs(), 1)
}

/// As rcgen has it, which hands on a type of another crate.
type Date = time::OffsetDateTime;

#[cfg(test)]
mod tests;
