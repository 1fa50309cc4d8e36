//! An installation with credentials of its own CA, and visitors with good and bad ones.

use std::fs::{self, Permissions};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair,
    date_time_ymd,
};
use reconciler::tls::{ClientCertificate, Tls};
use sdcard_indexer::time::{TimeRange, Timestamp};
use tests::camera::{Camera, Recording};
use tests::installation::{DEVICE, Installation, Setup, amend};
use tests::link::{Link, Shape};
use tests::mosquitto::{Mosquitto, brokers};
use tests::naming::Naming;
use tests::process::free_port;
use tests::stranger::Stranger;

/// Another device of the same house, which would like to be the camera.
pub const THIEF: &str = "thief";

pub fn at(second: u32) -> Timestamp {
    let start: Timestamp = "2024-05-14T10:00:00Z".parse().unwrap();
    start.saturating_add(Duration::from_secs(second.into()))
}

pub fn window() -> TimeRange {
    TimeRange::new(at(0), at(40)).unwrap()
}

/// Where a broker with TLS stands, and what opens its door.
pub struct House {
    pub installation: Installation,
    pub broker: SocketAddr,
    /// Where it is mosquitto.
    pub mosquitto: Option<Mosquitto>,
}

impl House {
    /// Recordings with a hole, and credentials of the camera, the server, the broker and the thief.
    async fn set_up() -> House {
        let setup = Setup { naming: Naming::MediaMtx, link: Shape::CLEAR, expected_from: at(0) };
        let mut installation = Installation::set_up(&setup).await.unwrap();
        installation.mosquitto.kill().await.unwrap();
        let card = Recording::plain(&installation.card());
        let mut camera = Camera::streaming(card, Recording::plain(&installation.archive()));
        for second in 0..40 {
            camera.record(at(second), !(10..30).contains(&second)).unwrap();
        }
        let broker = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().unwrap()));
        let house = House { installation, broker, mosquitto: None };
        house.gapless(["device", "broker", "127.0.0.1", "-o", &house.file("")]).await;
        house.gapless(["device", "server", "-o", &house.file("")]).await;
        for device in [DEVICE, THIEF] {
            house.gapless(["device", "add", device, "-o", &house.file("")]).await;
        }
        house
    }

    /// With the real mosquitto, as the committed files configure it.
    pub async fn with_mosquitto() -> House {
        let mut house = House::set_up().await;
        let folder = PathBuf::from(house.file(""));
        fs::copy(brokers().join("mosquitto/gapless.acl"), folder.join("gapless.acl")).unwrap();
        house.hand_over_revoked();
        house.mosquitto = Some(Mosquitto::start_secured(house.broker, &folder).await.unwrap());
        let broker = format!(
            "[broker]\nurl = \"mqtts://{}\"\n[broker.tls]\nca_file = {:?}\n\
             client = {{ cert_file = {:?}, key_file = {:?} }}",
            house.broker,
            house.file("ca.pem"),
            house.file("server.pem"),
            house.file("server.key")
        );
        amend(&house.installation.server_config(), &broker).unwrap();
        house.lead_agent().await;
        house
    }

    /// The server as its own broker.
    pub async fn embedded() -> House {
        let mut house = House::set_up().await;
        let mut config: toml::Table =
            fs::read_to_string(house.installation.server_config()).unwrap().parse().unwrap();
        config.remove("broker");
        fs::write(house.installation.server_config(), config.to_string()).unwrap();
        let broker = format!(
            "[broker.embedded]\nlisten = \"{}\"\n[broker.embedded.tls]\ncertificate = {:?}\nkey = {:?}\n\
             client_ca = {:?}",
            house.broker,
            house.file("broker.pem"),
            house.file("broker.key"),
            house.installation.root("state/authority/ca.pem")
        );
        amend(&house.installation.server_config(), &broker).unwrap();
        house.lead_agent().await;
        house
    }

    /// Through the link, which passes on what it cannot read.
    async fn lead_agent(&mut self) {
        self.installation.link = Link::open(self.broker, Shape::CLEAR).await.unwrap();
        let via = self.installation.link.address();
        let broker = format!(
            "[broker]\nurl = \"mqtts://{via}\"\n[broker.tls]\nca_file = {:?}\n\
             [broker.tls.client]\ncert_file = {:?}\nkey_file = {:?}",
            self.file("ca.pem"),
            self.file(&format!("{DEVICE}.pem")),
            self.file(&format!("{DEVICE}.key"))
        );
        amend(&self.installation.agent_config(), &broker).unwrap();
    }

    pub fn file(&self, name: &str) -> String {
        self.installation.root("tls").join(name).display().to_string()
    }

    /// A command that has to succeed.
    pub async fn gapless<const N: usize>(&self, command: [&str; N]) -> Output {
        let output = self.installation.gapless(command).await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {said}");
        output
    }

    /// As somebody would who looks after a broker of their own.
    pub fn hand_over_revoked(&self) {
        let list = self.installation.root("state/authority/revoked.pem");
        fs::copy(list, self.file("revoked.pem")).unwrap();
    }

    /// What somebody shows who has these files.
    pub fn shown(&self, name: &str) -> Tls {
        let (cert_file, key_file) = (format!("{name}.pem"), format!("{name}.key"));
        let client = ClientCertificate {
            cert_file: self.file(&cert_file).into(),
            key_file: self.file(&key_file).into(),
        };
        Tls { ca_file: self.file("ca.pem").into(), client: Some(client) }
    }

    pub async fn visit(&self, tls: &Tls, client_id: &str) -> anyhow::Result<Stranger> {
        Stranger::connect_with(self.broker, client_id, Some(tls)).await
    }

    /// Of the camera, by another CA.
    pub fn forged(&self) -> Tls {
        let mut ca = CertificateParams::default();
        ca.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let issuer = Issuer::new(ca, KeyPair::generate().unwrap());
        self.made("forged", DEVICE, &issuer, (4000, 1, 1))
    }

    /// Of the camera, by the right CA, and not valid since yesteryear.
    pub fn expired(&self) -> Tls {
        let authority = self.installation.root("state/authority");
        let key = fs::read_to_string(authority.join("ca.key")).unwrap();
        let ca = fs::read_to_string(authority.join("ca.pem")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&ca, KeyPair::from_pem(&key).unwrap()).unwrap();
        self.made("expired", DEVICE, &issuer, (2025, 1, 1))
    }

    fn made(
        &self,
        file: &str,
        name: &str,
        issuer: &Issuer<'_, KeyPair>,
        (year, month, day): (i32, u8, u8),
    ) -> Tls {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.not_before = date_time_ymd(2020, 1, 1);
        parameters.not_after = date_time_ymd(year, month, day);
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, issuer).unwrap();
        fs::write(self.file(&format!("{file}.pem")), certificate.pem()).unwrap();
        let path = self.file(&format!("{file}.key"));
        fs::write(&path, key.serialize_pem()).unwrap();
        fs::set_permissions(Path::new(&path), Permissions::from_mode(0o600)).unwrap();
        self.shown(file)
    }

    /// Nothing to show.
    pub fn nothing(&self) -> Tls {
        Tls { client: None, ..self.shown(DEVICE) }
    }
}
