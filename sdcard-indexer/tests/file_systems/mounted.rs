//! Cards as images, with the file systems that cards have. Needs root, as mounting does.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Ext4,
    /// By FUSE.
    Vfat,
    /// By FUSE, on a loop device.
    ExFat,
}

/// A formatted image.
pub struct Image {
    kind: Kind,
    path: PathBuf,
}

/// One that is mounted; unmounted when dropped.
pub struct Mounted {
    folder: PathBuf,
    loop_device: Option<String>,
}

/// A place for images, and to mount them, on the file system of `/`: as a camera's mount point is.
pub fn slot() -> TempDir {
    let slot = tempfile::tempdir_in("/var/tmp").unwrap();
    fs::create_dir(slot.path().join("card")).unwrap();
    slot
}

impl Image {
    pub fn format(slot: &TempDir, name: &str, kind: Kind) -> Image {
        let path = slot.path().join(name);
        File::create(&path).unwrap().set_len(32 << 20).unwrap();
        let image = path.to_str().unwrap();
        match kind {
            // No blocks set aside for root: full is full.
            Kind::Ext4 => run("e2fsprogs", "mkfs.ext4", &["-q", "-F", "-m", "0", image]),
            Kind::Vfat => run("dosfstools", "mkfs.vfat", &[image]),
            Kind::ExFat => run("exfatprogs", "mkfs.exfat", &[image]),
        };
        Image { kind, path }
    }

    pub fn mount(&self, slot: &TempDir) -> Mounted {
        let folder = slot.path().join("card");
        let (image, place) = (self.path.to_str().unwrap(), folder.to_str().unwrap());
        let mut loop_device = None;
        match self.kind {
            Kind::Ext4 => {
                run("mount", "mount", &["-o", "loop", image, place]);
            }
            Kind::Vfat => {
                run("fusefat", "fusefat", &["-o", "rw+", image, place]);
            }
            Kind::ExFat => {
                let device = run("mount", "losetup", &["-f", "--show", image]);
                run("exfat-fuse", "mount.exfat-fuse", &[device.trim(), place]);
                loop_device = Some(device.trim().to_owned());
            }
        }
        Mounted { folder, loop_device }
    }
}

impl Mounted {
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub fn remount(&self, option: &str) {
        let option = format!("remount,{option}");
        run("mount", "mount", &["-o", &option, self.folder.to_str().unwrap()]);
    }

    /// Leaves no byte of room.
    pub fn fill(&self) -> PathBuf {
        let path = self.folder.join("filler");
        let mut filler = File::create(&path).unwrap();
        let mut bytes = vec![0; 1 << 20];
        while !bytes.is_empty() {
            match filler.write_all(&bytes).and_then(|()| filler.sync_all()) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    bytes.truncate(bytes.len() / 2);
                }
                Err(error) => panic!("cannot fill the card: {error}"),
            }
        }
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        run("mount", "umount", &[self.folder.to_str().unwrap()]);
        if let Some(device) = &self.loop_device {
            run("mount", "losetup", &["-d", device]);
        }
    }
}

fn run(package: &str, tool: &str, arguments: &[&str]) -> String {
    let output = Command::new(tool).args(arguments).output().unwrap_or_else(|error| {
        panic!("{tool} is needed ({error}): as root, apt-get install {package}")
    });
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tool} {arguments:?}, which needs root: {said}");
    String::from_utf8(output.stdout).unwrap()
}
