//! Which card this is: another one may have been put in its place while nobody looked.
//!
//! A file system's UUID cannot be read without being root, and what the kernel tells of one ([`FileSystemId`])
//! is the same for any two FAT cards in one slot. So the log's folder carries a number of its own, drawn by
//! chance when the log is first written, `card.id`: 32 hexadecimal digits and a line feed. Where that folder
//! does not lie on the card, FAT cards cannot be told apart. A number that has vanished counts as another card:
//! all is then found out from the recordings again, which is never wrong.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::durable::{Durable, FileSystemId};

const ID_FILE: &str = "card.id";
const ID_BYTES: usize = 33;

/// As far as it can be told.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CardIdentity {
    file_system: Option<FileSystemId>,
    own: Option<Vec<u8>>,
}

impl CardIdentity {
    /// Of the card that `folder` lies on, whether it is there already or not.
    pub fn of(durable: &Durable, folder: &Path) -> Self {
        let disk = durable.disk();
        let status = folder.ancestors().find_map(|above| disk.file_system(above).ok());
        let own = disk.read(&folder.join(ID_FILE), ID_BYTES as u64).ok();
        CardIdentity { file_system: status.map(|status| status.identity), own }
    }

    pub fn is_signed(&self) -> bool {
        self.own.as_ref().is_some_and(|own| own.len() == ID_BYTES)
    }
}

/// Gives the folder a number of its own; returns how many bytes that took.
pub fn sign(durable: &Durable, folder: &Path) -> io::Result<u64> {
    let mut chance = [0; ID_BYTES / 2];
    File::open("/dev/urandom")?.read_exact(&mut chance)?;
    let mut id: String = chance.iter().map(|byte| format!("{byte:02x}")).collect();
    id.push('\n');
    durable.replace(&folder.join(ID_FILE), id.as_bytes())?;
    Ok(id.len() as u64)
}
