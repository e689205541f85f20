//! What a start finds, and what the server does by itself later.

use super::*;
use crate::types::Epoch;
use crate::types::stat::owner::ExtendedTypes;

#[test]
fn a_start_closes_sessions_that_nobody_knows() {
    let mut tree = Tree::new(TreeOptions::default());
    for (zxid, session) in [(1, 5), (2, 6), (3, 5)] {
        let header =
            TxnHeader { session: SessionId(session), cxid: Cxid(0), zxid: Zxid(zxid), time_ms: 0, op: Op::CREATE };
        let txn = CreateTxn { kind: CreateKind::Plain { ephemeral: true }, ..plain(&format!("/e{zxid}")) };
        tree.apply(&header, &Txn::Create(txn), &mut |_| ());
    }
    let mut w = World::on(tree, &[(SessionId(6), 4000)]);
    w.turn.start(w.now, &w.tree, &mut w.mail);
    w.after_step();
    let [(header, Txn::CloseSession { .. })] = &w.proposed()[..] else { panic!() };
    assert_eq!(header.session, SessionId(5));
    assert!(w.settle().is_empty());
    assert_eq!(["/e1", "/e2", "/e3"].map(|p| w.is_there(p)), [false, true, false]);
    // The session from recovery has its full timeout again.
    assert_eq!(w.turn.deadline(), Some(106_000 + i64::from(TICK / 4)));
}

#[test]
fn a_start_after_the_last_zxid_of_an_epoch_begins_the_next() {
    let mut w = World::on(tree_at(Zxid::new(Epoch(1), u32::MAX)), &[]);
    w.begin(A);
    assert_eq!(w.proposed()[0].0.zxid, Zxid::new(Epoch(2), 1));
    assert_eq!(w.settle().len(), 1);
}

#[test]
fn the_sweep_proposes_no_faster_than_it_may() {
    let mut tree = Tree::new(TreeOptions {
        extended: ExtendedTypes { enabled: true, emulate_353: false },
        ..TreeOptions::default()
    });
    let mut zxid = 0;
    let mut apply = |txn: Txn, op: Op| {
        zxid += 1;
        let header = TxnHeader { session: SessionId(1), cxid: Cxid(0), zxid: Zxid(zxid), time_ms: 0, op };
        tree.apply(&header, &txn, &mut |_| ());
    };
    for i in 0..5 {
        let path = format!("/c{i}");
        apply(Txn::Create(CreateTxn { kind: CreateKind::Container, ..plain(&path) }), Op::CREATE_CONTAINER);
        apply(Txn::Create(plain(&format!("{path}/x"))), Op::CREATE);
        if i != 3 {
            apply(Txn::Delete { path: format!("{path}/x") }, Op::DELETE);
        }
    }
    let mut w = World::on(tree, &[]);
    w.tick_at(159_999);
    assert!(w.proposed().is_empty());
    // 600 a minute: one each 100 ms.
    let mut at = 160_000;
    for i in 1..=4 {
        w.tick_at(at);
        let [(header, Txn::Delete { .. })] = &w.proposed()[..] else { panic!("{i}") };
        assert_eq!((header.op, header.session), (Op::DELETE_CONTAINER, SessionId::NONE));
        let next = w.turn.deadline().unwrap();
        assert_eq!(next - at, if i == 4 { 60_000 } else { 100 });
        at = next;
    }
    assert!(w.settle().is_empty(), "nobody asked");
    assert_eq!((w.tree.read().container_count(), w.is_there("/c3")), (1, true));
}
