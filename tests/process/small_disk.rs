//! A small file system for a server's data.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::wait_until;

/// A small file system in memory. Only root can mount one.
pub struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Mounts one; `None`, with a word about it, where that is not allowed.
    pub fn mount(at: &Path, options: &str) -> Option<SmallDisk> {
        fs::create_dir_all(at).expect("a mount point");
        let done = Command::new("mount").args(["-t", "tmpfs", "-o", options, "zabra-test"]).arg(at).output();
        let is_done = done.is_ok_and(|o| o.status.success());
        if !is_done {
            eprintln!("only root can mount a small disk: not tested");
        }
        is_done.then(|| SmallDisk(at.to_owned()))
    }

    /// A directory on it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// It gets another size.
    pub fn resize(&self, size: &str) {
        let done = Command::new("mount").args(["-o", &format!("remount,size={size}")]).arg(&self.0).status();
        assert!(done.is_ok_and(|s| s.success()), "the disk grows");
    }

    /// A file takes all space that is left, until it is removed.
    pub fn fill(&self) -> PathBuf {
        let fill = self.join("fill");
        let filled = Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", fill.display())).output();
        assert!(filled.is_ok_and(|o| !o.status.success()), "the disk is filled");
        fill
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        wait_until("the small disk is unmounted", || {
            Command::new("umount").arg(&self.0).status().is_ok_and(|s| s.success())
        });
    }
}
