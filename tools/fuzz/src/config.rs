//! Loads zoo.cfg, the dynamic configuration file, `myid` and `-D` properties from memory.
//!
//! Loading must never panic and must give the same result twice. If it refuses, each problem must say where and what;
//! what it accepts must be within the limits that the server relies on. Properties written by Java's rules must be read
//! back unchanged.

use std::io;
use std::path::Path;

use zabra::config::{Config, Files, parse_properties};

const ZOO_CFG: &str = "/conf/zoo.cfg";
const DYNAMIC: &str = "/conf/zoo.cfg.dynamic.1a";
/// Separates the texts in the input; no text file contains it.
pub const PART: u8 = 0;

struct Texts {
    zoo_cfg: Vec<u8>,
    dynamic: Vec<u8>,
    my_id: Option<Vec<u8>>,
}

impl Files for Texts {
    fn is_file(&self, path: &Path) -> bool {
        self.read(path).is_ok()
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        if path == Path::new(ZOO_CFG) {
            return Ok(self.zoo_cfg.clone());
        }
        // The path does not matter: only one dynamic file and one data directory are named.
        let my_id = self.my_id.as_ref().filter(|_| path.file_name() == Some("myid".as_ref()));
        match my_id {
            Some(text) => Ok(text.clone()),
            None if path == Path::new(DYNAMIC) => Ok(self.dynamic.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

/// Input: zoo.cfg, the dynamic file, myid, properties (`key=value`, one per line), separated by [`PART`].
pub fn run(data: &[u8]) {
    let mut parts = data.splitn(4, |b| *b == PART).map(<[u8]>::to_vec);
    let zoo_cfg = parts.next().unwrap_or_default();
    let dynamic = parts.next().unwrap_or_default();
    let my_id = parts.next();
    let defines = parts.next().unwrap_or_default();
    let defines: Vec<(String, String)> = String::from_utf8_lossy(&defines)
        .lines()
        .filter_map(|line| line.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned())))
        .collect();
    round_trip(&defines);
    let files = Texts { zoo_cfg, dynamic, my_id };
    let load = || Config::load_from(&files, Path::new(ZOO_CFG), &defines);
    match (load(), load()) {
        (Ok((config, warnings)), Ok((again, warnings_again))) => {
            // NaN is not equal to itself.
            assert_eq!(format!("{config:?}"), format!("{again:?}"));
            assert_eq!(warnings, warnings_again);
            bounds(&config);
        }
        (Err(error), Err(again)) => {
            assert_eq!(error.to_string(), again.to_string());
            assert!(!error.problems.is_empty() && !error.to_string().trim().is_empty());
            assert!(error.exit_code().code() > 0);
        }
        (first, second) => panic!("loaded twice: {first:?}, {second:?}"),
    }
    // Without a file the same properties must have the same meaning.
    if let Ok((config, _)) = Config::embedded(&without_paths(&defines)) {
        bounds(&config);
    }
}

/// The properties that do not name a file on this host.
fn without_paths(defines: &[(String, String)]) -> Vec<(String, String)> {
    let named = |k: &str| ["dataDir", "dataLogDir", "dynamicConfigFile"].contains(&k.trim());
    defines.iter().filter(|(k, _)| !named(k)).cloned().collect()
}

fn bounds(c: &Config) {
    assert!(c.tick_ms > 0, "tickTime {}", c.tick_ms);
    assert!(c.min_session_timeout_ms > 0 && c.min_session_timeout_ms <= c.max_session_timeout_ms);
    assert!(c.storage.snap_count >= 2 && c.storage.purge_retain >= 3);
    assert!(c.ensemble.commit_log_count >= 500);
    assert!(!c.data_dir.as_os_str().is_empty() && !c.data_log_dir.as_os_str().is_empty());
}

/// Writes properties as `java.util.Properties.store` does.
fn round_trip(pairs: &[(String, String)]) {
    let mut text = Vec::new();
    for (key, value) in pairs {
        escape(&mut text, key, true);
        text.push(b'=');
        escape(&mut text, value, false);
        text.push(b'\n');
    }
    let entries = parse_properties("t", &text).expect("what was escaped parses");
    assert_eq!(entries.len(), pairs.len(), "{}", String::from_utf8_lossy(&text));
    for (entry, (key, value)) in entries.iter().zip(pairs) {
        assert_eq!((entry.key.as_str(), entry.value.as_str()), (key.trim(), value.trim()));
    }
}

fn escape(out: &mut Vec<u8>, text: &str, is_key: bool) {
    for (i, unit) in text.encode_utf16().enumerate() {
        match u8::try_from(unit) {
            Ok(b @ (b' ' | b'\t' | b'\x0c')) if is_key || i == 0 => out.extend([
                b'\\',
                if b == b'\t' {
                    b't'
                } else if b == b' ' {
                    b' '
                } else {
                    b'f'
                },
            ]),
            Ok(b @ (b'=' | b':' | b'#' | b'!' | b'\\')) => out.extend([b'\\', b]),
            Ok(b'\r') => out.extend(b"\\r"),
            Ok(b @ 0x20..0x7f) => out.push(b),
            _ => out.extend(format!("\\u{unit:04x}").bytes()),
        }
    }
}

/// Joins texts into an input of [`run`], for writing seeds.
pub fn join(texts: &[&str]) -> Vec<u8> {
    texts.join("\0").into_bytes()
}
