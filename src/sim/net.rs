//! Connections between clients and servers: each has two byte streams, which are delivered in pieces of any size and
//! can break at any moment. Connections between servers need nothing else.

use std::collections::BTreeMap;

use crate::types::ConnId;

/// A server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct NodeId(pub u32);

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    /// The server.
    pub(super) node: NodeId,
    /// The shard that accepted it.
    pub(super) shard: usize,
    /// The client.
    pub(super) client: usize,
    /// The server has accepted it.
    pub(super) accepted: bool,
    /// Bytes on their way from client to server.
    pub(super) up: Vec<u8>,
    /// Number of bytes that the server has received.
    pub(super) received: u64,
    /// Bytes on their way from server to client.
    pub(super) down: Vec<u8>,
    /// The server has not closed it.
    pub(super) server_open: bool,
    /// The client has not closed it.
    pub(super) client_open: bool,
    /// The server's machine has lost power, so the client is not told that it is closed.
    pub(super) half_open: bool,
}

/// All connections.
#[derive(Debug, Default)]
pub(super) struct Net {
    links: BTreeMap<ConnId, Link>,
    last: u64,
}

impl Net {
    /// A client connects.
    pub(super) fn connect(&mut self, client: usize, node: NodeId, shard: usize) -> ConnId {
        self.last += 1;
        let link = Link {
            node,
            shard,
            client,
            accepted: false,
            up: Vec::new(),
            received: 0,
            down: Vec::new(),
            server_open: true,
            client_open: true,
            half_open: false,
        };
        self.links.insert(ConnId(self.last), link);
        ConnId(self.last)
    }

    /// The connection, if either end still has it.
    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// The connections of one shard of a server, oldest first.
    pub(super) fn of_shard(&self, node: NodeId, shard: usize) -> Vec<ConnId> {
        self.links
            .iter()
            .filter(|(_, l)| l.node == node && l.shard == shard && l.server_open)
            .map(|(id, _)| *id)
            .collect()
    }

    /// The server's process has ended. `keep` decides for each connection how many of the sent bytes still arrive. With
    /// `power`, its machine is off, and nobody is told.
    pub(super) fn server_gone(&mut self, node: NodeId, power: bool, mut keep: impl FnMut(usize) -> usize) {
        for link in self.links.values_mut().filter(|l| l.node == node && l.server_open) {
            link.server_open = false;
            link.half_open = power;
            link.up.clear();
            let left = keep(link.down.len());
            link.down.truncate(left);
        }
        self.forget();
    }

    /// The client closes its end.
    pub(super) fn client_closes(&mut self, id: ConnId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.client_open = false;
            link.down.clear();
        }
        self.forget();
    }

    /// The server closes its end; what it has sent still arrives.
    pub(super) fn server_closes(&mut self, id: ConnId) {
        if let Some(link) = self.links.get_mut(&id) {
            link.server_open = false;
            link.up.clear();
        }
        self.forget();
    }

    fn forget(&mut self) {
        self.links.retain(|_, l| l.server_open || l.client_open);
    }

    /// Whether no bytes are on their way to anybody who still wants them.
    pub(super) fn is_quiet(&self) -> bool {
        self.links.values().all(|l| (l.up.is_empty() || !l.server_open) && (l.down.is_empty() || !l.client_open))
    }
}
