//! A member that finds no leader and lets clients read.

use super::*;
use crate::txn::TxnDigest;

const AFTER_MS: i64 = 2000;

/// A session that was there before.
const GLOBAL: SessionId = SessionId(0x0100_0000_0000_0007);

impl Observer {
    /// A member that will serve reads; `local`: with `localSessionsEnabled`.
    fn that_may_read(local: bool) -> Observer {
        let ensemble = EnsembleOptions { read_only_after_ms: Some(AFTER_MS), ..ensemble() };
        let options = local.then_some(LocalSessionOptions { upgrading: true });
        Observer::set_up(Zxid::ZERO, ensemble, &[(GLOBAL, 4000)], |peer, now| peer.with_local_sessions(options, now))
    }

    /// It has looked for a leader long enough.
    fn reads(&mut self) {
        self.work();
        self.w.now.mono_ms += AFTER_MS;
        self.turns();
        assert_eq!(self.mode(), Mode::ReadOnly);
        self.forget();
    }

    fn mode(&self) -> Mode {
        self.w.peer().status(&self.w.tree.read()).role.mode
    }

    fn served(&self, service: Service) -> usize {
        self.told.iter().filter(|(_, told)| matches!(told, ToShard::Serve(s) if *s == service)).count()
    }

    fn suspended(&self) -> usize {
        self.told.iter().filter(|(_, told)| matches!(told, ToShard::Suspend)).count()
    }
}

#[test]
fn it_lets_clients_read_when_it_has_looked_for_a_leader_for_a_while() {
    let mut o = Observer::that_may_read(false);
    o.work();
    let began_ms = o.w.now.mono_ms;
    loop {
        o.w.now.mono_ms = o.w.turn.deadline().expect("it will let clients read").min(began_ms + AFTER_MS);
        if o.w.now.mono_ms == began_ms + AFTER_MS {
            break;
        }
        o.turns();
        assert_eq!((o.mode(), o.served(Service::ReadOnly)), (Mode::Looking, 0));
    }
    o.turns();
    assert_eq!((o.served(Service::ReadOnly), o.w.peer().term()), (2, Term(0)), "both shards");
    let role = o.w.peer().status(&o.w.tree.read()).role;
    assert_eq!((role.mode, role.peer_state().as_str()), (Mode::ReadOnly, "looking"));
    assert!(role.is_running && role.serves_clients && role.leader.is_none());
    // The election went on all the time.
    o.forget();
    o.elect();
    assert_eq!((o.suspended(), o.w.peer().term()), (2, Term(1)), "its clients are disconnected");
    assert_eq!(o.wanted, [format!("1 Dial {{ leader: {LEADER:?} }}")]);
    assert_eq!((o.mode(), o.served(Service::Ensemble)), (Mode::Observer, 0), "nothing is served until it is in step");
    o.reach();
    o.get_in_step();
    // Without a leader again, it waits as long again.
    o.quorum(QuorumEvent::Closed { conn: QUORUM });
    o.work();
    o.w.now.mono_ms += AFTER_MS - 1;
    o.turns();
    assert_eq!((o.mode(), o.served(Service::ReadOnly)), (Mode::Looking, 0));
    o.w.now.mono_ms += 1;
    o.turns();
    assert_eq!((o.mode(), o.served(Service::ReadOnly)), (Mode::ReadOnly, 2));
}

#[test]
fn without_the_setting_it_serves_nobody_without_a_leader() {
    let mut o = Observer::new();
    for _ in 0..10 {
        o.work();
        o.w.now.mono_ms += AFTER_MS;
    }
    assert_eq!((o.mode(), o.served(Service::ReadOnly)), (Mode::Looking, 0));
}

#[test]
fn sessions_of_clients_that_read_are_known_to_this_server_only() {
    for local in [false, true] {
        let mut o = Observer::that_may_read(local);
        o.reads();
        let session = o.local(A);
        assert_eq!((session.0 >> 56, o.local_sessions(), o.w.sessions()), (ME.0, 1, 1));
        // It goes on on another connection, if the password is right.
        o.resume(B, session, true);
        let [(_, ToShard::Close { conn }), (_, ToShard::Resumed { conn: new, session: Some((same, 6000)) })] =
            o.told[..]
        else {
            panic!("{:?}", o.told)
        };
        assert_eq!((conn, new, same), (A.conn, B.conn, session));
        o.forget();
        o.resume(C, session, false);
        assert!(
            matches!(o.told[..], [(_, ToShard::Resumed { session: None, .. }), (_, ToShard::Close { conn })] if conn == B.conn),
            "{:?}",
            o.told
        );
        // No session of the ensemble does, with whatever password: nobody can be asked. Of others it is known that they ended.
        for passwd_matches in [true, false] {
            o.forget();
            o.resume(C, GLOBAL, passwd_matches);
            assert!(matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == C.conn), "{:?}", o.told);
        }
        o.forget();
        o.resume(C, SessionId(GLOBAL.0 + 1), true);
        assert!(matches!(o.told[..], [(_, ToShard::Resumed { session: None, .. })]), "{:?}", o.told);
        // Its client ends it; who is not its client any more does not.
        o.forget();
        o.close(A, session, 1);
        assert!(matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == A.conn), "{:?}", o.told);
        o.forget();
        o.close(B, session, 2);
        assert!(matches!(o.told[..], [(_, ToShard::Closed { conn, .. })] if conn == B.conn), "{:?}", o.told);
        assert_eq!((o.local_sessions(), o.w.sessions()), (0, 1));
        assert!(o.said.is_empty() && o.w.appends.is_empty(), "no leader is asked and nothing is logged");
    }
}

#[test]
fn a_session_of_a_client_that_reads_expires() {
    let mut o = Observer::that_may_read(false);
    o.reads();
    let (_, heard) = (o.local(A), o.local(B));
    let begin_ms = o.w.now.mono_ms;
    o.w.now.mono_ms += 4000;
    o.shard(ToPeer::Touch { session: heard, heard_ms: begin_ms + 4000 });
    while o.local_sessions() == 2 {
        assert!(o.w.now.mono_ms < begin_ms + 4000 + 2 * i64::from(TICK), "it never expires");
        o.w.now.mono_ms = o.w.turn.deadline().expect("a session may expire");
        o.turns();
    }
    assert!(matches!(o.told[..], [(_, ToShard::Close { conn })] if conn == A.conn), "{:?}", o.told);
    assert_eq!(o.w.sessions(), 1, "sessions of the ensemble do not expire without a leader");
}

#[test]
fn nothing_that_its_clients_said_outlives_it() {
    for local in [false, true] {
        let mut o = Observer::that_may_read(local);
        o.reads();
        let session = o.local(A);
        // What arrives with the votes is said before the shards have disconnected anybody.
        o.votes();
        let Client { shard, conn } = B;
        let late = ToPeer::NewSession { shard, conn, timeout_ms: 4000, auth: [].into() };
        o.w.mail.inbox.push_back(Input::FromShard(late));
        o.turns();
        assert_eq!((o.mode(), o.local_sessions(), o.suspended()), (Mode::Observer, 0, 2));
        assert!(!o.told.iter().any(|(_, told)| matches!(told, ToShard::Resumed { .. })), "{:?}", o.told);
        // The leader knows nothing of the session.
        o.reach();
        o.get_in_step();
        o.resume(C, session, true);
        assert_eq!(o.said, [format!("revalidate {session} 6000")]);
        // New sessions are local ones again only if the ensemble has them.
        o.forget();
        o.shard(ToPeer::NewSession { shard, conn, timeout_ms: 4000, auth: [].into() });
        assert_eq!((o.local_sessions(), o.said.len()), if local { (1, 0) } else { (0, 1) });
    }
}

/// What it says of its history when it has a leader again is not changed by that it served reads.
#[test]
fn its_history_is_the_same_after_it_served_reads() {
    let mut o = Observer::that_may_read(false);
    o.join();
    o.inform(z(1), &create(z(1), SessionId(7), 1, "/1"));
    o.quorum(QuorumEvent::Closed { conn: QUORUM });
    o.reads();
    let session = o.local(A);
    o.close(A, session, 1);
    assert!(matches!(o.told.last(), Some((_, ToShard::Closed { zxid, .. })) if *zxid == z(1)), "{:?}", o.told);
    assert_eq!((o.w.applied(), o.w.is_there("/1")), (z(1), true));
    o.said.clear();
    o.elect();
    o.reach();
    assert!(
        o.said.last().is_some_and(|ack| ack.starts_with("AckEpoch") && ack.contains(&format!("{:?}", z(1)))),
        "{:?}",
        o.said
    );
}

/// A tree that is known to be another one than the leader's is shown to nobody.
#[test]
fn a_server_that_distrusts_its_tree_lets_nobody_read() {
    let mut o = Observer::that_may_read(false);
    o.join();
    let mut wrong = create(z(1), SessionId(7), 1, "/1");
    TxnDigest { version: TxnDigest::VERSION, digest: 77 }.put(&mut wrong);
    o.inform(z(1), &wrong);
    assert_eq!(o.mode(), Mode::Looking);
    o.w.now.mono_ms += 10 * AFTER_MS;
    o.work();
    assert_eq!((o.mode(), o.served(Service::ReadOnly)), (Mode::Looking, 0));
}
