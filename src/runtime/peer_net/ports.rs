//! The ports on which a server listens for the other servers. A port that cannot be bound yet is tried again: after a restart or
//! a change of role the kernel may still hold it for a moment, and a name may be unknown until the host's network is there.

use std::net::SocketAddr;

use crate::quorum::PeerAddress;
use crate::runtime::mailbox::Bell;
use crate::runtime::net::{BindError, ListenAddr, ListenOptions, Net, listen_now};
use crate::runtime::resolve::Resolver;

/// The pause before the second try, in milliseconds. Each further one is twice as long, up to [`LONGEST_PAUSE_MS`].
const FIRST_PAUSE_MS: i64 = 10;
/// As on Apache.
const LONGEST_PAUSE_MS: i64 = 1000;

/// For what a port is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Port {
    Election,
    Quorum,
}

/// How the ports are opened.
#[derive(Clone, Debug)]
pub(super) struct PortOptions {
    /// This server's addresses.
    pub(super) own: Vec<PeerAddress>,
    /// Only the ports of the addresses count (`quorumListenOnAllIPs`).
    pub(super) on_all_ips: bool,
    /// Of the sockets.
    pub(super) listen: ListenOptions,
    /// For how many seconds the election port is tried; 0 means for ever (`zookeeper.electionPortBindRetry`).
    pub(super) election_tries: u32,
}

/// Whose a lookup is: the port and the address's place.
type Key = (Port, usize);

/// One address of a port that is to be open.
struct Wanted {
    key: Key,
    at: At,
    /// When it is tried next, in milliseconds of the monotonic clock. `None`: it is open, or its name is being looked up.
    due_ms: Option<i64>,
    pause_ms: i64,
    /// Since when it fails, and why it did last.
    failing: Option<(i64, String)>,
    /// What it was bound to, and the listeners' numbers.
    open: Vec<(ListenAddr, usize)>,
}

/// Where to listen.
enum At {
    Address(ListenAddr),
    Name(String, u16),
}

/// The ports of one server.
pub(super) struct Ports {
    options: PortOptions,
    wanted: Vec<Wanted>,
    names: Resolver<Key>,
}

impl Ports {
    pub(super) fn new(options: PortOptions, bell: Bell) -> Ports {
        Ports { options, wanted: Vec::new(), names: Resolver::new(bell) }
    }

    /// The port is to be open from the next turn on.
    pub(super) fn open(&mut self, now_ms: i64, port: Port) {
        assert!(self.wanted.iter().all(|wanted| wanted.key.0 != port), "{port:?} is opened twice");
        let mut all: Vec<At> = Vec::new();
        for address in &self.options.own {
            let number = match port {
                Port::Election => address.election_port,
                Port::Quorum => address.quorum_port,
            };
            let at = match address.host.parse() {
                _ if self.options.on_all_ips => At::Address(ListenAddr::Any(number)),
                Ok(ip) => At::Address(ListenAddr::At(SocketAddr::new(ip, number))),
                Err(_) => At::Name(address.host.clone(), number),
            };
            let is_there = |other: &At| matches!((other, &at), (At::Address(a), At::Address(b)) if a == b);
            if !all.iter().any(is_there) {
                all.push(at);
            }
        }
        let wanted = all.into_iter().enumerate().map(|(place, at)| Wanted {
            key: (port, place),
            at,
            due_ms: Some(now_ms),
            pause_ms: FIRST_PAUSE_MS,
            failing: None,
            open: Vec::new(),
        });
        self.wanted.extend(wanted);
    }

    /// The port is closed at once.
    pub(super) fn close(&mut self, net: &mut Net, port: Port) {
        for wanted in self.wanted.extract_if(.., |wanted| wanted.key.0 == port) {
            wanted.open.iter().for_each(|(_, number)| net.remove_listener(*number));
        }
    }

    /// The port of a listener of [`Net`], if it is one of these.
    pub(super) fn of(&self, listener: usize) -> Option<Port> {
        let mut wanted = self.wanted.iter();
        wanted.find(|wanted| wanted.open.iter().any(|(_, number)| *number == listener)).map(|wanted| wanted.key.0)
    }

    /// Opens what is due.
    ///
    /// # Errors
    /// The server cannot take part in elections: no address of its election port could be bound for too long.
    pub(super) fn turn(&mut self, net: &mut Net, now_ms: i64) -> Result<(), String> {
        while let Some((key, found)) = self.names.answer() {
            let found = found.or_else(|e| self.where_others_elect(key).ok_or(e));
            // The port may have been closed meanwhile, and opened again, which waits for this answer, too.
            let Some(wanted) = self.wanted.iter_mut().find(|wanted| wanted.key == key && wanted.due_ms.is_none())
            else {
                continue;
            };
            let bound = match found {
                Ok(addresses) => wanted.bind(net, addresses.into_iter().map(ListenAddr::At), &self.options.listen),
                Err(e) => Err(format!("the name of this server's own server.N line cannot be looked up: {e}")),
            };
            wanted.after(now_ms, bound);
        }
        for wanted in self.wanted.iter_mut().filter(|wanted| wanted.due_ms.is_some_and(|at| at <= now_ms)) {
            match &wanted.at {
                At::Address(address) => {
                    let bound = wanted.bind(net, [*address], &self.options.listen);
                    wanted.after(now_ms, bound);
                }
                At::Name(host, port) => match self.names.look_up(wanted.key, &[(host.clone(), *port)]) {
                    Ok(()) => wanted.due_ms = None,
                    Err(e) => wanted.after(now_ms, Err(e.to_string())),
                },
            }
        }
        self.must_elect(now_ms)
    }

    /// Whether others reach this server at its election port.
    pub(super) fn is_heard(&self) -> bool {
        self.wanted.iter().any(|wanted| wanted.key.0 == Port::Election && !wanted.open.is_empty())
    }

    /// The addresses of the quorum port, as those of the election port were found. A server that was elected must not depend on a
    /// name service that fails now.
    fn where_others_elect(&self, (port, place): Key) -> Option<Vec<SocketAddr>> {
        let of = |key| self.wanted.iter().find(|wanted| wanted.key == key);
        let At::Name(_, number) = of((port, place))?.at else { return None };
        let bound = of((Port::Election, place))?.open.iter();
        let addresses: Vec<_> = bound
            .filter_map(|(bound, _)| match bound {
                ListenAddr::At(at) => Some(SocketAddr::new(at.ip(), number)),
                ListenAddr::Any(_) => None,
            })
            .collect();
        (!addresses.is_empty()).then_some(addresses)
    }

    fn must_elect(&self, now_ms: i64) -> Result<(), String> {
        let most_ms = i64::from(self.options.election_tries) * LONGEST_PAUSE_MS;
        let hopeless = |wanted: &Wanted| match &wanted.failing {
            Some((since, why)) if wanted.open.is_empty() && now_ms - since >= most_ms => Some(why.clone()),
            _ => None,
        };
        let election = self.wanted.iter().filter(|wanted| wanted.key.0 == Port::Election);
        match election.map(hopeless).collect::<Option<Vec<String>>>() {
            Some(whys) if most_ms > 0 && !whys.is_empty() => Err(format!(
                "this server cannot listen for elections: {} (electionPortBindRetry={}, 0 means for ever)",
                whys.join("; "),
                self.options.election_tries
            )),
            _ => Ok(()),
        }
    }

    /// When [`Ports::turn`] is due, in milliseconds of the monotonic clock. It is due whenever the bell has rung, too.
    pub(super) fn deadline_ms(&self) -> Option<i64> {
        let first = self.wanted.iter().filter_map(|wanted| wanted.due_ms).min();
        if self.names.is_idle() { first } else { Some(i64::MIN) }
    }

    /// As if its first name were being looked up: the test answers.
    #[cfg(test)]
    pub(super) fn hold_name(&mut self, port: Port) -> impl FnOnce(std::io::Result<Vec<SocketAddr>>) + use<> {
        self.names.hold((port, 0))
    }

    /// Whether all addresses of the port are open.
    #[cfg(test)]
    pub(super) fn is_open(&self, port: Port) -> bool {
        let mut of_port = self.wanted.iter().filter(|wanted| wanted.key.0 == port);
        of_port.all(|wanted| !wanted.open.is_empty() && wanted.due_ms.is_none())
    }
}

impl Wanted {
    /// Binds the addresses that are not bound yet. A name may have addresses that this host does not have: one that it has is
    /// enough.
    fn bind(
        &mut self,
        net: &mut Net,
        addresses: impl IntoIterator<Item = ListenAddr>,
        options: &ListenOptions,
    ) -> Result<(), String> {
        let (mut missing, mut failed) = (None, None);
        for address in addresses {
            if self.open.iter().any(|(bound, _)| *bound == address) {
                continue;
            }
            let bound = listen_now(address, options).map_err(|e| (is_missing(&e), e.to_string()));
            match bound.and_then(|socket| net.add_reserved_listener(socket).map_err(|e| (false, e.to_string()))) {
                Ok(number) => self.open.push((address, number)),
                Err((true, why)) => missing = Some(why),
                Err((false, why)) => failed = Some(why),
            }
        }
        let missing = missing.filter(|_| self.open.is_empty());
        failed.or(missing).map_or(Ok(()), Err)
    }

    fn after(&mut self, now_ms: i64, bound: Result<(), String>) {
        let port = self.key.0;
        let Err(why) = bound else {
            tracing::info!(?port, at = ?self.open, "listening for other servers");
            (self.due_ms, self.failing, self.pause_ms) = (None, None, FIRST_PAUSE_MS);
            return;
        };
        let since = self.failing.as_ref().map_or(now_ms, |(since, _)| *since);
        // The first tries usually fail because the kernel has not let go of the port yet.
        let is_new_name = self.failing.is_none() && matches!(self.at, At::Name(..));
        if self.pause_ms == LONGEST_PAUSE_MS || is_new_name {
            tracing::warn!(?port, why, for_ms = now_ms - since, "cannot listen for other servers; trying again");
        }
        self.failing = Some((since, why));
        self.due_ms = Some(now_ms + self.pause_ms);
        self.pause_ms = (self.pause_ms * 2).min(LONGEST_PAUSE_MS);
    }
}

/// Whether the host has no such address, or no such protocol.
fn is_missing(e: &BindError) -> bool {
    matches!(e.error.raw_os_error(), Some(libc::EADDRNOTAVAIL | libc::EAFNOSUPPORT))
}
