"""The card: an image with the file systems that cards have. It is filled and looked at by other programs than the kernel
that runs in the camera, and never altered by looking. Needs root, as mounting does."""

import contextlib
import subprocess
import tempfile
from pathlib import Path

BYTES = 128 << 20
FORMAT = {
    "vfat": ["mkfs.vfat", "-F", "32"],
    "exfat": ["mkfs.exfat"],
    "ext4": ["mkfs.ext4", "-q", "-F", "-m", "0"],
}


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{command} failed with {done.returncode}: {done.stdout}{done.stderr}")
    return done.stdout.strip()


def said(*command):
    """By lines; a checker's status says no more than these."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    lines = (done.stdout + done.stderr).replace(str(command[-1]), "card").splitlines()
    return [line.strip() for line in lines if line.strip()]


class Card:
    def __init__(self, image, file_system):
        self.image, self.file_system = Path(image), file_system

    def fill(self, tree):
        """Formats it, and copies what is in a folder."""
        self.image.unlink(missing_ok=True)
        with open(self.image, "wb") as image:
            image.truncate(BYTES)
        run(*FORMAT[self.file_system], self.image)
        if self.file_system == "vfat":
            run("mcopy", "-s", "-i", self.image, *tree.iterdir(), "::")
            return
        with self._mounted(self.image, "rw") as folder:
            run("cp", "-r", *tree.iterdir(), folder)

    def complaints(self):
        """What its file system's checker says of it, line by line."""
        if self.file_system == "ext4":
            # As a mount does, it replays the journal: what is wrong then is wrong.
            with self._copy() as image:
                return said("e2fsck", "-f", "-y", image)
        return said(f"fsck.{self.file_system}", "-n", self.image)

    @contextlib.contextmanager
    def files(self):
        """A folder with all of its files, for reading."""
        if self.file_system == "vfat":
            with tempfile.TemporaryDirectory() as folder:
                run("mcopy", "-s", "-n", "-Q", "-i", self.image, "::*", folder)
                yield Path(folder)
        elif self.file_system == "exfat":
            with self._mounted(self.image, "ro") as folder:
                yield folder
        else:
            with self._copy() as image, self._mounted(image, "rw") as folder:
                yield folder

    @contextlib.contextmanager
    def _copy(self):
        with tempfile.TemporaryDirectory() as folder:
            image = Path(folder) / "card"
            run("cp", "--sparse=always", self.image, image)
            yield image

    @contextlib.contextmanager
    def _mounted(self, image, how):
        folder = Path(tempfile.mkdtemp())
        device = None
        try:
            if self.file_system == "exfat":
                device = run("losetup", "-f", "--show", *(["-r"] if how == "ro" else []), image)
                run("mount.exfat-fuse", "-o", how, device, folder)
            else:
                run("mount", "-o", f"loop,{how}", image, folder)
            try:
                yield folder
            finally:
                run("umount", folder)
        finally:
            if device:
                run("losetup", "-d", device)
            folder.rmdir()

