//! What the operating system knows of this process and host: file descriptors, sizes of directories, memory, names.
//! Mirrors `Environment`, `OSMXBean` and `ZooKeeperServer.getDirSize`.

use std::ffi::CStr;
use std::path::Path;
use std::sync::OnceLock;
use std::time::UNIX_EPOCH;

use super::java;
use crate::txnlog::names::parse_snapshot_name;
use crate::types::Zxid;

/// The version of ZooKeeper that this server is compatible with. Tools parse it.
const LEVEL: &str = "3.9.5";

/// What Java prints for a missing property.
const NONE: &str = "<NA>";

/// `3.9.5-zabra-0.1.0, built on 2026-02-11 20:18 UTC`: ZooKeeper's version, then ours.
pub(super) fn version() -> &'static str {
    static TEXT: OnceLock<String> = OnceLock::new();
    TEXT.get_or_init(|| {
        format!("{LEVEL}-zabra-{}, built on {}", env!("CARGO_PKG_VERSION"), java::build_date(built_s()))
    })
}

/// When this executable was built: the time that the builder set, otherwise the time of the file.
fn built_s() -> i64 {
    let told = option_env!("SOURCE_DATE_EPOCH").and_then(|s| s.parse().ok());
    told.unwrap_or_else(|| {
        let written = std::env::current_exe().and_then(std::fs::metadata).and_then(|m| m.modified()).ok();
        written.and_then(|t| t.duration_since(UNIX_EPOCH).ok()).map_or(0, |d| d.as_secs() as i64)
    })
}

/// The host's part of a report.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Host {
    /// Bytes in the directory of the snapshots.
    pub(super) data_dir_size: u64,
    /// Bytes in the directory of the logs.
    pub(super) log_dir_size: u64,
    pub(super) open_fds: i64,
    pub(super) max_fds: i64,
}

impl Host {
    /// Reads the current values.
    pub(super) fn look(data: &Path, logs: &Path) -> Host {
        let data_dir_size = dir_size(data);
        let log_dir_size = if data == logs { data_dir_size } else { dir_size(logs) };
        Host { data_dir_size, log_dir_size, open_fds: open_fds(), max_fds: max_fds() }
    }
}

/// The length of all files below `path`. Files that vanish meanwhile (a purge) or cannot be read count 0, as in Java.
fn dir_size(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    entries
        .flatten()
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => dir_size(&e.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

/// The snapshot file with the highest zxid, and when it was written, in seconds since 1970.
pub(super) fn newest_snapshot(dir: &Path) -> Option<(Zxid, i64)> {
    let (zxid, name) = std::fs::read_dir(dir)
        .ok()?
        .flatten()
        .filter_map(|e| Some((parse_snapshot_name(e.file_name().to_str()?)?.0, e.path())))
        .max()?;
    let written = std::fs::metadata(name).and_then(|m| m.modified()).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some((zxid, written.as_secs() as i64))
}

/// -1 if unknown, as in ZooKeeper.
fn open_fds() -> i64 {
    // The directory itself is open while the entries are counted.
    std::fs::read_dir("/proc/self/fd").map_or(-1, |d| (d.count() as i64 - 1).max(0))
}

fn max_fds() -> i64 {
    // SAFETY: `limit` is a valid place for the result.
    unsafe {
        let mut limit: libc::rlimit = std::mem::zeroed();
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) != 0 {
            return -1;
        }
        i64::try_from(limit.rlim_cur).unwrap_or(i64::MAX)
    }
}

/// The names and values of `envi`, in ZooKeeper's order. Values that only a Java VM has are `<NA>`; memory is the
/// host's.
pub(super) fn environment() -> Vec<(&'static str, String)> {
    let (release, name) = uname();
    let dir = std::env::current_dir().map_or_else(|_| NONE.to_owned(), |d| d.display().to_string());
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let mb = |key: &str| {
        let line = memory.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(':'));
        let kb = line.and_then(|l| l.trim().split(' ').next()?.parse::<u64>().ok()).unwrap_or(0);
        format!("{}MB", kb >> 10)
    };
    let arch = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        other => other,
    };
    vec![
        ("zookeeper.version", version().to_owned()),
        ("host.name", name),
        ("java.version", NONE.to_owned()),
        ("java.vendor", NONE.to_owned()),
        ("java.home", NONE.to_owned()),
        ("java.class.path", NONE.to_owned()),
        ("java.library.path", NONE.to_owned()),
        ("java.io.tmpdir", std::env::temp_dir().display().to_string()),
        ("java.compiler", NONE.to_owned()),
        ("os.name", "Linux".to_owned()),
        ("os.arch", arch.to_owned()),
        ("os.version", release),
        ("user.name", variable("USER").unwrap_or_else(user_name)),
        ("user.home", variable("HOME").unwrap_or_else(|| NONE.to_owned())),
        ("user.dir", dir),
        ("os.memory.free", mb("MemAvailable")),
        ("os.memory.max", mb("MemTotal")),
        ("os.memory.total", mb("MemTotal")),
    ]
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// The user's name if it is root, otherwise the number: a look-up could ask name services.
fn user_name() -> String {
    // SAFETY: cannot fail and touches nothing.
    match unsafe { libc::geteuid() } {
        0 => "root".to_owned(),
        id => id.to_string(),
    }
}

/// Kernel release and host name.
fn uname() -> (String, String) {
    // SAFETY: `uname` fills the structure with texts that end with a zero.
    unsafe {
        let mut u: libc::utsname = std::mem::zeroed();
        if libc::uname(&mut u) != 0 {
            return (NONE.to_owned(), NONE.to_owned());
        }
        let text = |chars: &[libc::c_char]| CStr::from_ptr(chars.as_ptr()).to_string_lossy().into_owned();
        (text(&u.release), text(&u.nodename))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_descriptors() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("d")).unwrap();
        std::fs::write(dir.path().join("a"), [0; 10]).unwrap();
        std::fs::write(dir.path().join("d/b"), [0; 32]).unwrap();
        let h = Host::look(dir.path(), &dir.path().join("d"));
        assert_eq!((h.data_dir_size, h.log_dir_size), (42, 32));
        assert!(h.open_fds >= 3 && h.max_fds >= h.open_fds, "{h:?}");
        assert_eq!(Host::look(&dir.path().join("none"), dir.path()).data_dir_size, 0);
    }

    #[test]
    fn the_version_starts_with_zookeepers_level_and_ends_with_a_date() {
        let (version, date) = version().split_once(", built on ").unwrap();
        assert_eq!(version, concat!("3.9.5-zabra-", env!("CARGO_PKG_VERSION")));
        assert!(date.len() == 20 && date.ends_with(" UTC") && date > "2026-", "{date}");
    }

    #[test]
    fn every_variable_of_the_environment_has_a_value() {
        let all = environment();
        assert_eq!(all.len(), 18);
        assert!(all.iter().all(|(_, v)| !v.is_empty()), "{all:?}");
        let total = &all.iter().find(|(k, _)| *k == "os.memory.total").unwrap().1;
        assert!(total.strip_suffix("MB").unwrap().parse::<u64>().unwrap() > 0);
    }
}
