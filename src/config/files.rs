//! The files a configuration names.

use std::path::Path;

/// Access to the files a configuration names: the real ones, or ones that a test defines.
pub trait Files {
    /// Whether `path` is an existing file.
    fn is_file(&self, path: &Path) -> bool;
    /// The content of the file.
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
