//! `maxClientCnxns` and `maxCnxns`: the most connections from one address, and in all. Mirrors
//! `NIOServerCnxnFactory.doAccept` and `ServerCnxnFactory.limitTotalNumberOfCnxns`.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Mutex;

/// Counts the connections of all shards.
#[derive(Debug)]
pub struct ConnLimits {
    per_address: u32,
    total: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    by_address: HashMap<IpAddr, u32>,
    all: usize,
    refused: u64,
}

/// The limit that is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Full {
    /// `maxClientCnxns`.
    #[error("too many connections from this address: maxClientCnxns is {0}")]
    Address(u32),
    /// `maxCnxns`.
    #[error("too many connections: maxCnxns is {0}")]
    Total(usize),
}

impl ConnLimits {
    /// A limit of 0 means no limit.
    pub fn new(per_address: u32, total: usize) -> ConnLimits {
        ConnLimits { per_address, total, counts: Mutex::default() }
    }

    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        // A panic ends the process, so the lock is never found poisoned.
        self.counts.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Number of connections refused because of a limit.
    pub fn refused(&self) -> u64 {
        self.counts().refused
    }

    /// Counts a connection from `address`.
    ///
    /// # Errors
    /// A limit is reached. The connection is not counted.
    pub fn admit(&self, address: IpAddr) -> Result<(), Full> {
        let mut c = self.counts();
        if self.total != 0 && c.all >= self.total {
            c.refused += 1;
            return Err(Full::Total(self.total));
        }
        let n = c.by_address.entry(address).or_default();
        if self.per_address != 0 && *n >= self.per_address {
            c.refused += 1;
            return Err(Full::Address(self.per_address));
        }
        *n += 1;
        c.all += 1;
        Ok(())
    }

    /// An admitted connection has ended.
    pub fn release(&self, address: IpAddr) {
        let mut c = self.counts();
        c.all -= 1;
        if let Some(n) = c.by_address.get_mut(&address) {
            *n -= 1;
            if *n == 0 {
                c.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_limits() {
        let (a, b): (IpAddr, IpAddr) = ([127, 0, 0, 1].into(), [127, 0, 0, 2].into());
        let l = ConnLimits::new(2, 3);
        assert_eq!((l.admit(a), l.admit(a), l.admit(a)), (Ok(()), Ok(()), Err(Full::Address(2))));
        assert_eq!((l.admit(b), l.admit(b)), (Ok(()), Err(Full::Total(3))));
        l.release(a);
        assert_eq!(l.admit(b), Ok(()));
        assert!(ConnLimits::new(0, 0).admit(a).is_ok());
    }
}
