//! The hook of recorders: "this recording is closed".
//!
//! What comes is a path from a stranger, and no more than a hint. It is held against the configured streams by its
//! text alone, and stands for a file only where a stream's layout knows its name; from there on it goes the way of
//! the kernel's own hints, and no link is followed on it.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::config::Config;

#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("a path without `..` that begins with the card's root, {0}, is wanted")]
    Form(PathBuf),
    #[error("it lies in no stream's folder: {0}")]
    Elsewhere(String),
    #[error("its name is none of those that a recorder of this stream gives")]
    Name,
}

/// A recording that its recorder says it has closed, named as the kernel would name it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Closed {
    /// Its stream's, as configured.
    pub folder: PathBuf,
    pub file: PathBuf,
}

/// The file, for each of the streams that it may be a recording of: their folders may lie in one another.
pub fn files_of(config: &Config, path: &Path) -> Result<Vec<Closed>, Refusal> {
    let root = &config.card.root;
    let plain = |component: Component<'_>| {
        matches!(component, Component::Normal(_) | Component::RootDir | Component::CurDir)
    };
    if !path.components().all(plain) || !path.starts_with(root) {
        return Err(Refusal::Form(root.clone()));
    }
    let (mut inside, mut files) = (false, Vec::new());
    for stream in &config.streams {
        let folder = root.join(&stream.path);
        let Ok(name) = path.strip_prefix(&folder) else { continue };
        inside = true;
        let hidden =
            |component: Component<'_>| component.as_os_str().as_encoded_bytes().starts_with(b".");
        if !name.components().any(hidden) && stream.layout.parse(name).is_some() {
            let file = folder.join(name);
            files.push(Closed { folder, file });
        }
    }
    match (files.is_empty(), inside) {
        (false, _) => Ok(files),
        (true, true) => Err(Refusal::Name),
        (true, false) => {
            let folders = config.streams.iter().map(|stream| stream.path.display().to_string());
            Err(Refusal::Elsewhere(folders.collect::<Vec<_>>().join(", ")))
        }
    }
}

/// Whether the way from the stream's folder to the file leads through folders alone, as far as there is any. The
/// folder itself is where the configuration says, be it over a link.
pub fn follows_no_link(Closed { folder, file }: &Closed) -> bool {
    let Ok(below) = file.strip_prefix(folder) else { return false };
    let mut at = folder.to_owned();
    for component in below.components() {
        at.push(component);
        match fs::symlink_metadata(&at) {
            Ok(metadata) if metadata.is_symlink() => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == io::ErrorKind::NotFound,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        toml::from_str(
            r#"
            device = "cam-7"
            broker.url = "mqtt://127.0.0.1"
            card.root = "/mnt/card"
            [[stream]]
            id = "main"
            path = "rec/main"
            layout = "ffmpeg"
            [[stream]]
            id = "sub"
            path = "rec/sub"
            layout = "ffmpeg"
            "#,
        )
        .unwrap()
    }

    #[test]
    fn a_recording_is_told_by_a_streams_folder_and_a_name_of_its_layout() {
        let path = Path::new("/mnt/card/rec/sub/2026-01-01_00-00-00.mp4");
        let expected = [Closed { folder: "/mnt/card/rec/sub".into(), file: path.into() }];
        assert_eq!(files_of(&config(), path).unwrap(), expected);
        let dotted = Path::new("/mnt/card/./rec/sub/2026-01-01_00-00-00.mp4");
        assert_eq!(files_of(&config(), dotted).unwrap(), expected);
    }

    #[test]
    fn whatever_leads_out_of_the_streams_folders_is_refused() {
        for path in [
            "",
            "/",
            "/etc/passwd",
            "rec/main/2026-01-01_00-00-00.mp4",
            "/mnt/card",
            "/mnt/card/2026-01-01_00-00-00.mp4",
            "/mnt/card/rec/main",
            "/mnt/card/rec/main/../../../../etc/passwd",
            "/mnt/card/rec/main/../sub/2026-01-01_00-00-00.mp4",
            "/mnt/cards/rec/main/2026-01-01_00-00-00.mp4",
            "/mnt/card/rec/mainly/2026-01-01_00-00-00.mp4",
            "/mnt/card/rec/main/passwd",
            "/mnt/card/rec/main/.hidden/2026-01-01_00-00-00.mp4",
            "/mnt/card/rec/main/2026-01-01_00-00-00.mp4/x",
        ] {
            assert!(files_of(&config(), Path::new(path)).is_err(), "{path}");
        }
    }

    #[test]
    fn a_link_on_the_way_is_found_out_and_a_file_that_is_gone_leads_nowhere() {
        let card = tempfile::tempdir().unwrap();
        let root = card.path();
        fs::create_dir_all(root.join("rec/day")).unwrap();
        fs::File::create(root.join("rec/day/a.mp4")).unwrap();
        std::os::unix::fs::symlink("day", root.join("rec/link")).unwrap();
        std::os::unix::fs::symlink("day/a.mp4", root.join("rec/b.mp4")).unwrap();
        let plain = |folder: &Path, file: &str| {
            follows_no_link(&Closed { folder: folder.to_owned(), file: root.join(file) })
        };
        assert!(plain(root, "rec/day/a.mp4"));
        assert!(plain(root, "rec/day/gone.mp4"));
        assert!(!plain(root, "rec/link/a.mp4"));
        assert!(!plain(root, "rec/b.mp4"));
        assert!(plain(&root.join("rec/link"), "rec/link/a.mp4"), "the stream's own folder");
        assert!(!plain(&root.join("rec/day"), ""));
    }
}
