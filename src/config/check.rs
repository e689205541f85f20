//! Checks that concern several settings, and the files beside zoo.cfg: `myid` and the dynamic configuration file.
//! Mirrors the end of `QuorumPeerConfig.parseProperties`, `parseDynamicConfig`, `setupMyId`, `setupClientPort` and
//! `checkValidity`.

use std::path::{Path, PathBuf};

use super::address::HostAddr;
use super::draft::{Draft, quotation_marks};
use super::error::Problem;
use super::member_lines::MemberLines;
use super::properties::{self, Entry};
use crate::quorum::Role;
use crate::types::Zxid;

/// Checks for the keys that every zoo.cfg needs.
pub(super) fn require(draft: &mut Draft<'_>) {
    if draft.place("dataDir").is_none() {
        draft.wrong("dataDir", "is not set: add a line dataDir=/path, the directory for snapshots and logs");
    }
    if draft.place("clientPort").is_none() && draft.place("clientPortAddress").is_some() {
        draft.wrong("clientPortAddress", "is set but clientPort is not: add a line clientPort=2181");
    }
}

/// Reads the dynamic configuration file, if there is one.
pub(super) fn dynamic_file(draft: &mut Draft<'_>, main: &[Entry]) {
    let Some(path) = draft.config.ensemble.dynamic_config_file.clone() else { return };
    for entry in main.iter().filter(|e| MemberLines::owns(&e.key)) {
        let what = "must be in the dynamic file, since dynamicConfigFile is set: move the line there";
        draft.problems.push(Problem::at(&draft.name, entry.line, &entry.key, what));
    }
    let name = path.display().to_string();
    let entries = match draft.files.read(&path) {
        Ok(bytes) => properties::parse(&name, &bytes),
        Err(e) => {
            draft.wrong(
                "dynamicConfigFile",
                format!("{name} cannot be read ({e}): name a file that exists and is readable")
                    + quotation_marks(&name),
            );
            return;
        }
    };
    let entries = match entries {
        Ok(entries) => entries,
        Err(problem) => return draft.problems.push(problem),
    };
    draft.lines.version = version_of(&path);
    let several = draft.config.ensemble.multi_address;
    for entry in entries {
        let result = match entry.key.as_str() {
            "version" => {
                Err("must not be in the dynamic file, whose name has the version: remove the line".to_string())
            }
            key if MemberLines::owns(key) => draft.lines.take(key, &entry.value, several),
            _ => Err("is not known in a dynamic file: only server.N, group.N and weight.N are".to_string()),
        };
        if let Err(what) = result {
            draft.problems.push(Problem::at(&name, entry.line, &entry.key, what));
        }
    }
}

/// The hexadecimal number after the last dot of the file name; 0 if there is none.
fn version_of(path: &Path) -> Zxid {
    let text = path.to_string_lossy();
    let suffix = text.rsplit_once('.').map_or("", |(_, suffix)| suffix);
    Zxid(i64::from_str_radix(suffix, 16).unwrap_or(0))
}

/// Derives the settings that were not given and checks those that were.
pub(super) fn check(draft: &mut Draft<'_>) {
    directories(draft);
    timeouts(draft);
    storage(draft);
    limits(draft);
    my_id(draft);
    membership(draft);
    client_port(draft);
}

fn directories(draft: &mut Draft<'_>) {
    if draft.config.data_log_dir.as_os_str().is_empty() {
        draft.config.data_log_dir = draft.config.data_dir.clone();
    }
    for (key, dir) in [("dataDir", draft.config.data_dir.clone()), ("dataLogDir", draft.config.data_log_dir.clone())] {
        let shown = dir.display().to_string();
        if draft.place(key).is_none() {
            continue;
        }
        if !quotation_marks(&shown).is_empty() {
            draft.warn(format!(
                "{key}={shown}: the quotation marks become part of the directory's name, and the directory is looked for where the \
                 server is started: remove them"
            ));
        } else if dir.is_relative() && !dir.starts_with(".") && !dir.starts_with("..") {
            let dir = dir.display();
            draft.warn(format!(
                "{key}={dir} is relative to where the server is started: write an absolute path, or ./{dir}"
            ));
        }
    }
}

fn timeouts(draft: &mut Draft<'_>) {
    let tick = draft.config.tick_ms;
    let given = |draft: &Draft<'_>, key, value: i32, ticks: i32| {
        if draft.place(key).is_none() || value == -1 { tick.saturating_mul(ticks) } else { value }
    };
    let min = given(draft, "minSessionTimeout", draft.config.min_session_timeout_ms, 2);
    let max = given(draft, "maxSessionTimeout", draft.config.max_session_timeout_ms, 20);
    (draft.config.min_session_timeout_ms, draft.config.max_session_timeout_ms) = (min, max);
    if min > max {
        let key = if draft.place("minSessionTimeout").is_some() { "minSessionTimeout" } else { "maxSessionTimeout" };
        let what = format!(
            "minSessionTimeout ({min} ms) must not be larger than maxSessionTimeout ({max} ms): change one of them"
        );
        draft.wrong(key, what);
    }
}

fn storage(draft: &mut Draft<'_>) {
    if draft.place("jute.maxbuffer.extrasize").is_none() {
        draft.config.storage.jute_max_buffer_extra = draft.config.storage.jute_max_buffer;
    }
    let retain = draft.config.storage.purge_retain;
    if retain < 3 {
        draft.config.storage.purge_retain = 3;
        draft.warn(format!("Invalid autopurge.snapRetainCount: {retain}. Defaulting to 3"));
    }
    let snap_count = draft.config.storage.snap_count;
    if snap_count < 2 {
        draft.config.storage.snap_count = 2;
        draft.warn(format!("snapCount should be 2 or more. It was {snap_count} and is reset to 2"));
    }
    let commit_log = draft.config.ensemble.commit_log_count;
    if commit_log < 500 {
        draft.config.ensemble.commit_log_count = 500;
        draft.warn(format!("commitLogCount should be at least 500. It was {commit_log} and is reset to 500"));
    }
    if !draft.config.storage.force_sync {
        draft.warn("forceSync=no: acknowledged writes can be lost when the machine fails");
    }
    if draft.config.auth.skip_acl {
        draft.warn("skipACL=yes: ACLs are ignored, every client may do everything");
    }
}

fn limits(draft: &mut Draft<'_>) {
    let threshold = draft.config.limits.large_request_threshold_bytes;
    if threshold < 1 && threshold != -1 {
        draft.config.limits.large_request_threshold_bytes = -1;
        draft.warn(format!("largeRequestThreshold should be -1 or positive. It was {threshold} and is set to -1, off"));
    }
    if draft.config.auth.enforce && draft.config.auth.enforced_schemes.is_empty() {
        draft.wrong(
            "enforce.auth.enabled",
            "is true but enforce.auth.schemes is not set: add a line such as enforce.auth.schemes=digest",
        );
    }
    if !draft.config.auth.ensemble_names.is_empty() && !draft.config.auth.ensemble {
        draft.warn(
            "ensembleAuthName has no effect without its provider: add \
             authProvider.1=org.apache.zookeeper.server.auth.EnsembleAuthenticationProvider",
        );
    }
    let words = &mut draft.config.limits.four_letter_words;
    if draft.config.ensemble.read_only_mode && !words.iter().any(|w| w == "*" || w == "isro") {
        words.push("isro".into());
    }
    let ensemble = &draft.config.ensemble;
    if ensemble.min_notification_interval_ms > ensemble.max_notification_interval_ms {
        draft.wrong("fastleader.minNotificationInterval", "must not be larger than fastleader.maxNotificationInterval");
    }
}

/// Reads `myid`. A standalone server does not need it.
fn my_id(draft: &mut Draft<'_>) {
    let path: PathBuf = draft.config.data_dir.join("myid");
    if draft.config.data_dir.as_os_str().is_empty() || !draft.files.is_file(&path) {
        return;
    }
    let place = path.display().to_string();
    let text = match draft.files.read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(e) => {
            return draft.problems.push(Problem::new(place, "", format!("cannot be read ({e}): make it readable")));
        }
    };
    let line = text.lines().next().unwrap_or("").trim();
    match line.parse() {
        Ok(id) => draft.config.my_id = Some(id),
        Err(_) => {
            let what = format!("serverid {line:?} is not a number: write the N of this server's server.N line");
            draft.problems.push(Problem::new(place, "", what));
        }
    }
}

/// Checks the members' lines as a whole, with ZooKeeper's messages, and refuses an ensemble, which this version cannot
/// run.
fn membership(draft: &mut Draft<'_>) {
    let ensemble = &draft.config.ensemble;
    let dynamic = ensemble.dynamic_config_file.as_ref().map(|p| p.display().to_string());
    let place = dynamic.unwrap_or_else(|| draft.name.clone());
    let (voters, standalone) = (draft.lines.participants(), ensemble.standalone_enabled);
    match draft.lines.members(standalone) {
        Ok(members) => draft.config.ensemble.members = members,
        Err(what) => return draft.problems.push(Problem::new(place, "", what)),
    }
    peer_type(draft);
    if voters == 0 {
        return;
    }
    if voters == 1 && standalone {
        return draft.warn(format!(
            "{place}: Invalid configuration, only one server specified (ignoring): starting standalone, as ZooKeeper does"
        ));
    }
    if voters <= 2 {
        draft.warn("No server failure will be tolerated. You need at least 3 servers.");
    } else if voters % 2 == 0 {
        draft.warn("Non-optimal configuration, consider an odd number of servers.");
    }
    ensemble_needs(draft);
    let what = if voters == 1 {
        "standaloneEnabled=false with one server asks for an ensemble of one, and ensembles come in a later version of Zabra: \
         remove standaloneEnabled=false, or stay with Apache ZooKeeper for now"
            .to_string()
    } else {
        format!(
            "describes an ensemble of {voters} voting servers, and ensembles come in a later version of Zabra: remove the \
             server.N lines to run standalone, or stay with Apache ZooKeeper for now"
        )
    };
    draft.problems.push(Problem::new(place, "", what));
}

fn ensemble_needs(draft: &mut Draft<'_>) {
    if draft.config.ensemble.init_limit == 0 {
        draft.wrong("initLimit", "is not set: add a line such as initLimit=10 (ticks to join and sync)");
    }
    if draft.config.ensemble.sync_limit == 0 {
        draft.wrong("syncLimit", "is not set: add a line such as syncLimit=5 (ticks a server may lag)");
    }
    match draft.config.my_id {
        Some(id) if draft.lines.get(id).is_none() => no_line(draft, id),
        Some(_) => {}
        None => {
            let place = draft.config.data_dir.join("myid").display().to_string();
            let what = "is missing: write the N of this server's server.N line into it";
            draft.problems.push(Problem::new(place, "", what));
        }
    }
}

/// Adds the problem that `myid` names a server without a `server.N` line.
fn no_line(draft: &mut Draft<'_>, id: i64) {
    let place = draft.config.data_dir.join("myid").display().to_string();
    let what = format!(
        "says that this is server {id}, for which there is no line server.{id} (there is one for {}): correct the file or add \
         the line",
        draft.lines.ids()
    );
    let problem = Problem::new(place, "", what);
    if !draft.problems.contains(&problem) {
        draft.problems.push(problem);
    }
}

/// The `server.N` line decides whether this server votes; a `peerType` that contradicts it is only warned of.
fn peer_type(draft: &mut Draft<'_>) {
    let ensemble = &draft.config.ensemble;
    let listed = draft.config.my_id.and_then(|id| draft.lines.get(id)).map_or(Role::Participant, |m| m.role);
    if ensemble.peer_type != listed {
        let text = format!(
            "Peer type from servers list ({listed:?}) doesn't match peerType ({:?}). Defaulting to servers list.",
            ensemble.peer_type
        );
        draft.warn(text);
        draft.config.ensemble.peer_type = listed;
    }
}

/// Takes the client address from the server's own `server.N` line, if it has one. It must not contradict zoo.cfg.
fn client_port(draft: &mut Draft<'_>) {
    let config = &draft.config;
    let own = config.my_id.and_then(|id| draft.lines.get(id));
    let secure = own.is_some_and(|m| m.secure_client.is_some());
    let client = own.and_then(|m| m.client.clone());
    if secure {
        draft.wrong(
            "server.N",
            "TLS for clients is not available in this version of Zabra: remove the secure client port",
        );
    }
    let from_file = draft.place("clientPort").is_some();
    let Some(client) = client else {
        if !from_file && draft.config.source.file.is_some() {
            no_port(draft);
        }
        return;
    };
    let host = match HostAddr::parse(&client.host) {
        Ok(host) => host,
        Err(what) => return draft.wrong("server.N", what),
    };
    let stated = draft.config.client.clone();
    let differs = match stated.host {
        Some(ip) if !ip.is_unspecified() => (ip, stated.port) != (host, client.port),
        _ => stated.port != client.port,
    };
    if from_file && differs {
        let what = format!(
            "{} differs from the client address {}:{} of this server's own line (id {}): make them the same",
            stated.port,
            client.host,
            client.port,
            draft.config.my_id.unwrap_or_default()
        );
        return draft.wrong("clientPort", what);
    }
    draft.config.client.host = Some(host).filter(|h| !h.is_unspecified());
    draft.config.client.port = client.port;
}

/// Adds the problem that no setting says on which port clients connect.
fn no_port(draft: &mut Draft<'_>) {
    match draft.config.my_id {
        // Another problem says so already: ensembles are refused.
        _ if draft.lines.participants() > 1 => {}
        Some(id) if !draft.lines.is_empty() && draft.lines.get(id).is_none() => no_line(draft, id),
        _ => draft.wrong("clientPort", "is not set, so that no client could connect: add a line clientPort=2181"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigError, Warning};

    /// Loads a zoo.cfg with the given lines. `my_id` is the content of `myid` unless it is empty, `dynamic` that of
    /// `zoo.cfg.dynamic.1a`.
    fn load(text: &str, my_id: &str, dynamic: &str) -> Result<(Config, Vec<Warning>), ConfigError> {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        let data = format!("dataDir={}\n", dir.path().display());
        let text = text.replace("DYNAMIC", &at("zoo.cfg.dynamic.1a").display().to_string());
        std::fs::write(at("zoo.cfg"), data + &text).expect("written");
        std::fs::write(at("zoo.cfg.dynamic.1a"), dynamic).expect("written");
        if !my_id.is_empty() {
            std::fs::write(at("myid"), my_id).expect("written");
        }
        Config::load(&at("zoo.cfg"), &[])
    }

    fn error(text: &str, my_id: &str, dynamic: &str) -> ConfigError {
        load(text, my_id, dynamic).err().unwrap_or_else(|| panic!("{text} was accepted"))
    }

    const TIMES: &str = "clientPort=2181\ninitLimit=5\nsyncLimit=2\n";

    #[test]
    fn one_server_line_runs_standalone() {
        let (config, warnings) = load("clientPort=2181\nserver.1=a:1:2", "1\n", "").expect("is good");
        assert_eq!(config.my_id, Some(1));
        assert!(warnings[0].0.contains("only one server specified (ignoring)"), "{warnings:?}");
        let (config, _) = load("server.3=a:1:2;127.0.0.1:2200", "3", "").expect("is good");
        assert_eq!((config.client.port, config.client.host), (2200, Some([127, 0, 0, 1].into())));
        let (config, _) = load("server.3=a:1:2;2200", "3", "").expect("is good");
        assert_eq!((config.client.port, config.client.host), (2200, None));
        let text = error("server.3=a:1:2;2200", "4", "").to_string();
        assert!(
            text.contains("myid: says that this is server 4, for which there is no line server.4 (there is one for 3)")
        );
        assert!(!text.contains("clientPort"), "{text}");
        let text = error("server.3=a:1:2;2200", "", "").to_string();
        assert!(text.contains("clientPort: is not set"), "{text}");
    }

    #[test]
    fn an_ensemble_is_refused_with_zookeepers_warnings() {
        for (servers, warning) in [
            ("server.1=a:1:2\nserver.2=b:1:2", "No server failure will be tolerated. You need at least 3 servers."),
            ("server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2", "Non-optimal configuration"),
        ] {
            let e = error(&format!("{TIMES}{servers}"), "1", "");
            assert_eq!(e.problems.len(), 1, "{e}");
            assert!(e.to_string().contains("ensembles come in a later version"), "{e}");
            assert!(e.warnings[0].0.starts_with(warning), "{:?}", e.warnings);
        }
        let e = error(&format!("{TIMES}server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2"), "1", "");
        assert!(e.warnings.is_empty(), "{:?}", e.warnings);
        let e = error(&format!("{TIMES}standaloneEnabled=false\nserver.1=a:1:2"), "1", "").to_string();
        assert!(e.contains("an ensemble of one"), "{e}");
        let e = error("clientPort=1\nserver.1=a:1:2\nserver.2=b:1:2", "", "").to_string();
        for part in ["initLimit: is not set", "syncLimit: is not set", "myid: is missing"] {
            assert!(e.contains(part), "{part}: {e}");
        }
        let e = error(&format!("{TIMES}server.1=a:1:2\nserver.2=b:1:2"), "7", "").to_string();
        assert!(e.contains("no line server.7 (there is one for 1, 2)"), "{e}");
    }

    #[test]
    fn invalid_memberships() {
        for (text, part) in [
            ("clientPort=1\nserver.1=a:1:2:observer", "observers without participants"),
            ("clientPort=1\nserver.1=a:1:2:observer\nserver.2=a:1:2", "observers without a quorum"),
            ("clientPort=1\nstandaloneEnabled=false", "needs at least one participant"),
            ("clientPort=1\nserver.1=a:1:2\nserver.2=a:1:2\ngroup.1=1", "server 2 is a participant but in no group"),
        ] {
            let e = error(text, "1", "").to_string();
            assert!(e.contains(part), "{text}: {e}");
        }
    }

    #[test]
    fn my_id_must_be_a_number() {
        let e = error("clientPort=1", "one\n", "").to_string();
        assert!(e.contains("myid: serverid \"one\" is not a number"), "{e}");
        assert_eq!(load("clientPort=1", " 7 \nx", "").expect("is good").0.my_id, Some(7));
        assert_eq!(load("clientPort=1", "", "").expect("is good").0.my_id, None);
    }

    #[test]
    fn the_dynamic_file() {
        let (config, _) = load("clientPort=1\ndynamicConfigFile=DYNAMIC", "1", "server.1=a:1:2").expect("is good");
        let members = config.ensemble.members.expect("some");
        assert_eq!((members.iter().len(), members.version()), (1, Zxid(0x1a)));
        for (main, dynamic, part) in [
            ("", "version=1\nserver.1=a:1:2", "zoo.cfg.dynamic.1a:1: version: must not be in the dynamic file"),
            ("", "tickTime=1", "tickTime: is not known in a dynamic file"),
            ("server.1=a:1:2\n", "server.1=a:1:2", "zoo.cfg:2: server.1: must be in the dynamic file"),
            ("", "server.1=a", "zoo.cfg.dynamic.1a:1: server.1: \"a\" is not a server address"),
        ] {
            let e = error(&format!("{main}clientPort=1\ndynamicConfigFile=DYNAMIC"), "1", dynamic).to_string();
            assert!(e.contains(part), "{e}");
        }
        let e = error("clientPort=1\ndynamicConfigFile=/nonexistent/file", "1", "").to_string();
        assert!(e.contains("/nonexistent/file cannot be read"), "{e}");
    }

    #[test]
    fn client_ports_must_agree() {
        for (main, fits) in [
            ("clientPort=2200", true),
            ("clientPort=2201", false),
            ("clientPort=2200\nclientPortAddress=127.0.0.1", true),
            ("clientPort=2200\nclientPortAddress=127.0.0.2", false),
        ] {
            let text = format!("{main}\nserver.1=a:1:2;127.0.0.1:2200");
            assert_eq!(load(&text, "1", "").is_ok(), fits, "{main}");
        }
        let e = error("clientPort=1\nserver.1=a:1:2;1;2", "1", "").to_string();
        assert!(e.contains("TLS for clients"), "{e}");
    }

    #[test]
    fn values_that_are_mended_with_a_warning() {
        let text = "clientPort=1\nautopurge.snapRetainCount=1\nsnapCount=1\ncommitLogCount=5\nlargeRequestThreshold=0\n\
                    peerType=observer\nforceSync=no\nskipACL=yes";
        let (config, warnings) = load(text, "", "").expect("is good");
        assert_eq!((config.storage.purge_retain, config.storage.snap_count), (3, 2));
        assert_eq!(config.ensemble.commit_log_count, 500);
        assert_eq!(config.limits.large_request_threshold_bytes, -1);
        assert_eq!(config.ensemble.peer_type, Role::Participant);
        let all: Vec<&str> = warnings.iter().map(|w| w.0.as_str()).collect();
        let all = all.join("\n");
        for part in [
            "snapRetainCount: 1. Defaulting to 3",
            "snapCount",
            "commitLogCount",
            "doesn't match peerType",
            "forceSync=no",
            "skipACL=yes",
        ] {
            assert!(all.contains(part), "{part}: {all}");
        }
    }

    #[test]
    fn read_only_mode_answers_isro() {
        let config = Config::embedded(&[("readonlymode.enabled".into(), "true".into())]).expect("is good").0;
        assert_eq!(config.limits.four_letter_words, ["srvr", "isro"]);
    }

    #[test]
    fn relative_directories_are_warned_of() {
        let warned = |dir: &str| {
            let properties = [("dataDir".to_string(), dir.to_string())];
            let warnings = Config::embedded(&properties).expect("is good").1;
            warnings.into_iter().map(|w| w.0).collect::<Vec<_>>().join("\n")
        };
        assert!(warned("data").contains("relative"));
        assert!(["./data", "../data", "/data"].iter().all(|dir| warned(dir).is_empty()));
        for quoted in ["\"/data\"", "'/data'"] {
            assert!(
                warned(quoted).contains("quotation marks become part of the directory's name"),
                "{}",
                warned(quoted)
            );
        }
    }
}
