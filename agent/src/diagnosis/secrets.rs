//! What must not leave the device: passwords and keys, wherever they would turn up.
//!
//! They are known by where they stand: in files that the configuration names, under keys that are called so, and
//! before the `@` of an address. The configuration is looked at as text too, as one that cannot be used may hold one
//! where none belongs. Whatever is to be given away is searched for each of them.

use std::fs::File;
use std::io::Read;
use std::path::Path;

/// In place of a secret.
const LEFT_OUT: &str = "[left out]";
/// Keys whose values are secrets, or whose files hold them.
const WORDS: [&str; 6] = ["password", "passphrase", "secret", "token", "key", "credential"];
/// What a file that is named may hold, of which a secret is made.
const MAX_FILE_BYTES: u64 = 64 * 1024;
/// A line of a key file that is shorter is told by too many texts: its armour, or the end of it.
const SHORTEST_LINE: usize = 12;

#[derive(Debug, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// Of a configuration file, whether or not it can be used.
    pub fn of(config: &Path) -> Secrets {
        let mut secrets = Secrets::default();
        for line in read(config).lines() {
            secrets.take_line(line);
        }
        // One secret may be part of another.
        secrets.0.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        secrets.0.dedup();
        secrets
    }

    fn take_line(&mut self, line: &str) {
        for (_, secret) in user_infos(line) {
            self.take(secret);
        }
        // One line may hold a table of several.
        let sides: Vec<&str> = line.split('=').collect();
        for pair in sides.windows(2) {
            let [before, after] = pair else { continue };
            let named = |sign: char| sign.is_alphanumeric() || "_-".contains(sign);
            let key = before.trim_end().trim_end_matches(['"', '\'']);
            let key = key.rsplit(|sign| !named(sign)).next().unwrap_or_default().to_lowercase();
            if !WORDS.iter().any(|word| key.contains(word)) {
                continue;
            }
            match quoted(after) {
                Some(value) if key.ends_with("_file") => self.take_file(&read(Path::new(value))),
                Some(value) => self.take(value),
                None => {}
            }
        }
    }

    fn take_file(&mut self, text: &str) {
        self.take(text.trim());
        for line in text.lines().map(str::trim) {
            let armour = line.starts_with("-----");
            if line.len() >= SHORTEST_LINE && !armour {
                self.take(line);
            }
        }
    }

    fn take(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        // As JSON and TOML write it, where that differs.
        let written = serde_json::Value::from(secret).to_string();
        let written = written.trim_matches('"');
        self.0.push(secret.to_owned());
        if written != secret {
            self.0.push(written.to_owned());
        }
    }

    pub fn left_out_of(&self, text: &str) -> String {
        let mut text = self
            .0
            .iter()
            .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), LEFT_OUT));
        let found: Vec<String> = user_infos(&text).map(|(info, _)| info.to_owned()).collect();
        for info in found {
            text = text.replace(&format!("://{info}@"), &format!("://{LEFT_OUT}@"));
        }
        text
    }
}

/// Bytes that are no text are no secret that a text could hold.
fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut bytes));
    // One that cannot be read by whoever makes a bundle is in none.
    read.map_or_else(|_| String::new(), |_| String::from_utf8_lossy(&bytes).into_owned())
}

/// What stands in quotes first, of either kind.
fn quoted(text: &str) -> Option<&str> {
    let begin = text.find(['"', '\''])?;
    let (quote, rest) = (text.get(begin..=begin)?, text.get(begin + 1..)?);
    rest.split(quote).next()
}

/// Of each `://user:password@`: all of it, and the password, or all where there is none.
fn user_infos(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("://").skip(1).filter_map(|rest| {
        let end = rest.find(|sign: char| sign.is_whitespace() || "/\"'`".contains(sign));
        let (info, _) = rest.get(..end.unwrap_or(rest.len()))?.rsplit_once('@')?;
        Some((info, info.split_once(':').map_or(info, |(_, password)| password)))
    })
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const KEY: &str = "-----BEGIN PRIVATE KEY-----\n\
                       MC4CAQAwBQYDK2VwBCIEIOnEPZ6gM5MWtHG6pVGnXLRHYNKXkKrBGVGkHDQXyYlr\n\
                       QXyYlrMC4CAQ==\n\
                       -----END PRIVATE KEY-----\n";

    fn write(path: &Path, text: &str) {
        File::create(path).unwrap().write_all(text.as_bytes()).unwrap();
    }

    #[test]
    fn what_a_configuration_names_or_holds_is_left_out_of_any_text() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        write(&path("password"), "tell no1\n");
        write(&path("cam.key"), KEY);
        write(&path("ca.pem"), "a certificate that everybody may see");
        let text = format!(
            "broker.url = 'mqtt://cam:in-the-url@broker'\n[broker]\nusername = \"cam\"\n\
             password = \"under a wrong key\"\npassword_file = \"{}\"\n[broker.tls]\nca_file = \"{}\"\n\
             client = {{ cert_file = \"{}\", key_file = \"{}\" }}\n",
            path("password").display(),
            path("ca.pem").display(),
            path("ca.pem").display(),
            path("cam.key").display(),
        );
        write(&path("agent.toml"), &text);
        let secrets = Secrets::of(&path("agent.toml"));
        let everything = format!("{text}{KEY}tell no1 and mqtt://other:secret@elsewhere/x");
        let told = secrets.left_out_of(&everything);
        for secret in
            ["tell no1", "MC4CAQAw", "QXyYlrMC", "in-the-url", "under a wrong key", "other:secret"]
        {
            assert!(everything.contains(secret) && !told.contains(secret), "{secret}: {told}");
        }
        for open in ["username = \"cam\"", "ca_file", "@broker", "@elsewhere/x"] {
            assert!(told.contains(open), "{open}: {told}");
        }
    }

    #[test]
    fn where_nothing_is_secret_nothing_is_left_out() {
        let secrets = Secrets::of(Path::new("/no/such/file"));
        let text = "connected to mqtt://broker:1883, a@b, keys=4";
        assert_eq!(secrets.left_out_of(text), text);
    }
}
