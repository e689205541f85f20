//! Looks up the names of servers. The C library's lookup may take half a minute, so each runs on a thread of its own.

use std::hash::Hash;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};

use hashbrown::HashSet;

use super::mailbox::{Bell, Receiver, Sender, mailbox};
use super::threads;

/// The answer of a lookup.
struct Found<K> {
    key: K,
    result: io::Result<Vec<SocketAddr>>,
}

/// All lookups of one core. `K` says whose they are; there is one at a time for each, so no more threads than servers wait for a
/// name service that is dead.
pub struct Resolver<K> {
    looking: HashSet<K>,
    answers: Receiver<Found<K>>,
    answer: Sender<Found<K>>,
}

impl<K: Copy + Eq + Hash + Send + 'static> Resolver<K> {
    /// `bell` wakes the core when there is an answer.
    pub fn new(bell: Bell) -> Resolver<K> {
        let (answer, answers) = mailbox(bell);
        Resolver { looking: HashSet::new(), answers, answer }
    }

    /// Looks up names. If a lookup for `key` is under way, its answer will do.
    ///
    /// # Errors
    /// No thread can be created.
    pub fn look_up(&mut self, key: K, hosts: &[(String, u16)]) -> io::Result<()> {
        if self.looking.contains(&key) {
            return Ok(());
        }
        let (hosts, answer) = (hosts.to_vec(), self.answer.clone());
        threads::start("resolve", move || answer.send(Found { key, result: find(&hosts) }))?;
        self.looking.insert(key);
        Ok(())
    }

    /// The next answer: every address of the names that were found, or the error of one if none was.
    pub fn answer(&mut self) -> Option<(K, io::Result<Vec<SocketAddr>>)> {
        let Found { key, result } = self.answers.pop()?;
        self.looking.remove(&key);
        Some((key, result))
    }

    /// Whether no answer waits.
    pub fn is_idle(&self) -> bool {
        self.answers.is_empty()
    }

    /// Whether a lookup for `key` is under way.
    #[cfg(test)]
    pub fn is_looking(&self, key: K) -> bool {
        self.looking.contains(&key)
    }

    /// As if a lookup for `key` were under way: the test answers it with what is returned.
    #[cfg(test)]
    pub fn hold(&mut self, key: K) -> impl FnOnce(io::Result<Vec<SocketAddr>>) + use<K> {
        self.looking.insert(key);
        let answer = self.answer.clone();
        move |result| answer.send(Found { key, result })
    }
}

/// A name that is not found does not matter if another one is.
fn find(hosts: &[(String, u16)]) -> io::Result<Vec<SocketAddr>> {
    let (mut all, mut error) = (Vec::new(), None);
    for (host, port) in hosts {
        match (host.as_str(), *port).to_socket_addrs() {
            Ok(found) => all.extend(found),
            Err(e) => error = Some(io::Error::new(e.kind(), format!("{host}: {e}"))),
        }
    }
    error.filter(|_| all.is_empty()).map_or(Ok(all), Err)
}
