//! `gapless device`: what devices, this server and its broker show each other, from the built-in CA.
//!
//! Works on the files of the [`Authority`], whether or not the server runs: a broker needs its certificate first.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::{Args, Subcommand, ValueEnum};
use protocol::message::DeviceId;
use sdcard_indexer::readable::{second_of, shortened, zoned};
use sdcard_indexer::time::Timestamp;
use serde_json::json;

use super::{Output, show, text};
use crate::authority::{
    Applicant, Authority, Credentials, Holder, Issued, KeySource, write_new, write_over,
};
use crate::broker::{REVOKED, SERVER_PREFIX};
use crate::config::Config;
use crate::policy::period;

/// Two years: somebody looks at every camera once in that time.
const VALID_FOR: &str = "730d";
/// The CA itself is not valid for much longer.
const LONGEST: Duration = Duration::from_secs(20 * 365 * 24 * 3_600);
/// Who expires sooner is marked.
const SOON: Duration = Duration::from_secs(30 * 24 * 3_600);

#[derive(Subcommand, Debug)]
pub enum DeviceCommand {
    /// List what was issued, to whom, and when it expires
    List {
        /// Also what has expired or was revoked
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Issue a device's credentials: key, certificate, and what to configure
    Add(Asked),
    /// Issue another certificate to a device; those before stay valid
    Renew(Asked),
    /// Take certificates back: nobody who has them is let in any more
    Revoke {
        /// Of the device, or of whom else `--holder` says
        name: String,
        /// Of a device, a server or a broker
        #[arg(long, value_enum, default_value_t = Whose::Device, hide_possible_values = true)]
        holder: Whose,
        /// Keep the newest one, after `renew`
        #[arg(long)]
        but_newest: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Issue this server's credentials for a broker of your own
    Server(Delivery),
    /// Issue a broker's certificate, for the embedded one or your own
    Broker {
        /// Every name and address by which devices connect to it
        #[arg(required = true, value_name = "HOST")]
        names: Vec<String>,
        #[command(flatten)]
        delivery: Delivery,
    },
}

#[derive(Args, Debug)]
pub struct Asked {
    /// As its agent's configuration says it
    id: DeviceId,
    /// Sign this request (PEM): the key stays where it is
    #[arg(long, value_name = "FILE", conflicts_with = "elsewhere")]
    csr: Option<PathBuf>,
    /// Only print how another CA is to sign it
    #[arg(long)]
    elsewhere: bool,
    #[command(flatten)]
    delivery: Delivery,
}

/// What is handed out, and where.
#[derive(Args, Debug)]
pub struct Delivery {
    /// Folder for the files
    #[arg(long, short, value_name = "DIR", default_value = ".")]
    output_dir: PathBuf,
    /// How long the certificate is valid
    #[arg(long, value_name = "LENGTH", value_parser = period::parse, default_value = VALID_FOR)]
    valid_for: Duration,
    #[command(flatten)]
    output: Output,
}

#[derive(ValueEnum, Clone, Copy, PartialEq, Eq, Debug)]
pub enum Whose {
    Device,
    Server,
    Broker,
}

impl From<Whose> for Holder {
    fn from(whose: Whose) -> Holder {
        match whose {
            Whose::Device => Holder::Device,
            Whose::Server => Holder::Server,
            Whose::Broker => Holder::Broker,
        }
    }
}

pub const EXAMPLES: &str = "\
Examples:
  gapless device broker gapless.example 192.168.1.10 -o .   once, for TLS
  gapless device add cam-entrance -o usb-stick
  gapless device add cam-entrance --csr cam.csr   its key never leaves it
  gapless device add cam-entrance --elsewhere     for a CA of your own
  gapless device renew cam-entrance -o usb-stick
  gapless device revoke cam-entrance              it is lost, or was stolen
  gapless device list";

pub(super) fn device(
    command: &DeviceCommand,
    config: &Config,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let (state_dir, now) = (&config.server.state_dir, text::now());
    match command {
        DeviceCommand::List { all, output } => {
            let mut issued = Authority::issued(state_dir)?;
            issued.retain(|one| *all || one.is_valid(now));
            match output.json {
                true => show::print_json(&json!(issued), out),
                false => Ok(print_issued(&issued, now, out).map(|()| true)?),
            }
        }
        DeviceCommand::Add(asked) if asked.elsewhere => elsewhere(asked, out),
        DeviceCommand::Renew(asked) if asked.elsewhere => elsewhere(asked, out),
        DeviceCommand::Add(asked) => asked.issue(state_dir, false, now, out),
        DeviceCommand::Renew(asked) => asked.issue(state_dir, true, now, out),
        DeviceCommand::Revoke { name, holder, but_newest, output } => {
            let holder = Holder::from(*holder);
            if Authority::issued(state_dir)?.is_empty() {
                bail!("nothing is issued yet in {}", Authority::folder(state_dir).display());
            }
            let mut authority = Authority::open(state_dir, now)?;
            let revoked = authority.revoke(holder, name, *but_newest, now)?;
            if output.json {
                show::print_json(&json!(revoked), out)?;
            } else {
                print_revoked(holder, name, revoked.len(), &Authority::folder(state_dir), out)?;
            }
            Ok(!revoked.is_empty())
        }
        DeviceCommand::Server(delivery) => {
            let names = vec![config.server.id.to_string()];
            delivery.issue_again(state_dir, Holder::Server, names, now, out)
        }
        DeviceCommand::Broker { names, delivery } => {
            delivery.issue_again(state_dir, Holder::Broker, names.clone(), now, out)
        }
    }
}

/// Where the files of a delivery lie.
struct Files {
    ca: PathBuf,
    certificate: PathBuf,
    /// `None` where the holder has its own.
    key: Option<PathBuf>,
}

impl Files {
    fn of(folder: &Path, holder: Holder, name: &str, with_key: bool) -> Files {
        // A device may be called as a broker's first name is.
        let name = match holder {
            Holder::Device => name.to_owned(),
            Holder::Server => "server".to_owned(),
            Holder::Broker => "broker".to_owned(),
        };
        Files {
            ca: folder.join("ca.pem"),
            certificate: folder.join(format!("{name}.pem")),
            key: with_key.then(|| folder.join(format!("{name}.key"))),
        }
    }

    /// Before anything is issued: a certificate that nobody gets would have to be revoked.
    fn require_room(&self) -> anyhow::Result<()> {
        for path in [Some(&self.certificate), self.key.as_ref()].into_iter().flatten() {
            if path.exists() {
                bail!(
                    "{} is there already: move it away, or give another folder with -o",
                    path.display()
                );
            }
        }
        Ok(())
    }

    /// The key first: a certificate whose key was not written is of no use.
    fn write(&self, credentials: &Credentials, replace: bool) -> anyhow::Result<()> {
        let write = if replace { write_over } else { write_new };
        if let Some((path, key)) = self.key.as_ref().zip(credentials.key_pem.as_ref()) {
            write(path, key.as_bytes(), 0o600)?;
        }
        write(&self.certificate, credentials.certificate_pem.as_bytes(), 0o644)?;
        match std::fs::read_to_string(&self.ca) {
            Ok(there) if there == credentials.ca_pem => Ok(()),
            Ok(_) if !replace => bail!(
                "{} is another CA's: move it away, or give another folder with -o",
                self.ca.display()
            ),
            _ => Ok(write(&self.ca, credentials.ca_pem.as_bytes(), 0o644)?),
        }
    }
}

impl Asked {
    fn issue(
        &self,
        state_dir: &Path,
        again: bool,
        now: Timestamp,
        out: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let key = self.csr.as_deref().map_or(KeySource::Made, KeySource::Request);
        let applicant = self.delivery.applicant(Holder::Device, vec![self.id.to_string()])?;
        self.delivery.issue(state_dir, &applicant, key, again, now, out)
    }
}

impl Delivery {
    fn applicant(&self, holder: Holder, names: Vec<String>) -> anyhow::Result<Applicant> {
        if self.valid_for > LONGEST {
            bail!("--valid-for is longer than 20 years, which the CA itself is hardly valid for");
        }
        Ok(Applicant { holder, names, valid_for: self.valid_for })
    }

    /// To the server or a broker, which are few and replaced where they run.
    fn issue_again(
        &self,
        state_dir: &Path,
        holder: Holder,
        names: Vec<String>,
        now: Timestamp,
        out: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let had = Authority::issued(state_dir)?;
        let again = had.iter().any(|one| names.first().is_some_and(|name| one.is_of(holder, name)));
        let applicant = self.applicant(holder, names)?;
        self.issue(state_dir, &applicant, KeySource::Made, again, now, out)
    }

    fn issue(
        &self,
        state_dir: &Path,
        applicant: &Applicant,
        key: KeySource<'_>,
        again: bool,
        now: Timestamp,
        out: &mut dyn Write,
    ) -> anyhow::Result<bool> {
        let folder = &self.output_dir;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder {}", folder.display()))?;
        let name = applicant.names.first().map_or("", String::as_str);
        let files = Files::of(folder, applicant.holder, name, key == KeySource::Made);
        if !again {
            files.require_room()?;
        }
        let mut authority = Authority::open(state_dir, now)?;
        let credentials = match again {
            true => authority.renew(applicant, key, now)?,
            false => authority.add(applicant, key, now)?,
        };
        files.write(&credentials, again)?;
        let configuration = configuration(&credentials.issued, state_dir);
        if self.output.json {
            let value = json!({
                "issued": credentials.issued,
                "ca": files.ca,
                "certificate": files.certificate,
                "key": files.key,
                "configuration": configuration,
            });
            return show::print_json(&value, out);
        }
        print_delivery(&credentials.issued, &files, &configuration, out)?;
        Ok(true)
    }
}

/// What to copy into whose configuration.
fn configuration(issued: &Issued, state_dir: &Path) -> String {
    let name = &issued.name;
    match issued.holder {
        Holder::Device => format!(
            "device = \"{name}\"\n\n[broker]\nurl = \"mqtts://BROKER:8883\"\n\n[broker.tls]\n\
             ca_file = \"/etc/gapless/ca.pem\"\n\n[broker.tls.client]\n\
             cert_file = \"/etc/gapless/{name}.pem\"\nkey_file = \"/etc/gapless/{name}.key\"\n"
        ),
        Holder::Server => "[broker]\nurl = \"mqtts://BROKER:8883\"\n\n[broker.tls]\n\
             ca_file = \"ca.pem\"\nclient = { cert_file = \"server.pem\", key_file = \"server.key\" }\n"
            .to_owned(),
        Holder::Broker => format!(
            "[broker.embedded]\nlisten = \"0.0.0.0:8883\"\n\n[broker.embedded.tls]\n\
             certificate = \"broker.pem\"\nkey = \"broker.key\"\nclient_ca = {:?}\n",
            Authority::folder(state_dir).join("ca.pem")
        ),
    }
}

fn print_delivery(
    issued: &Issued,
    files: &Files,
    configuration: &str,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    let Issued { holder, name, expires, .. } = issued;
    writeln!(out, "the {holder} {name} has a certificate, valid until {}", second_of(*expires))?;
    text::row(out, "CA", &files.ca.display().to_string())?;
    text::row(out, "certificate", &files.certificate.display().to_string())?;
    if let Some(key) = &files.key {
        text::row(out, "key", &format!("{}, which nobody else may read", key.display()))?;
    }
    let whose = match holder {
        Holder::Device => "its agent's configuration, with the files where these lines say",
        Holder::Server => "this server's configuration; the key lies beside it",
        Holder::Broker => "this server's configuration; for mosquitto see brokers/ in the sources",
    };
    writeln!(out, "\nfor {whose}:\n\n{configuration}")
}

fn print_revoked(
    holder: Holder,
    name: &str,
    revoked: usize,
    folder: &Path,
    out: &mut dyn Write,
) -> std::io::Result<()> {
    if revoked == 0 {
        return writeln!(out, "the {holder} {name} has no certificate that could be revoked");
    }
    let certificates = if revoked == 1 { "certificate" } else { "certificates" };
    writeln!(out, "{revoked} {certificates} of the {holder} {name} revoked")?;
    let list = folder.join(REVOKED);
    text::row(out, "embedded", "the broker of this server lets it in no more, within seconds")?;
    let own = format!("a broker of your own has to read {} again", list.display());
    text::row(out, "others", &own)
}

fn print_issued(issued: &[Issued], now: Timestamp, out: &mut dyn Write) -> std::io::Result<()> {
    if issued.is_empty() {
        return writeln!(
            out,
            "nothing is issued: `gapless device add ID` gives a device its credentials"
        );
    }
    writeln!(out, "{:<7} {:<30} {:<10}  state", "holder", "name", "expires")?;
    for one in issued {
        let Issued { holder, name, expires, revoked, .. } = one;
        let state = match revoked {
            Some(at) => format!("revoked {}", second_of(*at)),
            None if now >= *expires => "expired".to_owned(),
            None if expires.since(now) < SOON => "expires soon: renew".to_owned(),
            None => "valid".to_owned(),
        };
        let (holder, name) = (holder.to_string(), shortened(name, 30));
        // Certificates end with a day.
        let expires = zoned(*expires).strftime("%Y-%m-%d");
        writeln!(out, "{holder:<7} {name:<30} {expires}  {state}")?;
    }
    Ok(())
}

/// For whoever has a CA already.
fn elsewhere(asked: &Asked, out: &mut dyn Write) -> anyhow::Result<bool> {
    let id = &asked.id;
    let days = asked.delivery.valid_for.as_secs() / (24 * 3_600);
    let key = format!(
        "(umask 077; openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 \\\n    -out {id}.key)"
    );
    let request = format!("openssl req -new -key {id}.key -subj /CN={id} -out {id}.csr");
    let extensions =
        format!("printf 'basicConstraints=CA:FALSE\\nextendedKeyUsage=clientAuth\\n' > {id}.ext");
    let sign = format!(
        "openssl x509 -req -in {id}.csr -CA ca.pem -CAkey ca.key -CAcreateserial \\\n    \
         -days {days} -extfile {id}.ext -out {id}.pem"
    );
    if asked.delivery.output.json {
        let value = json!({
            "common_name": id,
            "alternative_uri": format!("urn:gapless:device:{id}"),
            "extended_key_usage": "clientAuth",
            "on_the_device": [key, request],
            "by_the_ca": [extensions, sign],
        });
        return show::print_json(&value, out);
    }
    writeln!(
        out,
        "What the certificate has to say: CN = {id} (or the URI urn:gapless:device:{id}),\n\
         extended key usage clientAuth. The server's own has CN = {SERVER_PREFIX}ID.\n\n\
         # on the device, where its key stays\n{key}\n{request}\n\n\
         # by the CA; sign nothing but this name\n{extensions}\n{sign}"
    )?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::cli::text::tests::assert_fits;

    fn delivery(folder: &Path) -> Delivery {
        let valid_for = period::parse(VALID_FOR).unwrap();
        Delivery { output_dir: folder.to_owned(), valid_for, output: Output { json: false } }
    }

    fn asked(id: &str, folder: &Path) -> Asked {
        let (id, delivery) = (id.parse().unwrap(), delivery(folder));
        Asked { id, csr: None, elsewhere: false, delivery }
    }

    fn run(command: &DeviceCommand, state_dir: &Path) -> anyhow::Result<(bool, String)> {
        let mut config = Config::default();
        config.server.state_dir = state_dir.to_owned();
        let mut out = Vec::new();
        let outcome = device(command, &config, &mut out)?;
        Ok((outcome, String::from_utf8(out).unwrap()))
    }

    fn list(all: bool) -> DeviceCommand {
        DeviceCommand::List { all, output: Output { json: false } }
    }

    #[test]
    fn a_device_gets_files_that_only_it_can_use_and_what_to_configure() {
        let folder = tempfile::tempdir().unwrap();
        let (state, files) = (folder.path().join("state"), folder.path().join("files"));
        let (done, said) = run(&DeviceCommand::Add(asked("cam-7", &files)), &state).unwrap();
        assert!(done);
        for part in ["device = \"cam-7\"", "/etc/gapless/cam-7.key", "mqtts://", "valid until"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&files.join("cam-7.key")), 0o600);
        assert_eq!(mode(&Authority::folder(&state).join("ca.key")), 0o600);
        assert_eq!(mode(&Authority::folder(&state)), 0o700);
        let (_, listed) = run(&list(false), &state).unwrap();
        assert!(assert_fits(listed.as_bytes()).contains("cam-7"));
    }

    #[test]
    fn nothing_is_issued_twice_by_mistake_and_no_file_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let (state, files) = (folder.path().join("state"), folder.path().join("files"));
        let add = DeviceCommand::Add(asked("cam-7", &files));
        run(&add, &state).unwrap();
        let key = std::fs::read(files.join("cam-7.key")).unwrap();
        let refused = run(&add, &state).unwrap_err().to_string();
        assert!(refused.contains("cam-7.pem") && refused.contains("-o"), "{refused}");
        let other = folder.path().join("other");
        let refused =
            run(&DeviceCommand::Add(asked("cam-7", &other)), &state).unwrap_err().to_string();
        assert!(refused.contains("renew"), "{refused}");
        assert_eq!(std::fs::read(files.join("cam-7.key")).unwrap(), key);
        run(&DeviceCommand::Renew(asked("cam-7", &files)), &state).unwrap();
        assert_ne!(std::fs::read(files.join("cam-7.key")).unwrap(), key);
        let refused = run(&DeviceCommand::Renew(asked("cam-8", &files)), &state).unwrap_err();
        assert!(refused.to_string().contains("add"), "{refused}");
    }

    #[test]
    fn what_is_revoked_is_told_and_listed() {
        let folder = tempfile::tempdir().unwrap();
        let (state, files) = (folder.path().join("state"), folder.path().join("files"));
        let revoke = |but_newest| DeviceCommand::Revoke {
            name: "cam-7".into(),
            holder: Whose::Device,
            but_newest,
            output: Output { json: false },
        };
        assert!(run(&revoke(false), &state).is_err());
        run(&DeviceCommand::Add(asked("cam-7", &files)), &state).unwrap();
        run(&DeviceCommand::Renew(asked("cam-7", &files)), &state).unwrap();
        let (done, said) = run(&revoke(true), &state).unwrap();
        assert!(done && said.contains("1 certificate of the device cam-7"), "{said}");
        assert_fits(said.lines().next().unwrap().as_bytes());
        let (_, valid) = run(&list(false), &state).unwrap();
        let (_, all) = run(&list(true), &state).unwrap();
        assert_eq!((valid.lines().count(), all.lines().count()), (2, 3));
        assert!(assert_fits(all.as_bytes()).contains("revoked"));
        assert!(run(&revoke(false), &state).unwrap().0);
        assert!(!run(&revoke(false), &state).unwrap().0);
    }

    #[test]
    fn whoever_has_a_ca_is_told_what_to_sign() {
        let folder = tempfile::tempdir().unwrap();
        let asked = Asked { elsewhere: true, ..asked("cam-7", folder.path()) };
        let (_, said) = run(&DeviceCommand::Add(asked), folder.path()).unwrap();
        for part in ["CN = cam-7", "clientAuth", "-days 730", "umask 077"] {
            assert!(said.contains(part), "{part} is not in {said}");
        }
        assert!(!Authority::folder(folder.path()).exists());
    }
}
