//! Applies committed transactions to the tree and puts them on the shards' streams. Mirrors
//! `FinalRequestProcessor.applyRequest` and `ZooKeeperServer.processTxn`.

use std::sync::Arc;

use super::commit::CommitQueue;
use super::local::LocalRequest;
use super::shared::{Doubt, Shared};
use super::status::arrived;
use super::{Outbox, Role, close};
use crate::pipeline::messages::{Entry, Event, Outcome, ToShard};
use crate::pipeline::prep::Proposal;
use crate::pipeline::reply::{AfterReply, put_write_reply};
use crate::proto::reply::put_reply;
use crate::tree::{Applied, Tree};
use crate::txn::Txn;
use crate::types::{ConnId, Now, Op, Origin, ShardId, Zxid};
use crate::watch::interest::Interest;

/// How far each shard is: the zxid as of which it answers reads.
pub trait Cursors {
    /// The cursor of `shard`.
    fn cursor(&self, shard: ShardId) -> Zxid;
}

impl Shared {
    /// See [`Peer::apply`](super::Peer::apply).
    pub(super) fn apply(
        &mut self,
        role: &mut Role,
        tree: &mut Tree,
        (cursors, interest): (&impl Cursors, &Interest),
        most: usize,
        now: Now,
        out: &mut Outbox,
    ) -> usize {
        let mut count = 0;
        // Taken out of `self` for this loop: a transaction is large, so it is applied without moving it.
        let mut commits = std::mem::replace(&mut self.commits, CommitQueue::new(Zxid::ZERO));
        while count < most {
            let Some(next) = commits.ready(count) else { break };
            let local = self.local.of(&next.header);
            if local.is_some_and(|l| l.behind_read && cursors.cursor(l.shard) < self.told[l.shard.index()]) {
                break;
            }
            self.apply_next(role, next, tree, interest, out);
            self.answer_syncs(tree.last_zxid(), out);
            count += 1;
            if matches!(self.doubts, Doubt::New(_)) && matches!(role, Role::Learning(_)) {
                break;
            }
        }
        // Of what a synchronisation has brought nobody knows how long it was on its way.
        if role.measures() {
            arrived(now, commits.headers().take(count), &mut self.stats.txns.applied);
        }
        commits.remove(count);
        self.commits = commits;
        if count > 0 {
            role.applied(tree.last_zxid(), self, out);
            self.answer_resumed(tree.last_zxid(), out);
        }
        self.image_turn(tree, out);
        count
    }

    fn answer_resumed(&mut self, applied: Zxid, out: &mut Outbox) {
        let due = self.resumed.extract_if(.., |(zxid, ..)| *zxid <= applied);
        out.to_shards.extend(due.map(|(_, shard, answer)| (shard, answer)));
    }

    fn apply_next(
        &mut self,
        role: &mut Role,
        proposal: &Proposal,
        tree: &mut Tree,
        interest: &Interest,
        out: &mut Outbox,
    ) {
        let local = self.local.take(&proposal.header);
        let header = proposal.header;
        let before = tree.last_zxid();
        assert!(before.precedes(header.zxid), "{} is applied after {before}", header.zxid);
        let mut events: Vec<Event> = Vec::new();
        let mut watching = 0u64;
        let applied = tree.apply_known(&header, &proposal.txn, proposal.prefix_crc, &mut |change| {
            let shards = interest.shards(change.path);
            if shards != 0 {
                watching |= shards;
                events.push(Event { event: change.event, path: Arc::from(change.path), acl: change.acl.clone() });
            }
        });
        assert_eq!(tree.last_zxid(), header.zxid, "the tree is as of another transaction than was applied");
        self.check_digest(proposal, tree);
        self.stats.applied(header.zxid, &proposal.txn, tree, matches!(role, Role::Learning(_)));
        let outcome = local.as_ref().map(|local| (local.shard, local.conn, outcome(local, proposal, &applied)));
        self.publish(header.zxid, outcome, events, watching, out);
        self.session_changed(role, proposal, local.as_ref(), out);
    }

    fn check_digest(&mut self, proposal: &Proposal, tree: &Tree) {
        if let Some(d) = proposal.digest
            && d.digest != tree.digest()
        {
            self.stats.digest_mismatches += 1;
            self.doubts = self.doubts.max(Doubt::New(proposal.header.zxid));
            debug_assert!(
                self.replicated.is_some(),
                "digest of {} predicted {:#x}, is {:#x}",
                proposal.header.zxid,
                d.digest,
                tree.digest()
            );
            tracing::error!(zxid = %proposal.header.zxid, predicted = d.digest, actual = tree.digest(),
                "tree digest differs from the logged one: please report this with the log");
        }
    }

    fn publish(
        &mut self,
        zxid: Zxid,
        mut outcome: Option<(ShardId, ConnId, Outcome)>,
        events: Vec<Event>,
        watching: u64,
        out: &mut Outbox,
    ) {
        // Usually nobody watches the changed znode; all such entries share one empty list.
        let events: Arc<[Event]> = if events.is_empty() { Arc::clone(&self.no_events) } else { Arc::from(events) };
        for shard in (0..self.options.shards as u32).map(ShardId) {
            let mine = outcome.take_if(|(asked, ..)| *asked == shard).map(|(_, conn, outcome)| (conn, outcome));
            if mine.is_none() && watching & (1 << shard.0) == 0 {
                continue;
            }
            if mine.is_some() {
                let told = &mut self.told[shard.index()];
                assert!(*told < zxid, "{shard:?} is told of {zxid} after {told}");
                *told = zxid;
            }
            let entry = Entry { zxid, outcome: mine, events: events.clone() };
            out.to_shards.push((shard, ToShard::Applied(entry)));
        }
        assert!(outcome.is_none(), "{zxid} was asked for by a shard that there is not");
    }

    /// Updates the session tables, and closes the connection of a session that was ended by the server or by another
    /// connection.
    fn session_changed(
        &mut self,
        role: &mut Role,
        proposal: &Proposal,
        local: Option<&LocalRequest>,
        out: &mut Outbox,
    ) {
        let session = proposal.header.session;
        match proposal.txn {
            Txn::CreateSession { timeout_ms } => {
                self.sessions.commit(session, timeout_ms);
                role.session_created(session, timeout_ms);
            }
            Txn::CloseSession { .. } => {
                let asked = local.map_or(Origin::Server, |l| Origin::Local { shard: l.shard, conn: l.conn });
                if let Some(owner) = role.session_closed(session).filter(|owner| *owner != asked) {
                    close(owner, out);
                }
                self.sessions.remove(session);
            }
            _ => {}
        }
    }
}

/// What the connection that sent the request gets.
fn outcome(local: &LocalRequest, proposal: &Proposal, applied: &Applied) -> Outcome {
    let Proposal { header, txn, .. } = proposal;
    let mut reply = Vec::with_capacity(128);
    if let Some(code) = local.refusal.filter(|_| header.op == Op::ERROR) {
        put_reply(&mut reply, header.cxid.0, header.zxid, code);
        return Outcome::Reply(reply);
    }
    match put_write_reply(&mut reply, local.op, header.cxid.0, header.zxid, txn, applied) {
        AfterReply::Keep => Outcome::Reply(reply),
        AfterReply::CloseAfterFlush => Outcome::Closed(reply),
        AfterReply::Close => Outcome::Closed(Vec::new()),
        AfterReply::Handshake => match *txn {
            Txn::CreateSession { timeout_ms } => Outcome::SessionCreated { session: header.session, timeout_ms },
            _ => unreachable!("{} is answered as a new session, but is {txn:?}", header.zxid),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::{Input, Peer, PeerOptions, SweepOptions};
    use crate::pipeline::WriteRequest;
    use crate::pipeline::messages::ToPeer;
    use crate::pipeline::prep::PrepOptions;
    use crate::session::LargeRequests;
    use crate::tree::TreeOptions;
    use crate::types::{Cxid, Now, ServerId, SessionId, Term};

    struct Everywhere;

    impl Cursors for Everywhere {
        fn cursor(&self, _: ShardId) -> Zxid {
            Zxid(i64::MAX)
        }
    }

    #[test]
    fn a_large_write_is_in_work_until_it_is_applied() {
        let (now, mut tree) = (Now::default(), Tree::new(TreeOptions::default()));
        let options = PeerOptions {
            me: ServerId(1),
            tick_ms: 2000,
            prep: PrepOptions::default(),
            sweep: SweepOptions { interval_ms: 0, max_per_minute: 1, max_never_used_ms: 0 },
            shards: 1,
        };
        let mut peer = Peer::new(options, &tree, &[], now);
        let mut out = Outbox::default();
        let gate = Arc::new(LargeRequests::new(1000, 10));
        let request = WriteRequest {
            session: SessionId(1),
            cxid: Cxid(1),
            op: Op::SET_DATA,
            body: bytes::Bytes::from_static(&[0; 100]),
            auth: [].into(),
            moved: false,
            origin: Origin::Local { shard: ShardId(0), conn: ConnId(1) },
        };
        let large = gate.admit(100, true).expect("there is room");
        let write = ToPeer::Write { request, behind_read: false, large };
        peer.handle(now, Input::FromShard(write), &tree, &mut out);
        let zxid = out.append.pop().expect("a refusal is logged too").zxid;
        let synced = Input::Synced { term: Term::default(), zxid, sync_ns: 1, records: 1, slow: false };
        peer.handle(now, synced, &tree, &mut out);
        assert_eq!(gate.in_work(), 100);
        assert_eq!(peer.apply(now, &mut tree, &Everywhere, &Interest::new(), 2, &mut out), 1);
        assert_eq!(gate.in_work(), 0);
    }
}
