//! `gapless user`, `gapless token`, `gapless audit`: who may ask the server over TCP, and what was done.
//!
//! Asked by the Unix socket, as its owner: whoever has lost the last admin's password sets another one here.

use std::io::{self, BufRead, Write};
use std::time::Duration;

use clap::{Args, Subcommand};
use protocol::message::DeviceId;
use sdcard_indexer::readable::{second_of, shortened};
use sdcard_indexer::time::Timestamp;
use serde_json::json;

use super::client::{Client, ClientError};
use super::{Output, show, text};
use crate::access::{AccountName, AuditEntry, Confidential, Role};
use crate::api::accounts::{NewPassword, NewRole, NewToken, NewUser, Token, User};
use crate::api::paging::Page;
use crate::policy::period;

/// Of one request; longer lists are asked for in several.
const PAGE: usize = 1_000;

#[derive(Subcommand, Debug)]
pub enum UserCommand {
    /// List the users
    List(Output),
    /// Make a user, with a generated password unless it is given
    #[command(after_help = ROLES)]
    Add {
        /// 1 to 64 letters, digits, `_` or `-`
        name: AccountName,
        /// view, pull or admin
        #[arg(long)]
        role: Role,
        #[command(flatten)]
        password: Chosen,
        #[command(flatten)]
        output: Output,
    },
    /// Say what a user may
    #[command(after_help = ROLES)]
    Role {
        /// As `gapless user list` tells it
        name: AccountName,
        /// view, pull or admin
        role: Role,
        #[command(flatten)]
        output: Output,
    },
    /// Give a user another password, generated unless it is given
    Password {
        /// As `gapless user list` tells it
        name: AccountName,
        #[command(flatten)]
        password: Chosen,
        #[command(flatten)]
        output: Output,
    },
    /// Remove a user, who is logged out at once
    Remove {
        /// As `gapless user list` tells it
        name: AccountName,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Subcommand, Debug)]
pub enum TokenCommand {
    /// List the tokens
    List(Output),
    /// Make a token for a program; it is shown once
    #[command(after_help = ROLES)]
    Add {
        /// 1 to 64 letters, digits, `_` or `-`
        name: AccountName,
        /// view, pull or admin
        #[arg(long)]
        role: Role,
        /// How long it is valid, as 90d [default: for ever]
        #[arg(long, value_name = "LENGTH", value_parser = period::parse)]
        valid_for: Option<Duration>,
        #[command(flatten)]
        output: Output,
    },
    /// Take a token back: nobody who has it may anything any more
    Remove {
        /// As `gapless token list` tells it
        name: AccountName,
        #[command(flatten)]
        output: Output,
    },
}

/// Whether a person has chosen the password, or one is to be generated.
#[derive(Args, Debug)]
pub struct Chosen {
    /// Read the password from the standard input, one line
    #[arg(long)]
    password_stdin: bool,
}

#[derive(Args, Debug)]
pub struct Audit {
    /// Only what was done to this device
    #[arg(long)]
    device: Option<DeviceId>,
    /// Only what this user or token has done
    #[arg(long, value_name = "NAME")]
    who: Option<String>,
    /// No more than the newest so many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: usize,
    #[command(flatten)]
    output: Output,
}

const ROLES: &str = "\
Roles:
  view   sees states, plays and exports footage
  pull   also has footage pulled from cards, and cancels that
  admin  also changes policies, ends runs, and says who may do what";

pub const USER_EXAMPLES: &str = "\
Examples:
  gapless user add anna --role view        its password is generated, and shown
  gapless user password admin              when nobody knows it any more
  pass gapless | gapless user add ben --role pull --password-stdin";

pub const TOKEN_EXAMPLES: &str = "\
Examples:
  gapless token add prometheus --role view
  gapless token add night-script --role pull --valid-for 90d
  curl -H 'Authorization: Bearer gpl_…' http://127.0.0.1:8480/api/v1/jobs";

pub const AUDIT_EXAMPLES: &str = "\
Examples:
  gapless audit                            the newest 50 entries
  gapless audit --device front-door --limit 1000
  gapless audit --who anna --json";

#[derive(Debug, thiserror::Error)]
enum NoPassword {
    #[error("cannot read the password from the standard input")]
    Unreadable(#[source] io::Error),
    #[error("--password-stdin was given, and the standard input is empty: pipe the password in")]
    Empty,
}

pub(super) async fn user(
    client: &Client,
    command: UserCommand,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    match command {
        UserCommand::List(output) => {
            let users: Vec<User> = all(client, "users", None).await?;
            match output.json {
                true => show::print_json(&json!(users), out),
                false => Ok(print_users(&users, out).map(|()| true)?),
            }
        }
        UserCommand::Add { name, role, password, output } => {
            let password = password.read(&mut io::stdin().lock())?;
            let user: User = client.post("users", &NewUser { name, role, password }).await?;
            let said = format!("{} can log in from now on, with the role {role}", user.name);
            print_user(&user, &said, output.json, out)
        }
        UserCommand::Role { name, role, output } => {
            let path = format!("users/{name}/role");
            let user: User = client.put(&path, &NewRole { role }).await?;
            print_user(&user, &format!("{name} has the role {role} from now on"), output.json, out)
        }
        UserCommand::Password { name, password, output } => {
            let password = password.read(&mut io::stdin().lock())?;
            let path = format!("users/{name}/password");
            let user: User = client.put(&path, &NewPassword { password }).await?;
            let said = format!("{name} has another password, and is logged out everywhere");
            print_user(&user, &said, output.json, out)
        }
        UserCommand::Remove { name, output } => {
            let user: User = client.delete(&format!("users/{name}")).await?;
            print_user(&user, &format!("{name} is no user any more"), output.json, out)
        }
    }
}

pub(super) async fn token(
    client: &Client,
    command: TokenCommand,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    match command {
        TokenCommand::List(output) => {
            let tokens: Vec<Token> = all(client, "tokens", None).await?;
            match output.json {
                true => show::print_json(&json!(tokens), out),
                false => Ok(print_tokens(&tokens, out).map(|()| true)?),
            }
        }
        TokenCommand::Add { name, role, valid_for, output } => {
            let expires = valid_for.map(|length| text::now().saturating_add(length));
            let token: Token = client.post("tokens", &NewToken { name, role, expires }).await?;
            if output.json {
                return show::print_json(&json!(token), out);
            }
            writeln!(out, "{} has the role {role}, with this token:", token.name)?;
            if let Some(Confidential(secret)) = &token.token {
                writeln!(out, "{secret}\nit is told this once")?;
            }
            Ok(true)
        }
        TokenCommand::Remove { name, output } => {
            let token: Token = client.delete(&format!("tokens/{name}")).await?;
            if output.json {
                return show::print_json(&json!(token), out);
            }
            writeln!(out, "the token {name} is not valid any more")?;
            Ok(true)
        }
    }
}

pub(super) async fn audit(
    client: &Client,
    asked: &Audit,
    out: &mut dyn Write,
) -> anyhow::Result<bool> {
    let mut path = "audit?".to_owned();
    if let Some(device) = &asked.device {
        path += &format!("device={device}&");
    }
    if let Some(who) = &asked.who {
        path += &format!("who={}&", escaped(who));
    }
    let entries: Vec<AuditEntry> = all(client, &path, Some(asked.limit)).await?;
    match asked.output.json {
        true => show::print_json(&json!(entries), out),
        false => Ok(print_audit(&entries, out).map(|()| true)?),
    }
}

impl Chosen {
    fn read(&self, from: &mut dyn BufRead) -> Result<Option<Confidential>, NoPassword> {
        if !self.password_stdin {
            return Ok(None);
        }
        let mut line = String::new();
        from.read_line(&mut line).map_err(NoPassword::Unreadable)?;
        match line.trim_end_matches(['\r', '\n']) {
            "" => Err(NoPassword::Empty),
            password => Ok(Some(Confidential(password.to_owned()))),
        }
    }
}

/// All pages of a list, or its first so many items.
async fn all<T: serde::de::DeserializeOwned>(
    client: &Client,
    path: &str,
    most: Option<usize>,
) -> Result<Vec<T>, ClientError> {
    let base = if path.contains('?') { path.to_owned() } else { format!("{path}?") };
    let most = most.unwrap_or(usize::MAX);
    let mut items = Vec::new();
    let mut after = String::new();
    while items.len() < most {
        let limit = PAGE.min(most - items.len());
        let page: Page<T> = client.get(&format!("{base}limit={limit}{after}")).await?;
        items.extend(page.items);
        let Some(next) = page.next else { break };
        after = format!("&after={next}");
    }
    Ok(items)
}

/// As a query has it.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

fn print_user(user: &User, said: &str, as_json: bool, out: &mut dyn Write) -> anyhow::Result<bool> {
    if as_json {
        return show::print_json(&json!(user), out);
    }
    writeln!(out, "{said}")?;
    if let Some(Confidential(password)) = &user.password {
        writeln!(out, "the password, which is told this once: {password}")?;
    }
    Ok(true)
}

fn print_users(users: &[User], out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{:<40}  {:<5}  since", "user", "role")?;
    for User { name, role, created, .. } in users {
        let name = shortened(name.as_str(), 40);
        writeln!(out, "{name:<40}  {:<5}  {}", role.word(), second_of(*created))?;
    }
    Ok(())
}

fn print_tokens(tokens: &[Token], out: &mut dyn Write) -> io::Result<()> {
    if tokens.is_empty() {
        return writeln!(out, "no tokens yet: `gapless token add NAME --role view` makes one");
    }
    let instant = |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), second_of);
    writeln!(out, "{:<28}  {:<5}  {:<19}  last used", "token", "role", "expires")?;
    for Token { name, role, expires, last_used, .. } in tokens {
        let name = shortened(name.as_str(), 28);
        let (expires, used) = (instant(*expires), instant(*last_used));
        writeln!(out, "{name:<28}  {:<5}  {expires:<19}  {used}", role.word())?;
    }
    Ok(())
}

fn print_audit(entries: &[AuditEntry], out: &mut dyn Write) -> io::Result<()> {
    if entries.is_empty() {
        return writeln!(out, "nothing has been written down that would match");
    }
    for entry in entries {
        let AuditEntry { at, who, way, from, action, outcome, .. } = entry;
        let who = if who.is_empty() { "somebody" } else { who.as_str() };
        let line = format!("{}  {who} ({way}, {from})", second_of(*at));
        writeln!(out, "{}", shortened(&line, 80))?;
        text::row(out, &outcome.to_string(), &format!("{action}{}", what(entry)))?;
    }
    Ok(())
}

/// What it was done to, and why not.
fn what(entry: &AuditEntry) -> String {
    let mut text = String::new();
    let parts = [
        entry.subject.clone(),
        entry.device.as_ref().map(|device| match &entry.stream {
            Some(stream) => format!("{device}/{stream}"),
            None => device.to_string(),
        }),
        entry
            .range_from
            .zip(entry.range_to)
            .map(|(from, to)| format!("{} to {} (UTC)", second_of(from), second_of(to))),
    ];
    for part in parts.into_iter().flatten() {
        text += &format!(" {part}");
    }
    match &entry.reason {
        Some(reason) => format!("{text}: {reason}"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Action, Outcome, Way};
    use crate::cli::text::tests::assert_fits;
    use crate::examples::at;

    #[test]
    fn a_password_is_read_as_it_is_but_for_the_end_of_its_line() {
        let read = |text: &str| Chosen { password_stdin: true }.read(&mut text.as_bytes());
        assert_eq!(read(" correct horse \r\nmore").unwrap().unwrap().0, " correct horse ");
        assert!(matches!(read("\n"), Err(NoPassword::Empty)));
        let generated = Chosen { password_stdin: false }.read(&mut "x".as_bytes()).unwrap();
        assert_eq!(generated, None);
    }

    #[test]
    fn an_entry_tells_who_did_what_to_what_and_fits_a_terminal() {
        let entry = AuditEntry {
            id: 7,
            at: at(0),
            who: "anna".into(),
            role: Some(Role::View),
            way: Way::Session,
            from: "192.0.2.1".into(),
            action: Action::Export,
            device: Some("front-door".parse().unwrap()),
            stream: Some("main".parse().unwrap()),
            range_from: Some(at(60)),
            range_to: Some(at(120)),
            subject: None,
            outcome: Outcome::Failed,
            reason: Some("a long story ".repeat(12)),
        };
        let mut out = Vec::new();
        print_audit(&[entry], &mut out).unwrap();
        let said = assert_fits(&out);
        for part in [
            "1970-01-01 00:00:00  anna (session, 192.0.2.1)",
            "failed",
            "export front-door/main 1970-01-01 00:01:00 to",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
    }

    #[test]
    fn accounts_fit_a_terminal_and_their_secrets_are_told_only_where_they_are_new() {
        let user = User {
            name: "a".repeat(64).parse().unwrap(),
            role: Role::Admin,
            created: at(0),
            password: None,
        };
        let mut out = Vec::new();
        print_users(std::slice::from_ref(&user), &mut out).unwrap();
        print_user(&user, "done", false, &mut out).unwrap();
        let said = assert_fits(&out);
        assert!(said.contains("admin") && !said.contains("password"), "{said}");
        let made = User { password: Some(Confidential("k3m9x".into())), ..user };
        let mut out = Vec::new();
        print_user(&made, "done", false, &mut out).unwrap();
        assert!(assert_fits(&out).contains("k3m9x"));
    }

    #[test]
    fn names_are_escaped_in_a_query() {
        assert_eq!(escaped("anna-1_x.y"), "anna-1_x.y");
        assert_eq!(escaped("a b&c=ä"), "a%20b%26c%3D%C3%A4");
    }
}
