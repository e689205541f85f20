//! Connections between clients and servers: two byte streams each, delivered in pieces of any size, cut at any moment. A
//! network for servers among themselves needs nothing else.

use std::collections::BTreeMap;

use crate::types::ConnId;

/// A server.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct NodeId(pub u32);

/// One connection.
#[derive(Debug)]
pub(super) struct Link {
    /// The server's end.
    pub(super) node: NodeId,
    /// The shard that accepted it.
    pub(super) shard: usize,
    /// The client's end.
    pub(super) client: usize,
    /// The server was told of it.
    pub(super) accepted: bool,
    /// Client to server, under way.
    pub(super) up: Vec<u8>,
    /// Bytes the server has got.
    pub(super) received: u64,
    /// Server to client, under way.
    pub(super) down: Vec<u8>,
    /// The server still holds its end.
    pub(super) server_open: bool,
    /// The client still holds its end.
    pub(super) client_open: bool,
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
        };
        self.links.insert(ConnId(self.last), link);
        ConnId(self.last)
    }

    /// A connection, if either end still knows it.
    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    /// Connections of one shard of a server, oldest first.
    pub(super) fn of_shard(&self, node: NodeId, shard: usize) -> Vec<ConnId> {
        self.links
            .iter()
            .filter(|(_, l)| l.node == node && l.shard == shard && l.server_open)
            .map(|(id, _)| *id)
            .collect()
    }

    /// The server's process is gone: of what it had sent, `keep` says how many bytes still arrive.
    pub(super) fn server_gone(&mut self, node: NodeId, mut keep: impl FnMut(usize) -> usize) {
        for link in self.links.values_mut().filter(|l| l.node == node && l.server_open) {
            link.server_open = false;
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

    /// The server closes its end; what it sent still arrives.
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

    /// Whether bytes are under way that somebody still wants.
    pub(super) fn is_quiet(&self) -> bool {
        self.links.values().all(|l| (l.up.is_empty() || !l.server_open) && (l.down.is_empty() || !l.client_open))
    }
}
