//! Connects to other servers by name. Plays the part of `QuorumCnxManager.initiateConnection` and
//! `Learner.connectToLeader`, with these differences: nothing here waits, every dial has one deadline for all that it
//! does, and a dead name service or a dead host holds up no other dial.
//!
//! Names are looked up at every dial, because a member may have moved. While a lookup runs, further dials of the same
//! server wait for its answer. Of several addresses the next one is tried when the one before has failed, or after
//! [`STAGGER_MS`] (as in RFC 8305); the first that answers is taken, and the other attempts are given up.

use std::collections::VecDeque;
use std::hash::Hash;
use std::io;
use std::net::{IpAddr, SocketAddr};

use hashbrown::HashMap;

use super::mailbox::Bell;
use super::net::{Close, Net};
use super::resolve::Resolver;
use crate::types::ConnId;

/// When the next address is tried although the one before may still answer, in milliseconds.
pub const STAGGER_MS: i64 = 250;
/// Addresses that are tried in one dial. A name may have any number of them.
const MAX_TARGETS: usize = 16;

/// Where to connect: the addresses of one server, in the order in which they are tried.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Target {
    /// Names or IP addresses, with ports.
    pub hosts: Vec<(String, u16)>,
    /// If set, the only IP address that may be dialled. Then no name is looked up, and only the ports count.
    pub only: Option<IpAddr>,
}

/// The end of a dial.
#[derive(PartialEq, Eq, Debug)]
pub enum Outcome<K> {
    /// There is a connection.
    Connected {
        /// Whose.
        key: K,
        /// The connection, which is the caller's from now on.
        conn: ConnId,
    },
    /// There is none.
    Failed {
        /// Whose.
        key: K,
        /// What the last address or the name service said.
        why: String,
    },
}

/// One dial.
struct Dial {
    deadline_ms: i64,
    /// Whether the addresses are not known yet.
    is_looking: bool,
    /// Addresses that were not tried yet.
    left: VecDeque<SocketAddr>,
    /// Attempts that were not answered yet.
    open: Vec<(ConnId, SocketAddr)>,
    /// When the next address is tried.
    next_ms: i64,
    /// What went wrong last.
    why: String,
}

/// All dials of one core. `K` says whose a dial is; there is one at a time for each.
pub struct Dialer<K> {
    dials: HashMap<K, Dial>,
    conns: HashMap<ConnId, K>,
    names: Resolver<K>,
    /// Attempts of dials that another attempt has ended. They are closed in the next turn.
    late: Vec<ConnId>,
}

impl<K: Copy + Eq + Hash + Send + 'static> Dialer<K> {
    /// `bell` wakes the core when a name was looked up.
    pub fn new(bell: Bell) -> Dialer<K> {
        Dialer { dials: HashMap::new(), conns: HashMap::new(), names: Resolver::new(bell), late: Vec::new() }
    }

    /// Starts to dial. The outcome comes from [`Dialer::answered`] or from [`Dialer::turn`], at the latest `timeout_ms`
    /// from now.
    ///
    /// # Panics
    /// If a dial for `key` is under way.
    pub fn dial(&mut self, now_ms: i64, key: K, target: &Target, timeout_ms: i64) {
        assert!(timeout_ms > 0 && !self.dials.contains_key(&key), "a second dial, or a time-out of {timeout_ms} ms");
        let mut dial = Dial {
            deadline_ms: now_ms.saturating_add(timeout_ms),
            is_looking: false,
            left: VecDeque::new(),
            open: Vec::new(),
            next_ms: now_ms,
            why: "it has no address".to_owned(),
        };
        match known(target) {
            Some(addresses) => dial.left = addresses.into(),
            None => {
                dial.is_looking = true;
                dial.why = "the name service does not answer".to_owned();
                if let Err(e) = self.names.look_up(key, &target.hosts) {
                    (dial.is_looking, dial.why) = (false, e.to_string());
                }
            }
        }
        self.dials.insert(key, dial);
    }

    /// Gives up a dial, if there is one. No outcome comes for it.
    pub fn give_up(&mut self, net: &mut Net, key: K) {
        if let Some(dial) = self.dials.remove(&key) {
            self.forget(&dial);
            self.close_late(net);
        }
    }

    /// Whether the connection is an attempt of a dial: then its `Connected` or `ConnectFailed` belongs to
    /// [`Dialer::answered`].
    pub fn knows(&self, conn: ConnId) -> bool {
        self.conns.contains_key(&conn)
    }

    /// An attempt was answered. Returns the outcome of its dial if the dial has ended with that.
    pub fn answered(&mut self, conn: ConnId, result: Result<(), io::Error>) -> Option<Outcome<K>> {
        let key = self.conns.remove(&conn)?;
        let Some(dial) = self.dials.get_mut(&key) else { unreachable!("an attempt outlives its dial") };
        let place = dial.open.iter().position(|(id, _)| *id == conn).expect("an attempt belongs to its dial");
        let (_, address) = dial.open.swap_remove(place);
        match result {
            Ok(()) => {
                let dial = self.dials.remove(&key).expect("it is there");
                self.forget(&dial);
                Some(Outcome::Connected { key, conn })
            }
            Err(e) => {
                dial.why = format!("{address}: {e}");
                dial.next_ms = i64::MIN;
                None
            }
        }
    }

    /// Does what is due and returns the dials that have failed.
    pub fn turn(&mut self, net: &mut Net, now_ms: i64) -> Vec<Outcome<K>> {
        while let Some((key, result)) = self.names.answer() {
            let Some(dial) = self.dials.get_mut(&key).filter(|dial| dial.is_looking) else { continue };
            dial.is_looking = false;
            match result {
                Ok(mut addresses) => {
                    addresses.truncate(MAX_TARGETS);
                    (dial.left, dial.why) = (addresses.into(), "its name has no address".to_owned());
                }
                Err(e) => dial.why = e.to_string(),
            }
        }
        let due: Vec<K> = self.dials.iter().filter(|(_, dial)| dial.due_ms() <= now_ms).map(|(key, _)| *key).collect();
        let failed = due.into_iter().filter_map(|key| self.go_on(net, now_ms, key)).collect();
        self.close_late(net);
        failed
    }

    /// When [`Dialer::turn`] is due, in milliseconds of the monotonic clock. It is due whenever the bell has rung, too.
    pub fn deadline_ms(&self) -> Option<i64> {
        let first = self.dials.values().map(Dial::due_ms).min();
        if self.late.is_empty() && self.names.is_idle() { first } else { Some(i64::MIN) }
    }

    /// Tries the next address, or ends the dial.
    fn go_on(&mut self, net: &mut Net, now_ms: i64, key: K) -> Option<Outcome<K>> {
        let dial = self.dials.get_mut(&key)?;
        while now_ms < dial.deadline_ms
            && dial.next_ms <= now_ms
            && let Some(address) = dial.left.pop_front()
        {
            match net.connect(address) {
                Ok(conn) => {
                    dial.open.push((conn, address));
                    dial.next_ms = now_ms + STAGGER_MS;
                    self.conns.insert(conn, key);
                }
                Err(e) => dial.why = format!("{address}: {e}"),
            }
        }
        let is_over = !dial.is_looking && dial.left.is_empty() && dial.open.is_empty();
        if !is_over && now_ms < dial.deadline_ms {
            return None;
        }
        let dial = self.dials.remove(&key).expect("it is there");
        self.forget(&dial);
        let why = match dial.open.last() {
            Some((_, address)) => format!("{address} does not answer"),
            None => dial.why,
        };
        Some(Outcome::Failed { key, why })
    }

    fn forget(&mut self, dial: &Dial) {
        for (conn, _) in &dial.open {
            self.conns.remove(conn);
            self.late.push(*conn);
        }
    }

    fn close_late(&mut self, net: &mut Net) {
        self.late.drain(..).for_each(|conn| net.close(conn, Close::Abort));
    }
}

impl Dial {
    fn due_ms(&self) -> i64 {
        match (self.is_looking, self.left.is_empty(), self.open.is_empty()) {
            // Nothing is left to wait for.
            (false, true, true) => i64::MIN,
            (false, false, _) => self.next_ms.min(self.deadline_ms),
            _ => self.deadline_ms,
        }
    }
}

/// The addresses of a target for which no name has to be looked up.
fn known(target: &Target) -> Option<Vec<SocketAddr>> {
    let address = |(host, port): &(String, u16)| {
        let ip = target.only.or_else(|| host.parse().ok())?;
        Some(SocketAddr::new(ip, *port))
    };
    let mut all: Vec<SocketAddr> = target.hosts.iter().map(address).collect::<Option<_>>()?;
    all.truncate(MAX_TARGETS);
    Some(all)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::runtime::net::tests::backends;
    use crate::runtime::net::{NetEvent, NetOptions};

    /// A dialer whose clock the test moves.
    struct World {
        net: Net,
        dialer: Dialer<u8>,
        now_ms: i64,
    }

    fn worlds() -> impl Iterator<Item = World> {
        backends().into_iter().map(|backend| {
            let net = Net::new(backend, &NetOptions { buffers: 16, max_conns: 64, ..NetOptions::default() }).unwrap();
            let dialer = Dialer::new(Bell::Core(net.waker()));
            World { net, dialer, now_ms: 1000 }
        })
    }

    impl World {
        fn turn(&mut self) -> Vec<Outcome<u8>> {
            self.net.park(Some(Duration::from_millis(5))).unwrap();
            let mut answers = Vec::new();
            self.net.reap(&mut |event| match event {
                NetEvent::Connected { conn } => answers.push((conn, Ok(()))),
                NetEvent::ConnectFailed { conn, error } => answers.push((conn, Err(error))),
                _ => {}
            });
            let mut ended = Vec::new();
            for (conn, result) in answers {
                assert!(self.dialer.knows(conn), "an attempt of nobody");
                ended.extend(self.dialer.answered(conn, result));
            }
            ended.extend(self.dialer.turn(&mut self.net, self.now_ms));
            ended
        }

        fn outcome(&mut self) -> Outcome<u8> {
            let until = Instant::now() + Duration::from_secs(60);
            loop {
                let mut ended = self.turn();
                assert!(ended.len() < 2, "{ended:?}");
                if let Some(outcome) = ended.pop() {
                    return outcome;
                }
                assert!(Instant::now() < until, "no outcome");
            }
        }
    }

    fn target(hosts: &[(&str, u16)]) -> Target {
        Target { hosts: hosts.iter().map(|(host, port)| (host.to_string(), *port)).collect(), only: None }
    }

    fn listener() -> (TcpListener, u16) {
        let l = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = l.local_addr().unwrap().port();
        (l, port)
    }

    /// A port at which nobody listens, and that nobody else gets while the listener of another address holds it.
    fn closed() -> (TcpListener, u16) {
        let l = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
        let port = l.local_addr().unwrap().port();
        (l, port)
    }

    #[test]
    fn the_first_address_that_answers_is_taken() {
        let ((l, port), (_held, nobody)) = (listener(), closed());
        for mut w in worlds() {
            w.dialer.dial(w.now_ms, 1, &target(&[("127.0.0.1", nobody), ("127.0.0.1", port)]), 1000);
            let Outcome::Connected { key: 1, conn } = w.outcome() else { panic!("not connected") };
            assert!(!w.dialer.knows(conn) && w.dialer.deadline_ms().is_none());
            l.accept().unwrap();
        }
    }

    #[test]
    fn names_are_looked_up() {
        let (l, port) = listener();
        for mut w in worlds() {
            w.dialer.dial(w.now_ms, 1, &target(&[("localhost", port)]), 1000);
            let outcome = w.outcome();
            assert!(matches!(outcome, Outcome::Connected { key: 1, .. }), "{outcome:?}");
            l.accept().unwrap();
            w.dialer.dial(w.now_ms, 1, &target(&[("no-such-host.invalid", port)]), 1000);
            let Outcome::Failed { key: 1, why } = w.outcome() else { panic!("connected") };
            assert!(why.starts_with("no-such-host.invalid: "), "{why}");
        }
    }

    #[test]
    fn a_refusal_names_the_address() {
        let (_held, nobody) = closed();
        for mut w in worlds() {
            w.dialer.dial(w.now_ms, 1, &target(&[("127.0.0.1", nobody)]), 1000);
            let Outcome::Failed { key: 1, why } = w.outcome() else { panic!("connected") };
            assert!(why.starts_with(&format!("127.0.0.1:{nobody}: ")), "{why}");
            w.dialer.dial(w.now_ms, 2, &target(&[]), 1000);
            assert_eq!(w.outcome(), Outcome::Failed { key: 2, why: "it has no address".to_owned() });
        }
    }

    /// A host that is down answers nothing. 192.0.2.0/24 belongs to nobody (RFC 5737); where there is no route the refusal is
    /// immediate, so a listener whose backlog is full stands in for it.
    #[test]
    fn a_silent_host_ends_with_the_deadline_and_holds_up_nobody() {
        for mut w in worlds() {
            let full = crate::runtime::net::listen(
                crate::runtime::net::ListenAddr::At((Ipv4Addr::LOCALHOST, 0).into()),
                &crate::runtime::net::ListenOptions { backlog: Some(1), ..Default::default() },
            )
            .unwrap();
            let silent = full.local_addr().unwrap();
            let mut held = Vec::new();
            while let Ok(stream) = std::net::TcpStream::connect_timeout(&silent, Duration::from_millis(200)) {
                held.push(stream);
            }
            let (l, port) = listener();
            w.dialer.dial(w.now_ms, 1, &target(&[("127.0.0.1", silent.port()), ("127.0.0.1", port)]), 1000);
            w.dialer.dial(w.now_ms, 2, &target(&[("127.0.0.1", silent.port())]), 1000);
            for _ in 0..3 {
                assert_eq!(w.turn(), []);
            }
            assert_eq!(w.dialer.deadline_ms(), Some(1000 + STAGGER_MS));
            w.now_ms += STAGGER_MS;
            assert!(matches!(w.outcome(), Outcome::Connected { key: 1, .. }));
            l.accept().unwrap();
            assert_eq!(w.dialer.deadline_ms(), Some(2000));
            w.now_ms = 2000;
            let why = format!("{silent} does not answer");
            assert_eq!(w.outcome(), Outcome::Failed { key: 2, why });
            w.dialer.dial(w.now_ms, 2, &target(&[("127.0.0.1", silent.port())]), 1000);
            assert_eq!(w.turn(), []);
            w.dialer.give_up(&mut w.net, 2);
            assert!(w.dialer.deadline_ms().is_none() && w.dialer.conns.is_empty());
        }
    }

    /// Whoever is in no configuration makes this server connect to itself at most.
    #[test]
    fn a_target_with_one_allowed_address_is_dialled_there_only() {
        let (l, port) = listener();
        for mut w in worlds() {
            let only = Some(Ipv4Addr::LOCALHOST.into());
            let strangers = Target { only, ..target(&[("no-such-host.invalid", port), ("127.0.0.2", port)]) };
            assert_eq!(known(&strangers).unwrap(), [l.local_addr().unwrap(); 2]);
            w.dialer.dial(w.now_ms, 1, &strangers, 1000);
            assert!(matches!(w.outcome(), Outcome::Connected { key: 1, .. }));
            assert!(!w.dialer.names.is_looking(1));
            l.accept().unwrap();
        }
    }

    /// While a lookup runs, further dials of the same server wait for it.
    #[test]
    fn a_dead_name_service_costs_one_thread_for_each_server() {
        for mut w in worlds() {
            let answer = w.dialer.names.hold(1);
            for _ in 0..3 {
                w.dialer.dial(w.now_ms, 1, &target(&[("localhost", 1)]), 1000);
                assert_eq!(w.turn(), []);
                w.now_ms += 1000;
                let why = "the name service does not answer".to_owned();
                assert_eq!(w.turn(), [Outcome::Failed { key: 1, why }]);
            }
            let (l, port) = listener();
            w.dialer.dial(w.now_ms, 1, &target(&[("localhost", port)]), 1000);
            answer(Ok(vec![l.local_addr().unwrap()]));
            assert!(matches!(w.outcome(), Outcome::Connected { key: 1, .. }));
            assert!(!w.dialer.names.is_looking(1));
        }
    }
}
