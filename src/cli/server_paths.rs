//! The files and the port of a server, read from zoo.cfg as leniently as zkServer.sh reads it with `grep`. So `stop`
//! and `status` also work with a configuration that Zabra refuses to start with, such as that of an Apache ensemble.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::ControlArgs;
use crate::config::parse_properties;
use crate::quorum::Member;

/// What the commands need to know about a server.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Site {
    /// zoo.cfg; `None` means the built-in defaults.
    pub(super) file: Option<PathBuf>,
    pub(super) data_dir: PathBuf,
    pub(super) data_log_dir: PathBuf,
    pub(super) pid_file: PathBuf,
    /// Standard output and error of a server started by `start`.
    pub(super) out_file: PathBuf,
    pub(super) client: Option<Client>,
}

/// The address for clients.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Client {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) tls: bool,
}

impl Site {
    /// Finds zoo.cfg and reads it. The error says what to do.
    pub(super) fn find(args: &ControlArgs) -> Result<Site, String> {
        let dir = args.config.clone().or_else(|| env("ZOOCFGDIR").map(PathBuf::from));
        let file = config_file(args.file.as_deref(), dir.as_deref());
        let mut pairs = match &file {
            Some(file) => {
                read_pairs(file).map_err(|e| format!("{}: {e}: name a zoo.cfg that exists", file.display()))?
            }
            None => built_in(),
        };
        pairs.extend(args.properties.pairs());
        Site::of(file, &pairs, args.log_dir.as_deref())
    }

    fn of(file: Option<PathBuf>, pairs: &[(String, String)], log_dir: Option<&Path>) -> Result<Site, String> {
        let name = file.as_ref().map_or("the command line".into(), |f| f.display().to_string());
        let data_dir = get(pairs, "dataDir")
            .map(PathBuf::from)
            .ok_or_else(|| format!("{name}: dataDir is not set: add a line dataDir=/path"))?;
        let data_log_dir = get(pairs, "dataLogDir").map_or(data_dir.clone(), PathBuf::from);
        let pid_file = env("ZOOPIDFILE").map_or(data_dir.join("zookeeper_server.pid"), PathBuf::from);
        let log_dir = env("ZOO_LOG_DIR").map(PathBuf::from).or(log_dir.map(Path::to_owned)).unwrap_or(data_dir.clone());
        let user = env("USER").unwrap_or_else(|| "root".into());
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = if host.trim().is_empty() { "localhost" } else { host.trim() };
        let out_file = log_dir.join(format!("zookeeper-{user}-server-{host}.out"));
        let client = client(pairs, &data_dir);
        Ok(Site { file, data_dir, data_log_dir, pid_file, out_file, client })
    }

    /// The name of the configuration in messages.
    pub(super) fn config_name(&self) -> String {
        self.file.as_ref().map_or("(built-in defaults)".into(), |f| f.display().to_string())
    }
}

/// An environment variable that is set to something.
pub(super) fn env(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|v| !v.is_empty())
}

/// A file name without a directory is looked for in the configuration directory, if there is one.
pub(super) fn config_file(named: Option<&str>, dir: Option<&Path>) -> Option<PathBuf> {
    match (named, dir) {
        (Some(name), Some(dir)) if !name.contains('/') => Some(dir.join(name)),
        (Some(name), _) => Some(name.into()),
        (None, Some(dir)) => Some(dir.join(env("ZOOCFG").unwrap_or_else(|| "zoo.cfg".into()))),
        (None, None) => ["conf/zoo.cfg", "zoo.cfg"].into_iter().map(PathBuf::from).find(|p| p.is_file()),
    }
}

fn built_in() -> Vec<(String, String)> {
    let config = crate::config::Config::embedded_defaults();
    let host = config.client.host.map_or("localhost".into(), |h| h.to_string());
    let values = [config.data_dir.display().to_string(), config.client.port.to_string(), host];
    ["dataDir", "clientPort", "clientPortAddress"].into_iter().map(str::to_string).zip(values).collect()
}

pub(super) fn read_pairs(file: &Path) -> Result<Vec<(String, String)>, String> {
    let bytes = std::fs::read(file).map_err(|e: io::Error| e.to_string())?;
    let entries = parse_properties(&file.display().to_string(), &bytes).map_err(|p| p.to_string())?;
    Ok(entries.into_iter().map(|e| (e.key, e.value)).collect())
}

/// The last value of a key.
pub(super) fn get<'a>(pairs: &'a [(String, String)], key: &str) -> Option<&'a str> {
    pairs.iter().rev().find(|(k, _)| k == key).map(|(_, v)| v.trim()).filter(|v| !v.is_empty())
}

/// The client port from zoo.cfg, or from this server's own line there or in the dynamic file, or else the TLS port.
pub(super) fn client(pairs: &[(String, String)], data_dir: &Path) -> Option<Client> {
    let port = |key| get(pairs, key).and_then(|v| v.parse::<u16>().ok());
    let host = |key| reachable(get(pairs, key).unwrap_or("localhost"));
    if let Some(port) = port("clientPort") {
        return Some(Client { host: host("clientPortAddress"), port, tls: false });
    }
    own_line(pairs, data_dir).or_else(|| {
        port("secureClientPort").map(|port| Client { host: host("secureClientPortAddress"), port, tls: true })
    })
}

fn own_line(pairs: &[(String, String)], data_dir: &Path) -> Option<Client> {
    let my_id = std::fs::read_to_string(data_dir.join("myid")).ok()?;
    let key = format!("server.{}", my_id.lines().next()?.trim());
    let dynamic = get(pairs, "dynamicConfigFile").and_then(|f| read_pairs(Path::new(f)).ok()).unwrap_or_default();
    let line = get(pairs, &key).or_else(|| get(&dynamic, &key))?;
    let address = Member::parse(line).ok()?.client?;
    Some(Client { host: reachable(&address.host), port: address.port, tls: false })
}

/// The host to connect to: nobody can connect to a wildcard address, so it becomes `localhost`.
fn reachable(host: &str) -> String {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    let is_every = address.is_ok_and(|ip| ip.is_unspecified());
    if is_every { "localhost".into() } else { host.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(text: &str, dir: &Path) -> Result<Site, String> {
        let file = dir.join("zoo.cfg");
        std::fs::write(&file, text.replace("DIR", &dir.display().to_string())).expect("written");
        Site::of(Some(file.clone()), &read_pairs(&file).expect("parses"), None)
    }

    fn client_of(text: &str, my_id: &str) -> Option<(String, u16, bool)> {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("myid"), my_id).expect("written");
        std::fs::write(dir.path().join("dynamic"), "server.2=b:1:2;[::1%lo]:2202\n").expect("written");
        site(&format!("dataDir=DIR\n{text}"), dir.path()).expect("is good").client.map(|c| (c.host, c.port, c.tls))
    }

    #[test]
    fn client_ports_are_found_where_zkserver_sh_finds_them() {
        let local = |port, tls| Some(("localhost".to_string(), port, tls));
        assert_eq!(client_of("clientPort=2181", ""), local(2181, false));
        assert_eq!(client_of("clientPort=2181\nclientPortAddress=0.0.0.0", ""), local(2181, false));
        assert_eq!(
            client_of("clientPort=2181\nclientPortAddress=10.0.0.1", ""),
            Some(("10.0.0.1".into(), 2181, false))
        );
        for every in ["::", "[::]", "0:0:0:0:0:0:0:0"] {
            assert_eq!(client_of(&format!("clientPort=2181\nclientPortAddress={every}"), ""), local(2181, false));
        }
        for one in ["[::1]", "::1%lo", "fe80::1%eth0"] {
            let found = client_of(&format!("clientPort=2181\nclientPortAddress={one}"), "");
            assert_eq!(found, Some((one.into(), 2181, false)));
        }
        assert_eq!(client_of("server.1=a:1:2;2200", "1\n"), local(2200, false));
        assert_eq!(client_of("server.1=a:1:2;h:2200", "1\n"), Some(("h".into(), 2200, false)));
        assert_eq!(client_of("dynamicConfigFile=DIR/dynamic", "2"), Some(("::1%lo".into(), 2202, false)));
        assert_eq!(client_of("secureClientPort=2281", ""), local(2281, true));
        assert_eq!(client_of("", "1"), None);
        assert_eq!(client_of("clientPort=x", ""), None);
    }

    #[test]
    fn the_data_directory_is_needed() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(site("clientPort=1", dir.path()).expect_err("must fail").contains("dataDir is not set"));
        let site = site("dataDir=/d\ndataLogDir=/l", dir.path()).expect("is good");
        assert_eq!((site.data_dir.as_path(), site.data_log_dir.as_path()), (Path::new("/d"), Path::new("/l")));
    }

    #[test]
    fn config_files() {
        let dir = Path::new("/etc/zk");
        assert_eq!(config_file(Some("a.cfg"), Some(dir)), Some("/etc/zk/a.cfg".into()));
        assert_eq!(config_file(Some("./a.cfg"), Some(dir)), Some("./a.cfg".into()));
        assert_eq!(config_file(Some("a.cfg"), None), Some("a.cfg".into()));
        assert_eq!(config_file(None, Some(dir)), Some("/etc/zk/zoo.cfg".into()));
    }
}
