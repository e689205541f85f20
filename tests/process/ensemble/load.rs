//! Writers whose sessions go from member to member, and who know what was acknowledged to them.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zabra::types::Op;

use super::super::wire::{create_body, read_body, set_body};
use super::{Client, Ensemble, PATIENCE, sync, wait_until};

const BAD_VERSION: i32 = -103;
const NODE_EXISTS: i32 = -110;
const EPHEMERAL: i32 = 1;
/// After so long without an answer a client goes to another member, as clients do.
const SILENCE: Duration = Duration::from_secs(3);

/// What a writer was told.
struct Told {
    session: i64,
    /// Numbers of creates that were acknowledged.
    created: Vec<usize>,
    /// How many were sent.
    sent: usize,
    /// Its counter: every number was set once, against the version before.
    counted: i32,
}

/// A writer on each member; they go on until `check`.
pub struct Load {
    stop: Arc<AtomicBool>,
    rounds: Vec<Arc<AtomicUsize>>,
    writers: Vec<thread::JoinHandle<Told>>,
}

impl Load {
    pub fn on(ensemble: &Ensemble) -> Load {
        let stop = Arc::new(AtomicBool::new(false));
        let mut load = Load { stop: stop.clone(), rounds: Vec::new(), writers: Vec::new() };
        for number in ensemble.ids() {
            let mut client = ensemble.client(number);
            client.create(&root(number), b"").expect("new");
            client.create(&format!("{}/counter", root(number)), b"0").expect("new");
            client.create_mode(&format!("{}/owned", root(number)), b"", EPHEMERAL).expect("new");
            client.raw().impatient(SILENCE);
            let (stop, rounds, addrs) = (stop.clone(), Arc::new(AtomicUsize::new(0)), ensemble.addrs());
            load.rounds.push(rounds.clone());
            load.writers.push(thread::spawn(move || write(number, client, &addrs, &stop, &rounds)));
        }
        load
    }

    fn made(&self) -> Vec<usize> {
        self.rounds.iter().map(|r| r.load(Ordering::Relaxed)).collect()
    }

    /// Waits until every writer has made so many rounds more.
    pub fn goes_on(&self, rounds: usize) {
        let began = self.made();
        self.wait("all writers go on", || self.made().iter().zip(&began).all(|(now, then)| *now >= then + rounds));
    }

    fn wait(&self, what: &str, mut ready: impl FnMut() -> bool) {
        wait_until(what, || {
            assert!(!self.writers.iter().any(thread::JoinHandle::is_finished), "a writer has failed");
            ready()
        });
    }

    /// Stops the writers. Every member that runs has what was acknowledged, nothing that was never sent, and the
    /// ephemerals of sessions that live; every member serves.
    pub fn check(mut self, ensemble: &mut Ensemble) {
        self.stop.store(true, Ordering::Relaxed);
        let told: Vec<Told> =
            std::mem::take(&mut self.writers).into_iter().map(|w| w.join().expect("a writer")).collect();
        ensemble.all_serve();
        for id in ensemble.ids() {
            let mut client = ensemble.client(id);
            sync(&mut client);
            for (number, told) in ensemble.ids().zip(&told) {
                told.check(&mut client, number, id);
            }
            client.close();
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl Told {
    fn check(&self, client: &mut Client, number: usize, id: usize) {
        let names = client.children(&root(number), false).expect("its root");
        let numbers: Vec<usize> = names.iter().filter_map(|n| n.strip_prefix('n')?.parse().ok()).collect();
        for n in &self.created {
            assert!(
                numbers.binary_search(n).is_ok(),
                "member {id}: {n} of writer {number} was acknowledged and is lost"
            );
        }
        assert!(numbers.iter().all(|n| *n < self.sent), "member {id}: more than writer {number} has sent");
        let (data, stat) = client.get(&format!("{}/counter", root(number)), false).expect("there");
        let counter = (String::from_utf8_lossy(&data).into_owned(), stat.version);
        assert_eq!(counter, (self.counted.to_string(), self.counted), "member {id}: counter of writer {number}");
        let owner = client.exists(&format!("{}/owned", root(number)), false).map(|s| s.ephemeral_owner);
        assert_eq!(owner, Ok(self.session), "member {id}: ephemeral of writer {number}");
    }
}

fn root(number: usize) -> String {
    format!("/w{number}")
}

fn write(number: usize, client: Client, addrs: &[SocketAddr], stop: &AtomicBool, rounds: &AtomicUsize) -> Told {
    let session = client.session.0;
    let mut told = Told { session, created: Vec::new(), sent: 0, counted: 0 };
    let mut session = Session { client, addrs, at: number - 1 };
    while !stop.load(Ordering::Relaxed) {
        let path = format!("{}/n{:07}", root(number), told.sent);
        told.sent += 1;
        match session.attempt(Op::CREATE, &create_body(&path, b"", 0)) {
            Ok(0) => told.created.push(told.sent - 1),
            Ok(err) => panic!("writer {number}: {path} is new, but {err}"),
            // Nobody knows whether it was done.
            Err(_) => session.resume(),
        }
        told.counted = session.count_up(&format!("{}/counter", root(number)), told.counted);
        rounds.fetch_add(1, Ordering::Relaxed);
    }
    // The session lives on.
    session.client.disconnect();
    told
}

/// A session with a connection to one member.
struct Session<'a> {
    client: Client,
    addrs: &'a [SocketAddr],
    at: usize,
}

impl Session<'_> {
    /// The error code of the reply.
    fn attempt(&mut self, op: Op, body: &[u8]) -> io::Result<i32> {
        self.client.try_call(op, body).map(|reply| reply.err)
    }

    /// Goes to the next member that takes the session.
    fn resume(&mut self) {
        let request = self.client.resumption();
        let end = Instant::now() + PATIENCE;
        loop {
            self.at = (self.at + 1) % self.addrs.len();
            match Client::handshake_within(self.addrs[self.at], &request, SILENCE) {
                Ok(Some(client)) => {
                    self.client = client;
                    return self.client.raw().impatient(SILENCE);
                }
                Ok(None) => panic!("session {:#x} has expired", request.session.0),
                Err(e) => assert!(Instant::now() < end, "no member takes session {:#x}: {e}", request.session.0),
            }
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sets the counter to its next value, just once.
    fn count_up(&mut self, path: &str, counted: i32) -> i32 {
        let next = counted + 1;
        loop {
            match self.attempt(Op::SET_DATA, &set_body(path, next.to_string().as_bytes(), counted)) {
                Ok(0) => return next,
                // An attempt without an answer was done.
                Ok(BAD_VERSION) => match self.client.try_call(Op::GET_DATA, &read_body(path, false)) {
                    Ok(reply) => {
                        let value = next.to_string();
                        let written = reply.body.get(4..4 + value.len());
                        assert_eq!((reply.err, written), (0, Some(value.as_bytes())), "{path}");
                        return next;
                    }
                    Err(_) => self.resume(),
                },
                Ok(err) => panic!("{path}: {err}"),
                Err(_) => self.resume(),
            }
        }
    }
}

/// Creates a znode through a session of its own, whoever serves.
pub fn create_somewhere(ensemble: &mut Ensemble, path: &str) {
    let leader = ensemble.leader();
    let mut client = ensemble.client(leader);
    assert!(matches!(client.create(path, b"").map(|_| 0), Ok(0) | Err(NODE_EXISTS)));
    client.close();
}
