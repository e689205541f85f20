//! The files a configuration names.

use std::path::Path;

/// The files a configuration names: the host's, or what a test says they hold.
pub trait Files {
    /// Whether this is a file.
    fn is_file(&self, path: &Path) -> bool;
    /// Its bytes.
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>>;
}

/// The files of this machine.
pub struct HostFiles;

impl Files for HostFiles {
    fn is_file(&self, path: &Path) -> bool {
        path.is_file()
    }
    fn read(&self, path: &Path) -> std::io::Result<Vec<u8>> {
        std::fs::read(path)
    }
}
