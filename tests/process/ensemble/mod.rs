//! Ensembles of real servers: elections, members that are killed, stopped, paused and wiped under load. Nothing acknowledged is
//! lost, and sessions and ephemerals outlive every change of leader.

mod descriptors;
mod elections;
mod failures;
mod figures;
mod full_disk;
mod load;
mod observers;
mod read_only;

use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitStatus;
use std::time::Duration;

use zabra::types::Op;

use super::server::{Home, PATIENCE, Server, free_port, wait_until};
use super::wire::{Client, new_session, text};

/// Time-outs for tests in which members fail: short, so that a pause is noticed soon. A machine that is busy for longer than
/// that only causes one election more.
const QUICK: &str = "tickTime=250\ninitLimit=60\nsyncLimit=8\n";
/// For tests in which the leader must not change by itself.
const CALM: &str = "tickTime=500\ninitLimit=120\nsyncLimit=120\n";

/// How long a member that stands still may take to answer a four-letter word.
const WORD_PATIENCE: Duration = Duration::from_secs(5);

/// Members with the ids 1, 2, …; each may run or not.
pub struct Ensemble {
    members: Vec<(Home, Option<Server>)>,
    /// What all their zoo.cfgs say.
    lines: String,
}

impl Ensemble {
    pub fn new(members: usize, lines: &str) -> Ensemble {
        Ensemble::placed(members, lines, |_, home| home)
    }

    /// The same, with system properties: each a `key=value`.
    pub fn defining(members: usize, lines: &str, properties: &[&str]) -> Ensemble {
        Ensemble::placed(members, lines, |_, home| properties.iter().fold(home, |home, pair| home.define(pair)))
    }

    /// Voters, and behind them observers.
    pub fn observed(voters: usize, observers: usize, lines: &str) -> Ensemble {
        Ensemble::made((voters, observers), lines, |_, home| home)
    }

    /// Members whose homes are changed first.
    pub fn placed(members: usize, lines: &str, place: impl Fn(usize, Home) -> Home) -> Ensemble {
        Ensemble::made((members, 0), lines, place)
    }

    fn made((voters, observers): (usize, usize), lines: &str, place: impl Fn(usize, Home) -> Home) -> Ensemble {
        let members = voters + observers;
        let role = |id| if id > voters { ":observer" } else { "" };
        let line = |id| format!("server.{id}=127.0.0.1:{}:{}{}\n", free_port(), free_port(), role(id));
        let servers: String = (1..=members).map(line).collect();
        let lines = format!("{lines}standaloneEnabled=false\n4lw.commands.whitelist=*\n{servers}");
        let home = |id: usize| {
            let home = place(id, Home::new(&lines));
            give_id(&home, id);
            (home, None)
        };
        Ensemble { members: (1..=members).map(home).collect(), lines }
    }

    /// Takes the other members out of a member's configuration, or puts them back.
    pub fn is_alone(&mut self, id: usize, is_alone: bool) {
        let lines = if is_alone { "" } else { &self.lines };
        self.members[id - 1].0.set_lines(lines);
    }

    /// Takes a line out of a member's configuration.
    pub fn without_line(&mut self, id: usize, line: &str) {
        let lines = self.lines.replace(line, "");
        assert_ne!(lines, self.lines, "there is no {line}");
        self.members[id - 1].0.set_lines(&lines);
    }

    /// An ensemble that serves.
    pub fn started(members: usize, lines: &str) -> Ensemble {
        Ensemble::new(members, lines).all_started()
    }

    pub fn all_started(mut self) -> Ensemble {
        self.ids().for_each(|id| self.start(id));
        self.all_serve();
        self
    }

    pub fn ids(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.members.len()
    }

    /// Starts a member and does not wait.
    pub fn start(&mut self, id: usize) {
        let (home, server) = &mut self.members[id - 1];
        assert!(server.is_none(), "member {id} runs already");
        *server = Some(home.spawn());
    }

    fn server(&self, id: usize) -> &Server {
        self.members[id - 1].1.as_ref().unwrap_or_else(|| panic!("member {id} does not run"))
    }

    fn take(&mut self, id: usize) -> Server {
        self.members[id - 1].1.take().unwrap_or_else(|| panic!("member {id} does not run"))
    }

    pub fn addr(&self, id: usize) -> SocketAddr {
        self.members[id - 1].0.addr()
    }

    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.ids().map(|id| self.addr(id)).collect()
    }

    pub fn home(&self, id: usize) -> &Home {
        &self.members[id - 1].0
    }

    pub fn client(&self, id: usize) -> Client {
        Client::connect(self.addr(id))
    }

    /// A client of a member that may not serve.
    pub fn try_client(&self, id: usize) -> io::Result<Client> {
        Ok(Client::handshake(self.addr(id), &new_session(10_000))?.expect("a new session is given"))
    }

    /// How a member ended that has ended by itself. Then it does not run any more.
    pub fn take_ended(&mut self, id: usize) -> Option<ExitStatus> {
        let status = self.members[id - 1].1.as_mut().expect("it was started").ended()?;
        self.members[id - 1].1 = None;
        Some(status)
    }

    /// `leader`, `follower`, `observer` or `read-only`; `None` if the member does not serve.
    pub fn role(&mut self, id: usize) -> Option<String> {
        let (home, server) = &mut self.members[id - 1];
        let server = server.as_mut()?;
        if let Some(status) = server.ended() {
            panic!("member {id} ended with {status}:\n{}", server.stderr());
        }
        let answer = ask(home.addr(), "srvr")?;
        Some(answer.lines().find_map(|line| line.strip_prefix("Mode: "))?.to_string())
    }

    /// The member that leads, if just one says so.
    pub fn find_leader(&mut self) -> Option<usize> {
        let leading: Vec<usize> = self.ids().filter(|id| self.role(*id).as_deref() == Some("leader")).collect();
        if let [one] = leading[..] { Some(one) } else { None }
    }

    /// Waits until a member leads.
    pub fn leader(&mut self) -> usize {
        let mut leader = None;
        wait_until("a member leads", || {
            leader = self.find_leader();
            leader.is_some()
        });
        leader.expect("one leads")
    }

    /// Waits until a member other than `old` leads.
    pub fn leader_after(&mut self, old: usize) -> usize {
        let mut leader = None;
        wait_until("another member leads", || {
            let others = self.ids().filter(|id| *id != old).collect::<Vec<_>>();
            leader = others.into_iter().find(|id| self.role(*id).as_deref() == Some("leader"));
            leader.is_some()
        });
        leader.expect("one leads")
    }

    /// A member that follows.
    pub fn follower(&mut self) -> usize {
        let mut found = None;
        wait_until("a member follows", || {
            found = self.ids().find(|id| self.role(*id).as_deref() == Some("follower"));
            found.is_some()
        });
        found.expect("one follows")
    }

    pub fn serves(&mut self, id: usize) {
        wait_until(&format!("member {id} serves"), || self.role(id).is_some());
    }

    /// Waits until all members run and serve.
    pub fn all_serve(&mut self) {
        self.ids().for_each(|id| self.serves(id));
        self.leader();
    }

    pub fn kill(&mut self, id: usize) {
        self.take(id).kill();
    }

    pub fn stop(&mut self, id: usize) {
        self.take(id).stop();
    }

    /// SIGSTOP. Returns when none of its threads runs any more, which the signal alone does not say.
    pub fn pause(&self, id: usize) {
        let server = self.server(id);
        server.signal(libc::SIGSTOP);
        wait_until("the process stands still", || {
            let threads = fs::read_dir(format!("/proc/{}/task", server.pid())).expect("it lives");
            let stat = |thread: fs::DirEntry| fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
            threads.flatten().map(stat).all(|s| s.rsplit_once(')').is_some_and(|(_, rest)| rest.starts_with(" T")))
        });
    }

    pub fn resume(&self, id: usize) {
        self.server(id).signal(libc::SIGCONT);
    }

    /// Removes the data of a member that does not run; its id stays.
    pub fn wipe(&self, id: usize) {
        assert!(self.members[id - 1].1.is_none(), "member {id} runs");
        fs::remove_dir_all(self.home(id).data()).expect("removed");
        give_id(self.home(id), id);
    }
}

fn give_id(home: &Home, id: usize) {
    fs::create_dir_all(home.data()).expect("made");
    fs::write(home.data().join("myid"), id.to_string()).expect("written");
}

/// The answer to a four-letter word; `None` if the server gives none.
fn ask(addr: SocketAddr, word: &str) -> Option<String> {
    let mut stream = TcpStream::connect(addr).ok()?;
    stream.set_read_timeout(Some(WORD_PATIENCE)).expect("a timeout");
    stream.write_all(word.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}

/// Waits until what this client reads next is not older than what the leader has committed.
fn sync(client: &mut Client) {
    assert_eq!(client.call(Op::SYNC, &text("/")).err, 0);
}
