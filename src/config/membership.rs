//! The members of an ensemble and this server's place among them: `server.N` lines, `myid`, the dynamic configuration file and
//! the address for clients. Mirrors `parseDynamicConfig`, `setupMyId`, `setupClientPort`, `setupPeerType` and `checkValidity`
//! of `QuorumPeerConfig`.

use std::path::{Path, PathBuf};

use super::address::HostAddr;
use super::draft::{Draft, quotation_marks};
use super::error::Problem;
use super::member_lines::MemberLines;
use super::properties::{self, Entry};
use crate::quorum::{Role, Verifier};
use crate::types::Zxid;

/// Largest id of a server if znodes may have a TTL: the top byte of a TTL node's owner is 255, where that of an ephemeral's owner
/// is the server's id.
const MAX_ID_WITH_TTL: i64 = 254;

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

/// Checks the members' lines as a whole, with ZooKeeper's messages.
pub(super) fn check(draft: &mut Draft<'_>) {
    my_id(draft);
    let ensemble = &draft.config.ensemble;
    let dynamic = ensemble.dynamic_config_file.as_ref().map(|p| p.display().to_string());
    let place = dynamic.unwrap_or_else(|| draft.name.clone());
    match draft.lines.members(ensemble.standalone_enabled) {
        Ok(members) => draft.config.ensemble.members = members,
        // Another problem says which line is missing.
        Err(_) if draft.lines.are_incomplete() => {}
        Err(what) => return draft.problems.push(Problem::new(place, "", what)),
    }
    peer_type(draft);
    match draft.lines.participants() {
        0 => {}
        // How many there are nobody knows.
        _ if draft.lines.are_incomplete() => needs(draft),
        1 if draft.config.ensemble.standalone_enabled => draft.warn(format!(
            "{place}: Invalid configuration, only one server specified (ignoring): starting standalone, as ZooKeeper does"
        )),
        voters => {
            if voters <= 2 {
                draft.warn("No server failure will be tolerated. You need at least 3 servers.");
            } else if voters % 2 == 0 {
                draft.warn("Non-optimal configuration, consider an odd number of servers.");
            }
            needs(draft);
            not_yet(draft, &place);
            unfinished_reconfig(draft);
            if let Some((a, b, address)) = draft.lines.with_equal_address() {
                draft.warn(format!(
                    "server.{a} and server.{b} have the same address {address}: on one host each needs ports of its own"
                ));
            }
        }
    }
    client_port(draft);
}

/// What a member of an ensemble must be told.
fn needs(draft: &mut Draft<'_>) {
    let is_wrong = |draft: &Draft<'_>, key| draft.problems.iter().any(|problem| problem.key == key);
    if draft.config.ensemble.init_limit == 0 && !is_wrong(draft, "initLimit") {
        draft.wrong("initLimit", "is not set: add a line such as initLimit=10 (ticks to join and sync)");
    }
    if draft.config.ensemble.sync_limit == 0 && !is_wrong(draft, "syncLimit") {
        draft.wrong("syncLimit", "is not set: add a line such as syncLimit=5 (ticks a server may lag)");
    }
    let place = draft.config.data_dir.join("myid").display().to_string();
    let Some(id) = draft.config.my_id else {
        // If there is one that cannot be read, another problem says so.
        if !draft.problems.iter().any(|p| p.place == place) {
            let what = "is missing: write the N of this server's server.N line into it";
            draft.problems.push(Problem::new(place, "", what));
        }
        return;
    };
    if draft.lines.get(id).is_none() {
        no_line(draft, id);
    }
    if let Some(negative) = draft.lines.all().find(|id| *id < 0) {
        let what = "the ids of servers begin at 0: give this server another one, in its myid too";
        draft.problems.push(Problem::new(&draft.name, &format!("server.{negative}"), what));
    }
    if draft.config.storage.extended_types && id > MAX_ID_WITH_TTL {
        let what = format!(
            "says {id}, and with extendedTypesEnabled=true the id of a server must not be larger than {MAX_ID_WITH_TTL}: TTL nodes \
             are told apart from ephemerals by it"
        );
        draft.problems.push(Problem::new(place, "", what));
    }
    if let Some((a, b)) = draft.lines.with_equal_low_byte() {
        draft.warn(format!(
            "server.{a} and server.{b} differ by a multiple of 256, and session ids contain only the lowest byte of a server's id: \
             two sessions may get the same id. Number the servers from 1 to 254"
        ));
    }
}

/// What an ensemble of ZooKeeper may have and this version does not.
fn not_yet(draft: &mut Draft<'_>, place: &str) {
    const LATER: &str = "come in a later version of Zabra: remove the setting, or stay with Apache ZooKeeper for now";
    let ensemble = &draft.config.ensemble;
    let hierarchical = ensemble.members.as_ref().is_some_and(|m| matches!(m.verifier(), Verifier::Hierarchical(_)));
    let (oracle, port) = (ensemble.oracle_path.is_some(), ensemble.observer_master_port != 0);
    if hierarchical {
        let what = format!("has group.N or weight.N lines, and quorums of groups and weights {LATER}");
        draft.problems.push(Problem::new(place, "", what));
    }
    if oracle {
        draft.wrong("oraclePath", format!("is set, and ensembles with an oracle {LATER}"));
    }
    if port {
        draft.wrong("observerMasterPort", format!("is set, and followers that serve observers {LATER}"));
    }
}

/// Refuses to start in the middle of a reconfiguration: between its proposal and its activation decisions need quorums of both
/// configurations.
fn unfinished_reconfig(draft: &mut Draft<'_>) {
    let Some(file) = &draft.config.source.file else { return };
    let mut next = file.clone().into_os_string();
    next.push(".dynamic.next");
    let next = PathBuf::from(next);
    if !draft.files.is_file(&next) {
        return;
    }
    let name = next.display().to_string();
    let read = draft.files.read(&next).map_err(|e| Problem::new(&name, "", format!("cannot be read ({e})")));
    let entries = match read.and_then(|bytes| properties::parse(&name, &bytes)) {
        Ok(entries) => entries,
        Err(problem) => return draft.problems.push(problem),
    };
    let version = entries.iter().rev().find(|e| e.key == "version").map(|e| i64::from_str_radix(&e.value, 16));
    match version {
        Some(Ok(version)) if Zxid(version) <= draft.lines.version => {}
        Some(Ok(version)) => {
            let what = format!(
                "a reconfiguration to version {version:x} was begun and is not finished here (in force is version {:x}): start this \
                 server with Apache ZooKeeper until it is, or remove the file if the ensemble did not take it",
                draft.lines.version.0
            );
            draft.problems.push(Problem::new(&name, "", what));
        }
        _ => {
            let what =
                "has no version= line with a hexadecimal number: remove the file if no reconfiguration is under way";
            draft.problems.push(Problem::new(&name, "", what));
        }
    }
}

/// Adds the problem that `myid` names a server without a `server.N` line.
fn no_line(draft: &mut Draft<'_>, id: i64) {
    if draft.lines.is_unread(id) {
        return;
    }
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
            "Peer type from servers list ({}) doesn't match peerType ({}). Defaulting to servers list.",
            format!("{listed:?}").to_uppercase(),
            format!("{:?}", ensemble.peer_type).to_uppercase()
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
        Some(id) if !draft.lines.is_empty() && draft.lines.get(id).is_none() => no_line(draft, id),
        // Another problem says so already: the file myid is missing.
        None if draft.config.is_member() => {}
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

    const THREE: &str = "server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\n";

    #[test]
    fn a_member_of_an_ensemble() {
        let (config, warnings) = load(&format!("{TIMES}{THREE}"), "2", "").expect("is good");
        assert!(config.is_member() && warnings.is_empty(), "{warnings:?}");
        assert_eq!((config.my_id, config.ensemble.peer_type), (Some(2), Role::Participant));
        let members = config.ensemble.members.expect("some");
        assert_eq!((members.voters().len(), members.version()), (3, Zxid::ZERO));
        let one = format!("{TIMES}server.1=a:1:2\n");
        assert!(!load(&one, "1", "").expect("is good").0.is_member(), "one voter is standalone");
        let (config, warnings) = load(&format!("{one}standaloneEnabled=false"), "1", "").expect("is good");
        assert!(config.is_member(), "an ensemble of one");
        assert!(warnings[0].0.starts_with("No server failure will be tolerated"), "{warnings:?}");
        let (config, _) = load(&format!("{TIMES}{THREE}server.4=d:1:2:observer"), "4", "").expect("is good");
        assert!(config.is_member());
        assert_eq!(config.ensemble.peer_type, Role::Observer, "the line decides");
        let reconfig = format!("{TIMES}{THREE}reconfigEnabled=true");
        assert!(load(&reconfig, "1", "").expect("is good").0.ensemble.reconfig_enabled);
        let (config, _) =
            load("initLimit=5\nsyncLimit=2\ndynamicConfigFile=DYNAMIC", "3", &THREE.replace("2\n", "2;77\n"))
                .expect("is good");
        assert_eq!((config.client.port, config.ensemble.members.expect("some").version()), (77, Zxid(0x1a)));
    }

    #[test]
    fn zookeepers_warnings_of_an_ensemble() {
        for (servers, warning) in [
            ("server.1=a:1:2\nserver.2=b:1:2", "No server failure will be tolerated. You need at least 3 servers."),
            ("server.1=a:1:2\nserver.2=b:1:2\nserver.3=c:1:2\nserver.4=d:1:2", "Non-optimal configuration"),
            ("server.1=a:1:2\nserver.257=b:1:2\nserver.3=c:1:2", "server.1 and server.257 differ by a multiple of 256"),
            ("server.1=a:1:2\nserver.2=a:3:1\nserver.3=c:1:2", "server.1 and server.2 have the same address a:1: "),
        ] {
            let (config, warnings) = load(&format!("{TIMES}{servers}"), "1", "").expect("is good");
            assert!(config.is_member());
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].0.starts_with(warning), "{warnings:?}");
        }
    }

    #[test]
    fn what_a_member_must_be_told() {
        let e = error("clientPort=1\nserver.1=a:1:2\nserver.2=b:1:2", "", "");
        assert_eq!(e.exit_code().code(), 2);
        for part in ["initLimit: is not set", "syncLimit: is not set", "myid: is missing"] {
            assert!(e.to_string().contains(part), "{part}: {e}");
        }
        let e = error(&format!("initLimit=5\nsyncLimit=2\n{THREE}"), "", "");
        assert_eq!(e.problems.len(), 1, "{e}");
        assert!(e.to_string().contains("myid: is missing"), "{e}");
        let e = error(&format!("initLimit=5\nsyncLimit=2\n{THREE}"), "1", "").to_string();
        assert!(e.contains("clientPort: is not set"), "{e}");
        let e = error(&format!("{TIMES}{THREE}"), "one", "");
        assert_eq!(e.problems.len(), 1, "{e}");
        let e = error(&format!("{TIMES}server.1=a:1:2\nserver.2=b:1:2"), "7", "").to_string();
        assert!(e.contains("no line server.7 (there is one for 1, 2)"), "{e}");
        let e = error(&format!("{TIMES}{THREE}server.-1=d:1:2"), "1", "").to_string();
        assert!(e.contains("zoo.cfg: server.-1: the ids of servers begin at 0"), "{e}");
        let high = format!("{TIMES}{THREE}server.255=d:1:2\n");
        load(&high, "255", "").expect("is good");
        let e = error(&format!("{high}extendedTypesEnabled=true"), "255", "").to_string();
        assert!(e.contains("must not be larger than 254"), "{e}");
    }

    #[test]
    fn a_line_that_cannot_be_read_is_one_problem() {
        for line in ["server.1=a:1", "server.1=a:1:x", "server.1=a:1:1", "server.1=a:1:2:watcher", "server.1="] {
            let e = error(&format!("{TIMES}{line}\nserver.2=b:1:2\nserver.3=c:1:2"), "1", "");
            assert_eq!((e.problems.len(), e.warnings.len()), (1, 0), "{e}");
            let e = error(&format!("{TIMES}{line}\nserver.2=b:1:2:observer"), "1", "");
            assert_eq!((e.problems.len(), e.warnings.len()), (1, 0), "{e}");
        }
        let e = error(&format!("clientPort=1\ninitLimit=x\nsyncLimit=2\n{THREE}"), "1", "");
        assert_eq!(e.problems.len(), 1, "{e}");
    }

    #[test]
    fn what_ensembles_have_in_a_later_version() {
        for (line, part) in [
            ("group.1=1:2:3", "quorums of groups and weights come in a later version"),
            ("group.1=1:2:3\nweight.1=2", "quorums of groups and weights come in a later version"),
            ("oraclePath=/o", "zoo.cfg:5: oraclePath: is set, and ensembles with an oracle come in a later version"),
            ("observerMasterPort=7", "observerMasterPort: is set, and followers that serve observers come"),
            ("sslQuorum=true", "TLS between servers is not available"),
            ("quorum.auth.enableSasl=true", "SASL between servers is not available"),
        ] {
            let e = error(&format!("{TIMES}{line}\n{THREE}"), "1", "");
            assert_eq!(e.problems.len(), 1, "{e}");
            assert!(e.to_string().contains(part), "{line}: {e}");
        }
    }

    #[test]
    fn an_observer_may_be_without_a_log() {
        let lines = format!("{TIMES}{THREE}server.4=d:1:2:observer\npeerType=observer\nsyncEnabled=false");
        let (config, warnings) = load(&lines, "4", "").expect("is good");
        assert_eq!((config.ensemble.sync_enabled, warnings.len()), (false, 0), "{warnings:?}");
        let (_, warnings) = load(&format!("{TIMES}{THREE}syncEnabled=false"), "1", "").expect("is good");
        assert!(warnings.is_empty(), "a voter always has one: {warnings:?}");
    }

    #[test]
    fn a_reconfiguration_that_is_not_finished() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("zoo.cfg");
        let text =
            format!("dataDir={}\n{TIMES}dynamicConfigFile={}.dynamic.20\n", dir.path().display(), path.display());
        std::fs::write(&path, text).expect("written");
        std::fs::write(dir.path().join("zoo.cfg.dynamic.20"), THREE).expect("written");
        std::fs::write(dir.path().join("myid"), "1").expect("written");
        for (next, part) in [
            ("server.1=a:1:2\nversion=1f", None),
            ("server.1=a:1:2\nversion=20", None),
            ("server.1=a:1:2\nversion=100000021", Some("a reconfiguration to version 100000021 was begun")),
            ("server.1=a:1:2", Some("has no version= line")),
            ("version=x", Some("has no version= line")),
        ] {
            std::fs::write(dir.path().join("zoo.cfg.dynamic.next"), next).expect("written");
            match (Config::load(&path, &[]), part) {
                (Ok((config, _)), None) => assert!(config.is_member()),
                (Err(e), Some(part)) => assert!(e.to_string().contains(part), "{next}: {e}"),
                (other, _) => panic!("{next}: {other:?}"),
            }
        }
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
}
