//! The files of an ensemble on this host: a directory with one folder per member, named by its id, that has its zoo.cfg, its
//! data directory with `myid`, and its log. The zoo.cfgs are ZooKeeper's own; the folders may be used by `zabra start`, and
//! by Apache ZooKeeper, as well.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use super::super::server_paths::{Client, client, get, read_pairs};
use crate::config::{host_and_port, socket_addresses};
use crate::quorum::{Member as ServerLine, Role};

/// Where all members listen.
const HOST: &str = "127.0.0.1";
/// Distances of the other ports of a member from its client port. With client port 2181 they are ZooKeeper's usual 2888
/// and 3888.
const QUORUM: u16 = 707;
const ELECTION: u16 = 1707;
const ADMIN: u16 = 2707;

/// A new ensemble as it was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Wanted {
    /// Voting members; their ids are 1, 2, …
    pub(super) members: u16,
    /// Observers; their ids follow.
    pub(super) observers: u16,
    /// Client port of member 1; those of the others follow.
    pub(super) client_port: u16,
}

/// The members of an ensemble, in ascending order of their ids.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Layout {
    /// The ensemble's directory.
    pub(super) dir: PathBuf,
    pub(super) members: Vec<Member>,
    /// How many of them are observers.
    observers: u16,
}

/// One member's files and addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Member {
    pub(super) id: u16,
    pub(super) config: PathBuf,
    pub(super) data: PathBuf,
    /// Its output.
    pub(super) log: PathBuf,
    pub(super) client: Client,
    /// What else it listens on, and for whom.
    others: Vec<(&'static str, String, u16)>,
}

impl Layout {
    /// Whether the directory holds an ensemble. The file of member 1 is written last.
    pub(super) fn is_in(dir: &Path) -> bool {
        config(dir, 1).is_file()
    }

    /// A new ensemble in `dir`, which must not exist or be empty. Nothing is written yet.
    ///
    /// # Errors
    /// The directory has something in it, or there are not enough ports above the client port.
    pub(super) fn planned(dir: &Path, wanted: Wanted) -> Result<Layout, String> {
        let dir = std::path::absolute(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        let is_empty = match std::fs::read_dir(&dir) {
            Ok(mut entries) => entries.next().is_none(),
            Err(e) if e.kind() == io::ErrorKind::NotFound => true,
            Err(e) => return Err(format!("{}: {e}", dir.display())),
        };
        if !is_empty {
            return Err(format!(
                "{} is not empty and holds no whole ensemble: remove it, or choose another with --dir",
                dir.display()
            ));
        }
        let count = wanted.members + wanted.observers;
        let highest = u16::MAX - ADMIN - (count - 1);
        if !(1..=highest).contains(&wanted.client_port) {
            return Err(format!(
                "--client-port {}: choose one from 1 to {highest}: the members use the ports up to {} above it",
                wanted.client_port,
                ADMIN + count - 1
            ));
        }
        let member = |id: u16| {
            let port = wanted.client_port + id - 1;
            Member {
                id,
                config: config(&dir, id),
                data: folder(&dir, id).join("data"),
                log: log(&dir, id),
                client: Client { host: HOST.into(), port, tls: false },
                others: [("other members", QUORUM), ("elections", ELECTION), ("administrators", ADMIN)]
                    .map(|(whom, distance)| (whom, HOST.to_string(), port + distance))
                    .into(),
            }
        };
        let members = (1..=count).map(member).collect();
        Ok(Layout { dir, members, observers: wanted.observers })
    }

    /// Writes the files of a new ensemble.
    ///
    /// # Errors
    /// A file or a directory cannot be written; the text names it.
    pub(super) fn write(&self, wanted: Wanted) -> Result<(), String> {
        let is_observer = |id: u16| id > wanted.members;
        let mut lines = String::new();
        for member in &self.members {
            let role = if is_observer(member.id) { ":observer" } else { "" };
            let port = member.client.port;
            writeln!(lines, "server.{}={HOST}:{}:{}{role}", member.id, port + QUORUM, port + ELECTION)
                .expect("a String takes all");
        }
        // The file of member 1 comes last: `is_in`.
        for member in self.members.iter().rev() {
            write_member(member, is_observer(member.id), &lines)?;
        }
        Ok(())
    }

    /// Reads the ensemble that is in `dir`.
    ///
    /// # Errors
    /// A file is missing or cannot be understood; the text says which, and what to do.
    pub(super) fn read(dir: &Path) -> Result<Layout, String> {
        let dir = std::path::absolute(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        if !Layout::is_in(&dir) {
            let missing = config(&dir, 1);
            return Err(format!("{} holds no ensemble ({} is missing)", dir.display(), missing.display()));
        }
        let pairs = pairs_of(&config(&dir, 1))?;
        let ids: BTreeSet<u16> =
            pairs.iter().filter_map(|(key, _)| key.strip_prefix("server.")?.parse().ok()).collect();
        if ids.is_empty() {
            return Err(format!("{} has no server.N lines: it is no ensemble's", config(&dir, 1).display()));
        }
        let members = ids.into_iter().map(|id| read_member(&dir, id)).collect::<Result<_, _>>()?;
        let lines = pairs.iter().filter(|(key, _)| key.starts_with("server."));
        let lines = lines.filter_map(|(_, line)| ServerLine::parse(line).ok());
        let observers = lines.filter(|line| line.role == Role::Observer).count() as u16;
        Ok(Layout { dir, members, observers })
    }

    /// What a new ensemble like this one is asked for with.
    pub(super) fn wanted(&self) -> Wanted {
        let members = self.members.len() as u16 - self.observers;
        let client_port = self.members.first().map_or(0, |first| first.client.port);
        Wanted { members, observers: self.observers, client_port }
    }

    /// Checks that nobody listens on the members' ports.
    ///
    /// # Errors
    /// One line for each port that is in use.
    pub(super) fn check_ports(&self) -> Result<(), String> {
        let taken: Vec<String> = self.members.iter().flat_map(Member::taken_ports).collect();
        if taken.is_empty() { Ok(()) } else { Err(taken.join("\n")) }
    }

    /// What a client's list of servers is to be.
    pub(super) fn connect_string(&self) -> String {
        let each = self.members.iter().map(|m| host_and_port(&m.client.host, m.client.port));
        each.collect::<Vec<_>>().join(",")
    }
}

impl Member {
    fn taken_ports(&self) -> Vec<String> {
        let client = ("clients", self.client.host.clone(), self.client.port);
        let all = std::iter::once(client).chain(self.others.iter().cloned());
        let taken = all.filter(|(_, host, port)| *port != 0 && is_taken(host, *port));
        taken
            .map(|(whom, host, port)| format!("{}, for {whom} of member {}", host_and_port(&host, port), self.id))
            .collect()
    }
}

/// Whether the port cannot be bound because somebody else has it.
fn is_taken(host: &str, port: u16) -> bool {
    let addresses = socket_addresses(host, port).unwrap_or_default();
    addresses.iter().any(|a| TcpListener::bind(a).is_err_and(|e| e.kind() == io::ErrorKind::AddrInUse))
}

fn folder(dir: &Path, id: u16) -> PathBuf {
    dir.join(id.to_string())
}

fn config(dir: &Path, id: u16) -> PathBuf {
    folder(dir, id).join("zoo.cfg")
}

fn log(dir: &Path, id: u16) -> PathBuf {
    folder(dir, id).join("zabra.log")
}

fn write_member(member: &Member, is_observer: bool, lines: &str) -> Result<(), String> {
    let failed = |path: &Path, e: io::Error| format!("{} cannot be written: {e}", path.display());
    std::fs::create_dir_all(&member.data).map_err(|e| failed(&member.data, e))?;
    let my_id = member.data.join("myid");
    std::fs::write(&my_id, format!("{}\n", member.id)).map_err(|e| failed(&my_id, e))?;
    let peer_type = if is_observer { "peerType=observer\n" } else { "" };
    let port = member.client.port;
    let text = format!(
        "# Member {} of an ensemble on this host, made by `zabra ensemble`.\n\
         tickTime=2000\ninitLimit=10\nsyncLimit=5\ndataDir={}\nclientPort={port}\nclientPortAddress={HOST}\n\
         admin.serverAddress={HOST}\nadmin.serverPort={}\n4lw.commands.whitelist=*\nstandaloneEnabled=false\n{peer_type}{lines}",
        member.id,
        member.data.display(),
        port + ADMIN,
    );
    // Nobody finds half a file.
    let new = member.config.with_extension("cfg.new");
    std::fs::write(&new, text)
        .and_then(|()| std::fs::rename(&new, &member.config))
        .map_err(|e| failed(&member.config, e))
}

/// The keys of a zoo.cfg, and of its dynamic file if it has one.
fn pairs_of(file: &Path) -> Result<Vec<(String, String)>, String> {
    let read = |file: &Path| read_pairs(file).map_err(|e| format!("{}: {e}", file.display()));
    let mut pairs = read(file)?;
    if let Some(dynamic) = get(&pairs, "dynamicConfigFile").map(PathBuf::from) {
        pairs.extend(read(&dynamic)?);
    }
    Ok(pairs)
}

fn read_member(dir: &Path, id: u16) -> Result<Member, String> {
    let file = config(dir, id);
    let wrong = |what: String| format!("{}: {what}", file.display());
    let pairs = pairs_of(&file)?;
    let data = PathBuf::from(get(&pairs, "dataDir").ok_or_else(|| wrong("dataDir is not set".into()))?);
    if !data.is_dir() {
        return Err(wrong(format!(
            "dataDir {} does not exist: correct the line if the ensemble was moved",
            data.display()
        )));
    }
    let client = client(&pairs, &data).ok_or_else(|| wrong("clientPort is not set".into()))?;
    let line = get(&pairs, &format!("server.{id}")).ok_or_else(|| wrong(format!("server.{id} is not set")))?;
    let line = ServerLine::parse(line).map_err(|e| wrong(format!("server.{id}: {e}")))?;
    let mut others = Vec::new();
    for address in line.addresses {
        others.push(("other members", address.host.clone(), address.quorum_port));
        others.push(("elections", address.host, address.election_port));
    }
    let is_off = get(&pairs, "admin.enableServer").is_some_and(|v| v.eq_ignore_ascii_case("false"));
    if !is_off && let Some(port) = get(&pairs, "admin.serverPort").and_then(|v| v.parse().ok()) {
        others.push(("administrators", get(&pairs, "admin.serverAddress").unwrap_or("0.0.0.0").into(), port));
    }
    Ok(Member { id, config: file.clone(), data, log: log(dir, id), client, others })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::quorum::Role;

    const WANTED: Wanted = Wanted { members: 3, observers: 1, client_port: 2181 };

    fn written(wanted: Wanted) -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().expect("a directory");
        let layout = Layout::planned(dir.path(), wanted).expect("fits");
        layout.write(wanted).expect("written");
        (dir, layout)
    }

    #[test]
    fn what_was_written_is_read() {
        let (dir, layout) = written(WANTED);
        assert!(Layout::is_in(dir.path()));
        assert_eq!(Layout::read(dir.path()), Ok(layout.clone()));
        assert_eq!(layout.members.iter().map(|m| m.id).collect::<Vec<_>>(), [1, 2, 3, 4]);
        assert_eq!(layout.connect_string(), "127.0.0.1:2181,127.0.0.1:2182,127.0.0.1:2183,127.0.0.1:2184");
        let ports: Vec<u16> = layout.members[1].others.iter().map(|(_, _, port)| *port).collect();
        assert_eq!(ports, [2889, 3889, 4889]);
        for member in &layout.members {
            assert_eq!(std::fs::read_to_string(member.data.join("myid")).expect("there"), format!("{}\n", member.id));
        }
    }

    #[test]
    fn the_lines_say_who_votes() {
        let (_dir, layout) = written(WANTED);
        let pairs = pairs_of(&layout.members[0].config).expect("parses");
        for id in 1..=4 {
            let line = ServerLine::parse(get(&pairs, &format!("server.{id}")).expect("there")).expect("parses");
            assert_eq!(line.role, if id == 4 { Role::Observer } else { Role::Participant });
        }
        assert_eq!(get(&pairs, "peerType"), None);
        let pairs = pairs_of(&layout.members[3].config).expect("parses");
        assert_eq!(get(&pairs, "peerType"), Some("observer"));
        for member in &layout.members {
            let (config, warnings) = Config::load(&member.config, &[]).unwrap_or_else(|e| panic!("{e}"));
            assert!(config.is_member() && config.my_id == Some(member.id.into()), "{:?}", config.my_id);
            assert!(warnings.is_empty(), "{warnings:?}");
        }
    }

    #[test]
    fn only_an_empty_directory_gets_a_new_ensemble() {
        let dir = tempfile::tempdir().expect("a directory");
        assert!(Layout::planned(&dir.path().join("new"), WANTED).is_ok());
        std::fs::write(dir.path().join("mine"), "").expect("written");
        let e = Layout::planned(dir.path(), WANTED).expect_err("refused");
        assert!(e.contains("is not empty and holds no whole ensemble"), "{e}");
        let e = Layout::planned(&dir.path().join("mine"), WANTED).expect_err("refused");
        assert!(e.contains("Not a directory"), "{e}");
    }

    #[test]
    fn ports_end_somewhere() {
        let dir = tempfile::tempdir().expect("a directory");
        let planned = |client_port| Layout::planned(dir.path(), Wanted { client_port, ..WANTED });
        let last = u16::MAX - ADMIN - 3;
        assert!(planned(1).is_ok() && planned(last).is_ok());
        for port in [0, last + 1, u16::MAX] {
            let e = planned(port).expect_err("refused");
            assert!(e.contains(&format!("--client-port {port}: choose one from 1 to {last}")), "{e}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let e = Layout::read(dir.path()).expect_err("nothing is there");
        assert!(e.contains("holds no ensemble"), "{e}");
        let (dir, layout) = written(WANTED);
        std::fs::remove_file(&layout.members[2].config).expect("removed");
        let e = Layout::read(dir.path()).expect_err("half");
        assert!(e.contains("3/zoo.cfg"), "{e}");
        let (dir, layout) = written(WANTED);
        std::fs::remove_dir_all(&layout.members[1].data).expect("removed");
        let e = Layout::read(dir.path()).expect_err("moved");
        assert!(e.contains("2/zoo.cfg: dataDir") && e.contains("does not exist"), "{e}");
        let (dir, layout) = written(WANTED);
        std::fs::write(&layout.members[0].config, "dataDir=/x\n").expect("written");
        let e = Layout::read(dir.path()).expect_err("standalone");
        assert!(e.contains("no server.N lines"), "{e}");
    }

    #[test]
    fn ports_in_use_are_named() {
        let taken = TcpListener::bind((HOST, 0)).expect("a port");
        let port = taken.local_addr().expect("bound").port();
        let client = Client { host: HOST.into(), port, tls: false };
        let others = vec![("elections", HOST.to_string(), port), ("administrators", HOST.to_string(), 0)];
        let member = Member { id: 2, config: "".into(), data: "".into(), log: "".into(), client, others };
        let layout = Layout { dir: "".into(), members: vec![member], observers: 0 };
        let e = layout.check_ports().expect_err("in use");
        let lines = [("clients"), ("elections")].map(|whom| format!("127.0.0.1:{port}, for {whom} of member 2"));
        assert_eq!(e, lines.join("\n"));
        drop(taken);
        assert_eq!(layout.check_ports(), Ok(()));
    }
}
