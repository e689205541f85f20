//! Snapshots: made while serving, asked for, answered.

use super::*;

/// The parts of a snapshot since.
fn parts(w: &mut World) -> (usize, usize, usize) {
    let mut counts = (0, 0, 0);
    for part in std::mem::take(&mut w.mail.snapshot) {
        match part {
            SnapshotPart::Begin { .. } => counts.0 += 1,
            SnapshotPart::Nodes(nodes) => counts.1 += nodes.len(),
            SnapshotPart::End => counts.2 += 1,
            SnapshotPart::Abandon | SnapshotPart::Forget(_) => panic!("nothing replaces this tree"),
        }
    }
    counts
}

#[test]
fn a_snapshot_is_made_piece_by_piece_as_fast_as_it_is_written() {
    let mut tree = Tree::new(TreeOptions::default());
    for i in 1..=9000 {
        let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid: Zxid(i), time_ms: 0, op: Op::CREATE };
        let data = Some(Bytes::from(vec![b'x'; 1000]));
        tree.apply(&header, &Txn::Create(CreateTxn { data, ..plain(&format!("/{i}")) }), &mut |_| ());
    }
    let mut w = World::on(tree, &[(SessionId(9), 4000)]);
    w.hear(Input::SnapshotDue);
    assert!(w.peer().has_work() && !w.peer().is_idle());
    let Some(SnapshotPart::Begin { zxid: Zxid(9000), sessions, digest: Some(digest), .. }) = w.mail.snapshot.front()
    else {
        panic!()
    };
    assert_eq!((&sessions[..], digest.digest), (&[(SessionId(9), 4000)][..], w.tree.read().digest()));
    // Requested again meanwhile: one snapshot is enough.
    w.hear(Input::SnapshotDue);
    while w.peer().has_work() {
        w.turn();
    }
    let (begun, bytes, ended) = parts(&mut w);
    assert_eq!((begun, ended), (1, 0));
    assert!((limits::IMAGE_BACKLOG..limits::IMAGE_BACKLOG + 2 * limits::IMAGE_CHUNK).contains(&bytes), "{bytes}");
    // The tree changes while the remaining pieces wait.
    let session = w.session(A);
    w.create(A, session, "/later", 0);
    w.settle();
    let mut taken = bytes;
    let mut total = bytes;
    loop {
        w.hear(Input::SnapshotTook(taken));
        while w.peer().has_work() {
            w.turn();
        }
        let (begun, bytes, ended) = parts(&mut w);
        assert_eq!(begun, 0);
        (taken, total) = (bytes, total + bytes);
        if ended == 1 {
            break;
        }
    }
    assert!(total > 9_000_000);
    assert!(!w.peer().is_idle());
    w.hear(Input::SnapshotTook(taken));
    w.hear(Input::SnapshotDone { zxid: Zxid(9000), took_ms: 5 });
    assert!(w.peer().is_idle());
    let last = w.peer().status(&w.tree.read()).last_snapshot;
    assert_eq!(last.map(|s| s.zxid), Some(Zxid(9000)));
    w.hear(Input::SnapshotDue);
    assert_eq!(parts(&mut w).0, 1, "the next one");
}

/// Makes and writes the pieces of a snapshot; returns its zxid.
fn write_snapshot(w: &mut World) -> Zxid {
    let mut zxid = None;
    loop {
        match w.mail.snapshot.pop_front() {
            Some(SnapshotPart::Begin { zxid: begun, .. }) => zxid = Some(begun),
            Some(SnapshotPart::Nodes(nodes)) => w.hear(Input::SnapshotTook(nodes.len())),
            Some(SnapshotPart::End) => return zxid.unwrap(),
            Some(SnapshotPart::Abandon | SnapshotPart::Forget(_)) => panic!("nothing replaces this tree"),
            None => {
                assert!(w.peer().has_work(), "no snapshot is made");
                w.turn();
            }
        }
    }
}

fn answers(w: &mut World) -> Vec<(u64, Zxid)> {
    w.mail.snapshot_answers.drain(..).map(|a| (a.ticket.0, a.result.unwrap())).collect()
}

#[test]
fn who_asks_for_a_snapshot_is_answered_when_one_of_all_that_was_applied_is_durable() {
    let mut w = World::new();
    let session = w.session(A);
    w.hear(Input::SnapshotAsked(SnapshotTicket(1)));
    let first = write_snapshot(&mut w);
    assert_eq!((first, answers(&mut w)), (w.applied(), vec![]), "it is not durable yet");
    // Nothing was applied since then, so the same snapshot will do.
    w.hear(Input::SnapshotAsked(SnapshotTicket(2)));
    w.create(A, session, "/later", 0);
    w.settle();
    // This snapshot must contain more.
    w.hear(Input::SnapshotAsked(SnapshotTicket(3)));
    w.hear(Input::SnapshotDone { zxid: first, took_ms: 5 });
    assert_eq!(answers(&mut w), [(1, first), (2, first)]);
    let second = write_snapshot(&mut w);
    assert_eq!(second, w.applied());
    w.hear(Input::SnapshotDone { zxid: second, took_ms: 5 });
    assert_eq!(answers(&mut w), [(3, second)]);
    assert!(w.peer().is_idle());
}

#[test]
fn only_so_many_wait_for_a_snapshot() {
    let mut w = World::new();
    (0..=limits::SNAPSHOTS_ASKED as u64).for_each(|n| w.hear(Input::SnapshotAsked(SnapshotTicket(n))));
    let ticket = SnapshotTicket(limits::SNAPSHOTS_ASKED as u64);
    assert_eq!(w.mail.snapshot_answers, [SnapshotAnswer { ticket, result: Err(SnapshotRefused::TooMany) }]);
    w.mail.snapshot_answers.clear();
    let zxid = write_snapshot(&mut w);
    w.hear(Input::SnapshotDone { zxid, took_ms: 5 });
    assert_eq!(answers(&mut w).len(), limits::SNAPSHOTS_ASKED);
}
