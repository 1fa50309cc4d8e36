//! What the rig runs and where it comes from: our own binaries, built once, and the system's tools.
//!
//! A missing tool is a failure of the set-up and says so; nothing is skipped because of one.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, bail, ensure};

/// A program of this workspace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Binary {
    /// `gapless-agent`, what runs on a camera.
    Agent,
    /// `gapless`, what runs beside the archive.
    Server,
}

impl Binary {
    pub const fn name(self) -> &'static str {
        match self {
            Binary::Agent => "gapless-agent",
            Binary::Server => "gapless",
        }
    }

    /// Path of the up-to-date executable, of the same profile as the caller; the first call builds both.
    pub fn path(self) -> anyhow::Result<PathBuf> {
        static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
        let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
        if let Err(error) = built {
            bail!("building the binaries under test: {error}");
        }
        Ok(profile_directory()?.join(self.name()))
    }
}

/// The cargo that called us has released its lock on the target directory by the time a test runs.
fn build() -> anyhow::Result<()> {
    let profile_directory = profile_directory()?;
    // The directory of the profile `dev` is `debug`; all others are named for theirs.
    let profile = match profile_directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let mut cargo = Command::new(env!("CARGO"));
    // What a cargo above us says of the tests' own package is not what a build started by hand sees, and
    // build scripts that look at it would run again each time, with all that depends on them.
    let of_package =
        |name: &str| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_");
    let inherited = env::vars_os().map(|(name, _)| name);
    for name in inherited.filter(|name| name.to_str().is_some_and(of_package)) {
        cargo.env_remove(name);
    }
    let output = cargo
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        // All of them, whose features are then those of the tests: nothing that these stand on is built twice.
        .args(["build", "--locked", "--quiet", "--profile", profile, "--workspace", "--bins"])
        .arg("--target-dir")
        .arg(profile_directory.parent().context("a profile lies in a target directory")?)
        .output()
        .context("cargo cannot be run")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Where cargo put the running executable's profile: `target/debug` and the like.
pub fn profile_directory() -> anyhow::Result<PathBuf> {
    let executable = env::current_exe().context("this executable has no path")?;
    let directory = executable.parent().context("an executable lies in a directory")?;
    let nested = ["deps", "examples"].iter().any(|name| directory.ends_with(name));
    let profile = if nested { directory.parent() } else { Some(directory) };
    Ok(profile.context("cargo nests these in a profile's directory")?.to_owned())
}

/// A program of the system, from `PATH` or the directory where Debian keeps its servers.
pub fn tool(name: &str) -> anyhow::Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([Path::new("/usr/sbin").to_owned()])
        .map(|directory| directory.join(name))
        .find(|candidate| candidate.is_file())
        .with_context(|| {
            format!(
                "`{name}` is missing: the tests need `apt-get install ffmpeg mosquitto strace`, and what else \
                 README's \"Test it\" lists"
            )
        })
}

/// The program that holds the API to its description.
pub fn schemathesis() -> anyhow::Result<PathBuf> {
    tool("schemathesis").ok().context(
        "`schemathesis` is missing: `python3 -m venv DIR`, `DIR/bin/pip install 'schemathesis>=4,<5'`, and put \
         DIR/bin on PATH",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_binaries_are_built_beside_the_test() {
        for binary in [Binary::Agent, Binary::Server] {
            assert!(binary.path().unwrap().is_file(), "{}", binary.name());
        }
    }

    #[test]
    fn a_missing_tool_names_what_to_install() {
        let error = tool("no-such-tool-as-this").unwrap_err().to_string();
        assert!(error.contains("apt-get install ffmpeg mosquitto strace"), "{error}");
    }
}
