//! A shard on its core: moves bytes between [`ShardTurn`] and the sockets, and messages between it and the mailboxes.
//! The order of work is decided in `ShardTurn`.

use std::collections::VecDeque;
use std::net::IpAddr;

use hashbrown::HashMap;

use super::clock::Clock;
use super::fatal::fatal;
use super::mailbox::Receiver;
use super::net::{Close, Net, NetEvent};
use super::peer_net::PeerNet;
use super::shared::{PeerMail, ShardCommand, ShardMail, Shared, WordRequest};
use crate::config::ExitCode;
use crate::peer::Input;
use crate::peer::turn::TreeAccess;
use crate::pipeline::messages::{ToPeer, ToShard};
use crate::shard::turn::{Letter, Links, ShardTurn, SocketEvent, Sockets};
use crate::shard::{CloseHow, Shard};
use crate::types::{CLIENT_LOG, ConnId, Now, ShardId, Zxid};

/// A shard and everything that belongs to it on its core.
pub(super) struct ShardCore {
    number: ShardId,
    turn: ShardTurn,
    clients: Clients,
    mail: Mail,
}

/// Messages to the shard.
struct Mail {
    inbox: Receiver<ShardMail>,
    /// The stream from a peer core on the same core, which needs no mailbox.
    stream: VecDeque<ToShard>,
    /// Commands, handled after the turn.
    commands: Vec<ShardCommand>,
}

/// The addresses of the clients, for the limits on connections.
#[derive(Default)]
struct Clients {
    addresses: HashMap<ConnId, IpAddr>,
    refused: Vec<ConnId>,
}

impl ShardCore {
    pub(super) fn new(number: ShardId, shard: Shard, inbox: Receiver<ShardMail>) -> ShardCore {
        ShardCore {
            number,
            turn: ShardTurn::new(shard),
            clients: Clients::default(),
            mail: Mail { inbox, stream: VecDeque::new(), commands: Vec::new() },
        }
    }

    /// Runs one turn. `peer` is of a peer on the same core: its inbox, and its connections to other servers. Returns `None`
    /// to stop, else whether there was work.
    pub(super) fn turn(
        &mut self,
        now: Now,
        net: &mut Net,
        shared: &Shared,
        peer: Option<(&mut VecDeque<ToPeer>, Option<&mut PeerNet>)>,
    ) -> Option<bool> {
        let ShardCore { number, turn, clients, mail } = self;
        let (peer, peers) = peer.map_or((None, None), |(inbox, peers)| (Some(inbox), peers));
        let mut links = ShardLinks { number: *number, mail, shared, peer };
        let mut sockets = ClientSockets { net, peers, clients, shared };
        let busy = turn.turn(now, shared.tree.read(), &mut sockets, &mut links);
        if turn.shard().has_unmeasured_reads() {
            turn.shard_mut().measure_reads(Clock::mono_ns().saturating_sub(now.mono_ns) / 1000);
        }
        let commands = !mail.commands.is_empty();
        for command in mail.commands.drain(..) {
            match command {
                // The administrator may have stopped waiting.
                ShardCommand::Status { with_connections, reply } => {
                    drop(reply.send(turn.shard().status(with_connections)));
                }
                ShardCommand::Watches { from, reply } => drop(reply.send(turn.shard().list_watches(from))),
                ShardCommand::ResetStats { metrics } => turn.shard_mut().reset_stats(metrics),
                ShardCommand::ResetConnectionStats => turn.shard_mut().reset_connection_stats(),
                ShardCommand::Stop => return None,
            }
        }
        Some(busy || commands)
    }

    /// The shard's number and the stream to it, for a peer core on the same core.
    pub(super) fn stream(&mut self) -> (ShardId, &mut VecDeque<ToShard>) {
        (self.number, &mut self.mail.stream)
    }

    /// Whether no message waits.
    pub(super) fn is_idle(&self) -> bool {
        self.mail.stream.is_empty() && self.mail.inbox.is_empty()
    }

    /// When it needs a turn because of a timer, in milliseconds of the monotonic clock.
    pub(super) fn deadline(&self) -> Option<i64> {
        self.turn.deadline()
    }
}

/// How a shard reaches the other cores.
struct ShardLinks<'a> {
    number: ShardId,
    mail: &'a mut Mail,
    shared: &'a Shared,
    peer: Option<&'a mut VecDeque<ToPeer>>,
}

impl Links for ShardLinks<'_> {
    fn next(&mut self) -> Option<Letter> {
        if let Some(message) = self.mail.stream.pop_front() {
            return Some(Letter::Stream(message));
        }
        loop {
            match self.mail.inbox.pop()? {
                ShardMail::Letter(letter) => return Some(letter),
                ShardMail::Command(command) => self.mail.commands.push(command),
            }
        }
    }

    fn moved_on(&mut self, cursor: Zxid) {
        self.shared.moved_on(self.number, cursor);
    }

    fn submit(&mut self, messages: &mut Vec<ToPeer>) {
        match &mut self.peer {
            // The peer has taken everything it was given before, so the lists are swapped and no message is moved.
            Some(inbox) if inbox.is_empty() => {
                let empty = std::mem::take(*inbox);
                **inbox = std::mem::take(messages).into();
                *messages = empty.into();
            }
            Some(inbox) => inbox.extend(messages.drain(..)),
            None => {
                let mail = messages.drain(..).map(|message| PeerMail::Input(Input::FromShard(message)));
                self.shared.peer.send_all(mail);
            }
        }
    }

    fn word(&mut self, conn: ConnId, word: &'static str, argument: i64) {
        // Cannot fail: the thread that answers the words lives as long as the process.
        let _ = self.shared.words.send(WordRequest { shard: self.number, conn, word, argument });
    }
}

/// The core's sockets as the shard sees them, after the limits on connections were applied.
struct ClientSockets<'a> {
    net: &'a mut Net,
    /// The other connections of this core, if it runs the peer of an ensemble.
    peers: Option<&'a mut PeerNet>,
    clients: &'a mut Clients,
    shared: &'a Shared,
}

impl ClientSockets<'_> {
    fn release(&mut self, conn: ConnId) {
        if let Some(address) = self.clients.addresses.remove(&conn) {
            self.shared.conn_limits.release(address);
        }
    }
}

impl Sockets for ClientSockets<'_> {
    fn reap(&mut self, f: &mut impl FnMut(SocketEvent<'_>)) {
        let ClientSockets { net, peers, clients, shared } = self;
        let Clients { addresses, refused } = &mut **clients;
        let mut of_client = |event: NetEvent<'_>| match event {
            NetEvent::Data { conn, bytes } => f(SocketEvent::Data { conn, bytes }),
            NetEvent::Accepted { conn, peer, .. } => match shared.conn_limits.admit(peer.ip()) {
                Ok(()) => {
                    addresses.insert(conn, peer.ip());
                    f(SocketEvent::Accepted { conn, peer });
                }
                Err(reason) => {
                    tracing::warn!(target: CLIENT_LOG, %peer, %reason, "refusing a connection");
                    refused.push(conn);
                }
            },
            NetEvent::Eof { conn } => f(SocketEvent::Eof { conn }),
            NetEvent::Closed { conn, .. } => {
                if let Some(address) = addresses.remove(&conn) {
                    shared.conn_limits.release(address);
                }
                f(SocketEvent::Closed { conn });
            }
            NetEvent::Writable { conn } => f(SocketEvent::Writable { conn }),
            other => say(&other),
        };
        match peers {
            None => net.reap(&mut of_client),
            Some(peers) => net.reap(&mut |event| {
                if let Some(event) = peers.hear(event) {
                    of_client(event);
                }
            }),
        };
        for conn in refused.drain(..) {
            net.close(conn, Close::Graceful);
        }
    }

    fn out(&mut self, conn: ConnId) -> &mut Vec<u8> {
        self.net.out(conn)
    }

    fn queued(&self, conn: ConnId) -> usize {
        self.net.queued(conn)
    }

    fn want_writable(&mut self, conn: ConnId) {
        self.net.want_writable(conn);
    }

    fn pause(&mut self, conn: ConnId, paused: bool) {
        if paused { self.net.pause_recv(conn) } else { self.net.resume_recv(conn) }
    }

    fn close(&mut self, conn: ConnId, how: CloseHow) {
        let how = match how {
            CloseHow::Flush => Close::Graceful,
            CloseHow::Abort => Close::Abort,
        };
        self.net.close(conn, how);
        self.release(conn);
    }

    fn flush(&mut self) {
        if let Err(error) = self.net.flush() {
            fatal(ExitCode::Unexpected, format!("{} fails: {error}", self.net.backend()));
        }
    }
}

/// Logs an event that belongs to no connection.
pub(super) fn say(event: &NetEvent<'_>) {
    match event {
        NetEvent::Refused { peer } => {
            tracing::warn!(target: CLIENT_LOG, %peer, "refusing a connection: no room for it");
        }
        NetEvent::AcceptFailed { error, .. } => {
            tracing::error!(target: CLIENT_LOG, %error, "cannot accept connections");
        }
        // Where clients reconnect as fast as others leave, this happens several times a second.
        NetEvent::AcceptPaused { descriptors, .. } => tracing::warn!(
            target: CLIENT_LOG,
            "connections take {descriptors} file descriptors, the rest of RLIMIT_NOFILE is for files: no more are accepted \
             until some are closed; raise the limit (LimitNOFILE in the systemd unit) or set maxCnxns"
        ),
        NetEvent::AcceptResumed { .. } => {
            tracing::info!(target: CLIENT_LOG, "accepting connections again");
        }
        // A shard makes no outgoing connections.
        _ => {}
    }
}
