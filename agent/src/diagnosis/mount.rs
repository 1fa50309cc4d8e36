//! The file system that a folder lies on, as the kernel tells of it.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};
use serde::Serialize;

#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Mount {
    pub point: PathBuf,
    pub device: String,
    pub file_system: String,
    pub read_only: bool,
    pub size_bytes: u64,
    /// For others than root.
    pub free_bytes: u64,
}

impl Mount {
    /// Of a folder that is there. May take as long as the card does.
    pub fn of(folder: &Path) -> Option<Mount> {
        let folder = fs::canonicalize(folder).ok()?;
        let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
        let (device, point, file_system) = innermost(&mounts, &folder)?;
        let status = statvfs(&folder).ok()?;
        #[allow(clippy::useless_conversion, reason = "on 32 bits these are 32 bits wide")]
        let bytes = |blocks| u64::from(status.fragment_size()).saturating_mul(u64::from(blocks));
        Some(Mount {
            point,
            device,
            file_system,
            read_only: status.flags().contains(FsFlags::ST_RDONLY),
            size_bytes: bytes(status.blocks()),
            free_bytes: bytes(status.blocks_available()),
        })
    }
}

/// Device, mount point and kind of the last mount that holds the folder: a later one covers an earlier one.
fn innermost(mounts: &str, folder: &Path) -> Option<(String, PathBuf, String)> {
    let mut found: Option<(String, PathBuf, String)> = None;
    for line in mounts.lines() {
        let mut fields = line.split(' ').map(unescaped);
        let (Some(device), Some(point), Some(kind)) = (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let point = PathBuf::from(point);
        let deeper = found
            .as_ref()
            .is_none_or(|(_, known, _)| point.components().count() >= known.components().count());
        if folder.starts_with(&point) && deeper {
            found = Some((device, point, kind));
        }
    }
    found
}

/// The kernel writes space, tab, newline and backslash as octal numbers.
fn unescaped(field: &str) -> String {
    let escapes = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    escapes.iter().fold(field.to_owned(), |text, (code, is)| text.replace(code, is))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "/dev/root / ext4 ro 0 0\n\
                          tmpfs /mnt tmpfs rw 0 0\n\
                          /dev/mmcblk0p1 /mnt/my\\040card vfat rw,umask=022 0 0\n\
                          /dev/mmcblk1p1 /mnt/my\\040card exfat rw 0 0\n";

    #[test]
    fn a_folder_lies_on_the_innermost_mount_and_of_two_in_one_place_on_the_later_one() {
        let of = |folder: &str| innermost(MOUNTS, Path::new(folder)).unwrap();
        let (device, point, kind) = of("/mnt/my card/recordings");
        assert_eq!((device.as_str(), kind.as_str()), ("/dev/mmcblk1p1", "exfat"));
        assert_eq!(point, Path::new("/mnt/my card"));
        assert_eq!(of("/mnt/my cards").0, "tmpfs");
        assert_eq!(of("/etc").2, "ext4");
    }

    #[test]
    fn this_machine_tells_of_the_file_system_below_a_folder() {
        let mount = Mount::of(Path::new("/proc/self")).unwrap();
        assert_eq!(
            (mount.point.as_path(), mount.file_system.as_str()),
            (Path::new("/proc"), "proc")
        );
        let folder = tempfile::tempdir().unwrap();
        let mount = Mount::of(folder.path()).unwrap();
        assert!(mount.size_bytes >= mount.free_bytes && mount.size_bytes > 0, "{mount:?}");
        assert_eq!(Mount::of(Path::new("/no/such/folder")), None);
    }
}
