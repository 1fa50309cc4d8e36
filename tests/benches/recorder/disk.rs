//! A card's stand-in: a file system of its own, in a file on a real disk, behind a loop device without a cache of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};
use tempfile::TempDir;
use tests::artifacts::tool;

/// Unmounted and gone when dropped.
pub struct Disk {
    mount: PathBuf,
    device: String,
    /// As the kernel names it after it was asked for one.
    pub scheduler: String,
    _directory: TempDir,
}

impl Disk {
    /// In a folder on the disk to be measured; root's rights are needed.
    pub fn mount(folder: &Path, bytes: u64, scheduler: &str) -> anyhow::Result<Disk> {
        let directory = tempfile::Builder::new().prefix("gapless-disk-").tempdir_in(folder)?;
        let image = directory.path().join("image");
        File::create(&image)?.set_len(bytes)?;
        run("mkfs.ext4", &["-q", "-F", "-E", "lazy_itable_init=0", path(&image)?])?;
        // What the image's own file system has in memory would be a card that answers at once.
        let device = run("losetup", &["--find", "--show", "--direct-io=on", path(&image)?])?;
        let mount = directory.path().join("card");
        let mut disk = Disk {
            mount,
            device: device.trim().to_owned(),
            scheduler: String::new(),
            _directory: directory,
        };
        fs::create_dir(&disk.mount)?;
        let queue = Path::new("/sys/block").join(disk.device.trim_start_matches("/dev/"));
        let queue = queue.join("queue/scheduler");
        // Where the kernel has it not, its own choice stays, and is told.
        let _ = fs::write(&queue, scheduler);
        let offered = fs::read_to_string(&queue)?;
        let chosen = offered.split_whitespace().find_map(|name| name.strip_prefix('['));
        disk.scheduler = chosen.unwrap_or("none]").trim_end_matches(']').to_owned();
        run("mount", &["-o", "noatime", &disk.device, path(&disk.mount)?])?;
        Ok(disk)
    }

    pub fn root(&self) -> &Path {
        &self.mount
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let place = self.mount.display().to_string();
        for (program, argument) in [("umount", place.as_str()), ("losetup", "--detach")] {
            let device = (program == "losetup").then_some(self.device.as_str());
            let arguments: Vec<&str> = [argument].into_iter().chain(device).collect();
            if let Err(error) = run(program, &arguments) {
                eprintln!("{error:#}: {} and {place} are left", self.device);
            }
        }
    }
}

fn path(path: &Path) -> anyhow::Result<&str> {
    path.to_str().context("a folder whose name is text")
}

/// What it says.
fn run(program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(tool(program)?).args(arguments).output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {} failed, with root's rights? {said}",
        arguments.join(" ")
    );
    Ok(String::from_utf8(output.stdout)?)
}
