//! Makes a checked [`Config`] of zoo.cfg, `-D` properties and arguments. Mirrors `QuorumPeerConfig.parse` and
//! `ServerConfig.parse`.
//!
//! If a setting is given several times, the later of these wins: defaults; `-Dzookeeper.*` and other properties; the
//! file (as in Java, where the file overrides properties of the command line); `-Dkey` with a key of zoo.cfg, which
//! Java does not have.

use std::path::{Path, PathBuf};

use super::check;
use super::draft::{COMMAND_LINE, Draft};
use super::error::{ConfigError, Problem, Warning};
use super::files::{Files, HostFiles};
use super::keys::{self, Scope};
use super::member_lines::MemberLines;
use super::membership;
use super::properties::{self, Entry};
use super::settings::{Config, Source};

impl Config {
    /// Reads a zoo.cfg and the files it names. `properties` are the `-D` properties as pairs.
    ///
    /// # Errors
    /// All problems found, with file and line.
    pub fn load(path: &Path, properties: &[(String, String)]) -> Result<(Config, Vec<Warning>), ConfigError> {
        Config::load_from(&HostFiles, path, properties)
    }

    /// [`Config::load`] with `files` instead of the host's file system.
    ///
    /// # Errors
    /// The same as for [`Config::load`].
    pub fn load_from(
        files: &dyn Files,
        path: &Path,
        properties: &[(String, String)],
    ) -> Result<(Config, Vec<Warning>), ConfigError> {
        let name = path.display().to_string();
        let bytes = files.read(path).map_err(|e| {
            Problem::new(&name, "", format!("cannot be read ({e}): name a zoo.cfg that exists and is readable"))
        })?;
        let source = Source { file: Some(path.to_path_buf()), text: String::from_utf8_lossy(&bytes).into_owned() };
        let entries = properties::parse(&name, &bytes)?;
        let mut draft = Draft::new(&name, Config { source, ..Config::default() }, files);
        if properties::has_mark(&bytes) {
            draft.warn(format!(
                "{name} begins with a byte order mark, which Apache ZooKeeper takes for a part of the first key: save the file \
                 without it"
            ));
        }
        let overrides = take_properties(&mut draft, properties);
        warn_of_repeats(&mut draft, &entries);
        for entry in in_order(&entries) {
            draft.take_entry(entry);
        }
        take_overrides(&mut draft, &overrides);
        check::require(&mut draft);
        membership::dynamic_file(&mut draft, &entries);
        check::check(&mut draft);
        draft.finish()
    }

    /// The configuration of `zabra serve` without arguments: 127.0.0.1:2181, data in `./zabra-data`, and an admin
    /// server whose failure to start is only a warning.
    pub fn embedded_defaults() -> Config {
        let mut config =
            Config { data_dir: "./zabra-data".into(), data_log_dir: "./zabra-data".into(), ..Config::default() };
        config.client.host = Some([127, 0, 0, 1].into());
        config.admin.host = [127, 0, 0, 1].into();
        config.admin.required = false;
        config
    }

    /// The built-in defaults, changed by `-D` properties.
    ///
    /// # Errors
    /// All problems found.
    pub fn embedded(properties: &[(String, String)]) -> Result<(Config, Vec<Warning>), ConfigError> {
        let mut config = Config::embedded_defaults();
        config.data_log_dir = PathBuf::new();
        without_file(config, properties)
    }

    /// The old form of arguments, `port dir [tick] [maxClientCnxns]`. As in Java it binds every address and, without
    /// the fourth argument, does not limit the connections per address.
    ///
    /// # Errors
    /// All problems found.
    pub fn positional(
        arguments: &[String],
        properties: &[(String, String)],
    ) -> Result<(Config, Vec<Warning>), ConfigError> {
        const KEYS: [&str; 4] = ["clientPort", "dataDir", "tickTime", "maxClientCnxns"];
        if !(2..=KEYS.len()).contains(&arguments.len()) {
            let what =
                format!("{} arguments: write a zoo.cfg, or port dir [tickTime] [maxClientCnxns]", arguments.len());
            return Err(Problem::new(COMMAND_LINE, "", what).into());
        }
        let mut config = Config::default();
        config.client.max_per_ip = 0;
        let mut all: Vec<(String, String)> =
            KEYS.iter().zip(arguments).map(|(key, value)| (key.to_string(), value.clone())).collect();
        all.extend_from_slice(properties);
        without_file(config, &all)
    }
}

fn without_file(config: Config, properties: &[(String, String)]) -> Result<(Config, Vec<Warning>), ConfigError> {
    let mut draft = Draft::new(COMMAND_LINE, config, &HostFiles);
    let overrides = take_properties(&mut draft, properties);
    take_overrides(&mut draft, &overrides);
    check::check(&mut draft);
    draft.finish()
}

/// Applies the properties; returns those pairs whose names are keys of zoo.cfg.
fn take_properties(draft: &mut Draft<'_>, properties: &[(String, String)]) -> Vec<(String, String)> {
    let mut overrides = Vec::new();
    for (key, value) in properties {
        let bare = keys::find(key, &[Scope::Bare, Scope::Any]).is_some();
        if !bare && (MemberLines::owns(key) || keys::find(key, &[Scope::File]).is_some()) {
            overrides.push((key.clone(), value.trim().to_string()));
        } else {
            draft.take_property(key, value.trim());
        }
    }
    overrides
}

fn take_overrides(draft: &mut Draft<'_>, overrides: &[(String, String)]) {
    for (key, value) in overrides {
        if MemberLines::owns(key) {
            draft.take_member(key, value, COMMAND_LINE);
        } else if let Some(row) = keys::find(key, &[Scope::File]) {
            draft.apply(row, &format!("-D{key}"), value, COMMAND_LINE);
        }
    }
}

/// The entries in the order to apply them: `server.N` lines come last, because `multiAddress.enabled` decides how they
/// are parsed. Of a key given several times only the last one is kept.
fn in_order(entries: &[Entry]) -> Vec<&Entry> {
    let counts = |(i, e): &(usize, &Entry)| !entries[i + 1..].iter().any(|later| later.key == e.key);
    let mut last: Vec<&Entry> = entries.iter().enumerate().filter(counts).map(|(_, e)| e).collect();
    last.sort_by_key(|e| MemberLines::owns(&e.key));
    last
}

fn warn_of_repeats(draft: &mut Draft<'_>, entries: &[Entry]) {
    for (i, entry) in entries.iter().enumerate() {
        if let Some(later) = entries[i + 1..].iter().find(|later| later.key == entry.key) {
            let text = format!(
                "{}:{}: {} is given again in line {}, which counts",
                draft.name, entry.line, entry.key, later.line
            );
            draft.warn(text);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::{Disposition, Key, Set};

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect()
    }

    /// Loads a zoo.cfg that consists of a valid dataDir and clientPort, then `text`.
    fn load(text: &str, properties: &[(&str, &str)]) -> Result<(Config, Vec<Warning>), ConfigError> {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("zoo.cfg");
        let whole = format!("dataDir={}\nclientPort=2181\n{text}", dir.path().display());
        std::fs::write(&path, whole).expect("written");
        Config::load(&path, &pairs(properties))
    }

    fn good(text: &str) -> Config {
        load(text, &[]).unwrap_or_else(|e| panic!("{text}: {e}")).0
    }

    fn bad(text: &str) -> String {
        load(text, &[]).err().unwrap_or_else(|| panic!("{text} was accepted")).to_string()
    }

    fn warnings(text: &str, properties: &[(&str, &str)]) -> Vec<String> {
        let (_, warnings) = load(text, properties).unwrap_or_else(|e| panic!("{text}: {e}"));
        warnings.into_iter().map(|w| w.0).collect()
    }

    /// A value that the key accepts and that is not the default.
    fn sample(key: &Key, set: Set) -> String {
        match (key.name, set) {
            (_, Set::Bool(_)) => (key.default != "true").to_string(),
            (_, Set::YesNo(_)) => if key.default == "yes" { "no" } else { "yes" }.to_string(),
            ("tickTime", _) => "1000".into(),
            ("zabra.shards", _) => "3".into(),
            ("minSessionTimeout", _) => "5000".into(),
            ("maxSessionTimeout", _) => "70000".into(),
            (_, Set::Int(min, ..)) => (min.max(600) + 7).to_string(),
            (_, Set::Float(..)) => "0.5".into(),
            ("dataDir" | "dataLogDir", _) => "/nonexistent/data".into(),
            ("clientPortAddress" | "admin.serverAddress" | "metricsProvider.httpHost", _) => "127.0.0.2".into(),
            ("autopurge.purgeInterval", _) => "12".into(),
            ("zabra.cores", _) => "0-1".into(),
            ("zabra.io", _) => "epoll".into(),
            ("zabra.logSync", _) => "dsync".into(),
            ("snapshot.compression.method", _) => "gz".into(),
            ("peerType", _) => "observer".into(),
            ("oraclePath", _) => "/o".into(),
            ("DigestAuthenticationProvider.superDigest", _) => "super:x".into(),
            ("DigestAuthenticationProvider.digestAlg", _) => "sha-512".into(),
            ("ensembleAuthName", _) => "blue, green".into(),
            ("enforce.auth.schemes", _) => "digest".into(),
            ("4lw.commands.whitelist", _) => "ruok, stat".into(),
            ("admin.commandURL", _) => "/c".into(),
            ("metricsProvider.className", _) => "org.apache.zookeeper.metrics.impl.NullMetricsProvider".into(),
            _ => key.default.to_string(),
        }
    }

    #[test]
    fn every_key_of_the_table_is_taken_where_it_may_be_written() {
        let base = good("");
        let mut changed = 0;
        for key in keys::all() {
            let Some(set) = key.set() else { continue };
            if matches!(key.name, "dynamicConfigFile" | "authProvider." | "enforce.auth.enabled" | "standaloneEnabled")
            {
                continue;
            }
            let value = sample(key, set);
            let line = format!("{}={value}", key.name);
            let mut ways: Vec<Config> = Vec::new();
            if key.scope != Scope::Bare {
                ways.push(good(&line));
            }
            let dash_d = match key.scope {
                Scope::File | Scope::Bare => vec![key.name.to_string()],
                Scope::Property => vec![format!("zookeeper.{}", key.name)],
                Scope::Any => vec![key.name.to_string(), format!("zookeeper.{}", key.name)],
            };
            for name in dash_d {
                let (config, warned) = load("", &[(&name, &value)]).unwrap_or_else(|e| panic!("-D{name}={value}: {e}"));
                assert!(!warned.iter().any(|w| w.0.contains("has no effect: write")), "-D{name}: {warned:?}");
                ways.push(config);
            }
            for mut config in ways {
                config.source = base.source.clone();
                config.properties.clear();
                if key.name != "dataDir" {
                    config.data_dir = base.data_dir.clone();
                }
                if key.name != "dataLogDir" {
                    config.data_log_dir = base.data_log_dir.clone();
                }
                let fixed = matches!(key.name, "electionAlg" | "peerType");
                assert_eq!(config == base, fixed, "{line}");
                changed += usize::from(!fixed);
            }
        }
        assert!(changed > 150, "only {changed} ways to set a field");
    }

    #[test]
    fn every_meaningless_key_is_named_in_one_warning() {
        let names: Vec<&str> = keys::all()
            .filter(|k| matches!(k.disposition, Disposition::Meaningless(_)) && k.scope != Scope::Bare)
            .map(|k| k.name)
            .collect();
        let text: String = names.iter().map(|n| format!("{n}=1\n")).collect();
        let warned = warnings(&text, &[("zookeeper.watcherCleanThreshold", "1"), ("java.io.tmpdir", "/tmp")]);
        assert_eq!(warned.len(), 1, "{warned:?}");
        for name in names.iter().chain(&["-Dzookeeper.watcherCleanThreshold (command line)"]) {
            assert!(warned[0].contains(name), "{name} is not in {}", warned[0]);
        }
    }

    #[test]
    fn every_refused_key_stops_the_server_unless_it_says_the_default() {
        for key in keys::all().filter(|k| matches!(k.disposition, Disposition::Refused(_))) {
            let value = if key.default == "false" { "true" } else { "7" };
            let (text, dash_d) = match key.scope {
                Scope::Bare => (String::new(), vec![(key.name, value)]),
                _ => (format!("{}={value}", key.name), vec![]),
            };
            let error = load(&text, &dash_d).err().unwrap_or_else(|| panic!("{} was accepted", key.name));
            assert_eq!(error.exit_code().code(), 2);
            assert_eq!(error.problems.len(), 1);
            let error = error.to_string();
            assert!(error.contains("is not available in this version") && error.contains(key.name), "{error}");
            if key.scope != Scope::Bare {
                assert!(error.contains("zoo.cfg:3: "), "{error}");
                good(&format!("{}={}", key.name, key.default));
            }
        }
        for class in ["SASLAuthenticationProvider", "X509AuthenticationProvider", "KeyAuthenticationProvider"] {
            assert!(bad(&format!("authProvider.1=org.apache.zookeeper.server.auth.{class}")).contains("not available"));
        }
        good("authProvider.1=org.apache.zookeeper.server.auth.DigestAuthenticationProvider");
    }

    #[test]
    fn defaults() {
        let config = good("");
        assert_eq!(config.data_dir, config.data_log_dir);
        assert_eq!((config.min_session_timeout_ms, config.max_session_timeout_ms), (6000, 60_000));
        assert_eq!((config.client.host, config.client.port, config.admin.required), (None, 2181, true));
        assert!(config.source.text.contains("clientPort=2181\n"));
        let embedded = Config::embedded(&[]).expect("is good").0;
        assert_eq!(embedded, Config::embedded_defaults());
        assert_eq!(embedded.data_dir, Path::new("./zabra-data"));
        assert!(!embedded.admin.required && embedded.client.host.is_some_and(|h| h.ip.is_loopback()));
        let moved = Config::embedded(&pairs(&[("dataDir", "/x"), ("clientPort", "1")])).expect("is good").0;
        assert_eq!((moved.data_log_dir.as_path(), moved.client.port), (Path::new("/x"), 1));
    }

    #[test]
    fn positional_form() {
        let arguments = |text: &str| text.split(' ').map(str::to_string).collect::<Vec<_>>();
        let config = Config::positional(&arguments("2182 /d"), &[]).expect("is good").0;
        assert_eq!((config.client.port, config.tick_ms, config.client.max_per_ip), (2182, 3000, 0));
        assert_eq!((config.data_dir.as_path(), config.data_log_dir.as_path()), (Path::new("/d"), Path::new("/d")));
        let config = Config::positional(&arguments("2182 /d 500 9"), &[]).expect("is good").0;
        assert_eq!((config.min_session_timeout_ms, config.client.max_per_ip), (1000, 9));
        for text in ["2182", "2182 /d 500 9 9", "x /d", "2182 /d 0", "2182 /d 1 x"] {
            let error =
                Config::positional(&arguments(text), &[]).err().unwrap_or_else(|| panic!("{text} was accepted"));
            assert!(error.to_string().starts_with("command line: "), "{error}");
        }
    }

    #[test]
    fn values_that_are_wrong_name_line_key_and_remedy() {
        for (line, parts) in [
            ("tickTime=x", "zoo.cfg:3: tickTime: \"x\" is not a whole number"),
            ("tickTime=0xBB8", "zoo.cfg:3: tickTime: \"0xBB8\" is not a whole number in decimal digits"),
            ("tickTime=\"2000\"", "Quotation marks are part of a value: remove them"),
            ("dynamicConfigFile=\"/d\"", "Quotation marks are part of a value: remove them"),
            ("tickTime=0", "out of range: write a number from 1"),
            ("clientPort=65536", "clientPort: 65536 is out of range: write a number from 0 to 65535"),
            ("standaloneEnabled=yes", "neither true nor false"),
            ("forceSync=true", "neither yes nor no"),
            ("snapshotSizeFactor=a", "is not a number"),
            ("connection_throttle_drop_increase=2", "out of range"),
            ("electionAlg=1", "only 3 is"),
            ("peerType=boss", "unrecognised peer type"),
            ("dataLogDir=", "is empty"),
            ("zabra.io=uring", "write auto, io_uring or epoll"),
            ("zabra.logSync=fsync", "write fdatasync, msync or dsync"),
            ("metricsProvider.className=x.Y", "was not found"),
            ("admin.commandURL=commands", "is not a path"),
            ("DigestAuthenticationProvider.digestAlg=MD5", "\"MD5\" is not available: write SHA1, SHA-224, SHA-256"),
            ("ensembleAuthName=,", "contains no name"),
            ("enforce.auth.schemes=sasl", "not available in this version"),
            ("enforce.auth.enabled=true", "enforce.auth.schemes is not set"),
            ("minSessionTimeout=9000\nmaxSessionTimeout=8000", "must not be larger than maxSessionTimeout (8000 ms)"),
            ("maxSessionTimeout=5999", "minSessionTimeout (6000 ms) must not be larger"),
            ("server.1=a", "not a server address"),
            ("server.1=a:1:2|b:1:2", "multiple address feature is disabled"),
        ] {
            let error = bad(line);
            assert!(error.contains(parts), "{line}: {error}");
        }
        assert_eq!(load("tickTime=x\nsnapCount=y", &[]).expect_err("two are wrong").problems.len(), 2);
    }

    #[test]
    fn missing_keys_and_files() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("zoo.cfg");
        let error = Config::load(&path, &[]).expect_err("no file").to_string();
        assert!(error.contains("zoo.cfg: cannot be read"), "{error}");
        for (text, part) in [
            ("clientPort=1", "dataDir: is not set"),
            ("dataDir=/d", "clientPort: is not set"),
            ("dataDir=/d\nclientPortAddress=127.0.0.1", "clientPortAddress: is set but clientPort is not"),
            ("dataDir=/d\nclientPort=1\na=\\u1", "zoo.cfg:3: a \\u escape needs"),
        ] {
            std::fs::write(&path, text).expect("written");
            let error = Config::load(&path, &[]).expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn unknown_keys() {
        let warned = warnings("foo.bar=1", &[]);
        assert!(
            warned[0].contains("zoo.cfg:3: unknown key foo.bar becomes the property zookeeper.foo.bar"),
            "{warned:?}"
        );
        let (config, _) = load("foo.bar=1\nzookeeper.snapCount=77", &[]).expect("is good");
        assert_eq!(config.properties["zookeeper.foo.bar"], "1");
        assert_eq!((config.properties["zookeeper.snapCount"].as_str(), config.storage.snap_count), ("77", 77));
        assert!(warnings("ticktime=1", &[])[0].contains("Did you mean tickTime?"));
        let warned = warnings("jute.maxbuffer=5000", &[]);
        assert!(warned[0].contains("Start with -Djute.maxbuffer=5000"), "{warned:?}");
        assert_eq!(good("jute.maxbuffer=5000").storage.jute_max_buffer, 0xf_ffff);
    }

    #[test]
    fn properties_on_the_command_line() {
        let (config, warned) = load("", &[("jute.maxbuffer", "5000"), ("zookeeper.snapCount", "9")]).expect("is good");
        assert!(warned.is_empty(), "{warned:?}");
        assert_eq!((config.storage.jute_max_buffer, config.storage.jute_max_buffer_extra), (5000, 5000));
        assert_eq!(config.storage.snap_count, 9);
        let (config, _) = load("snapCount=10", &[("zookeeper.snapCount", "9"), ("tickTime", "7")]).expect("is good");
        assert_eq!((config.storage.snap_count, config.tick_ms), (10, 7), "the file wins over properties, as in Java");
        for (key, part) in [
            ("zookeeper.tickTime", "write -DtickTime"),
            ("zookeeper.jute.maxbuffer", "write -Djute.maxbuffer"),
            ("snapCount", "write -Dzookeeper.snapCount"),
        ] {
            let warned = warnings("", &[(key, "5")]);
            assert!(warned[0].contains(part), "{warned:?}");
        }
    }

    #[test]
    fn foreign_properties_are_named_in_one_warning_and_others_than_zookeepers_in_none() {
        let script = [
            ("zookeeper.foo", "1"),
            ("java.net.preferIPv4Stack", "true"),
            ("com.sun.management.jmxremote", "true"),
            ("log4j.configuration", "x"),
            ("logback.configurationFile", "x"),
            ("user.home", "/"),
            ("kafka.logs.dir", "/l"),
            ("zookeeper.bar", "2"),
        ];
        let warned = warnings("", &script);
        let expected =
            "unknown properties, which nothing reads: -Dzookeeper.foo, -Dzookeeper.bar: correct or remove them";
        assert_eq!(warned, [expected]);
    }

    /// Apache ZooKeeper starts with each of these values.
    #[test]
    fn values_that_mean_off_or_all() {
        for line in
            ["maxClientCnxns=-1", "maxCnxns=-1", "clientPortListenBacklog=-7", "request_throttle_max_requests=-1"]
        {
            good(line);
        }
        assert_eq!(good("maxClientCnxns=-1").client.max_per_ip, -1);
        assert_eq!(good("throttled_op_wait_time=-1").limits.throttled_op_wait_ms, 0);
        assert_eq!(good("flushDelay=-1").storage.flush_delay_ms, -1);
        for words in ["*", "*,ruok", "ruok, *"] {
            assert_eq!(good(&format!("4lw.commands.whitelist={words}")).limits.four_letter_words, ["*"], "{words}");
        }
        assert_eq!(good("4lw.commands.whitelist=foo, ruok").limits.four_letter_words, ["srvr", "foo", "ruok"]);
    }

    /// ZooKeeper reads the keys of zoo.cfg with `Integer.parseInt` and properties with `Integer.getInteger`.
    #[test]
    fn properties_may_be_hexadecimal_or_octal() {
        for (text, value) in [("0x3E8", 1000), ("#3e8", 1000), ("01750", 1000), ("+1000", 1000)] {
            assert_eq!(good(&format!("snapCount={text}")).storage.snap_count, value, "{text}");
        }
        assert_eq!(good("tickTime=01000").tick_ms, 1000, "leading zeros mean nothing in zoo.cfg");
    }

    #[test]
    fn a_byte_order_mark_is_passed_over_and_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("zoo.cfg");
        std::fs::write(&path, "\u{feff}dataDir=/d\nclientPort=1").expect("written");
        let (config, warned) = Config::load(&path, &[]).expect("is good");
        assert_eq!(config.data_dir, Path::new("/d"));
        assert!(warned[0].0.contains("zoo.cfg begins with a byte order mark"), "{warned:?}");
        for mark in [&b"\xff\xfe"[..], b"\xfe\xff"] {
            std::fs::write(&path, [mark, b"d\0"].concat()).expect("written");
            let error = Config::load(&path, &[]).expect_err("UTF-16").to_string();
            assert!(error.contains("zoo.cfg:1: is UTF-16 text: save it as ASCII"), "{error}");
        }
    }

    #[test]
    fn repeats_and_latin_1() {
        let warned = warnings("tickTime=1000\ntickTime=2000", &[]);
        assert!(warned[0].contains("zoo.cfg:3: tickTime is given again in line 4"), "{warned:?}");
        assert_eq!(good("tickTime=x\ntickTime=2000").tick_ms, 2000);
        assert!(warnings("dataLogDir=/dät", &[])[0].contains("Latin-1"));
    }
}
