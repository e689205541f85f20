//! Watch events and what they stand before.

use super::*;
use crate::proto::request::SetWatches;

#[test]
fn an_event_comes_before_what_shows_the_change() {
    let mut w = World::new();
    w.open(1);
    w.open(2);
    w.send(1, &get(1, "/a", true));
    w.send(1, &set(2, "/a"));
    w.send(1, &get(3, "/a", false));
    w.output(1);
    let event = Event { event: EventType::NodeDataChanged, path: "/a".into(), acl: None };
    let outcome = Some((ConnId(1), Outcome::Reply(World::reply(2, 3))));
    w.apply(3);
    w.handle(Input::Stream(ToShard::Applied(Entry { zxid: Zxid(3), outcome, events: [event].into() })));
    w.handle(Input::Drained);
    let got = w.got(1);
    assert_eq!(got.iter().map(|g| g.xid).collect::<Vec<_>>(), [-1, 2, 3]);
    assert_eq!((got[0].zxid, &got[0].body[..8]), (3, &[0, 0, 0, 3, 0, 0, 0, 3][..]));
    w.event(4, EventType::NodeDataChanged, "/a", None);
    assert!(w.got(1).is_empty() && w.got(2).is_empty(), "it was for once, and of one connection");
}

#[test]
fn who_may_not_read_is_not_told_but_has_spent_the_watch() {
    let mut w = World::new();
    w.open(1);
    let denied: SharedAcl = Some(Arc::from([Acl { perms: perms::ALL & !perms::READ, id: Id::world() }]));
    let mine: SharedAcl = Some(Arc::from([Acl { perms: perms::READ, id: Id::new("ip", "10.0.0.1") }]));
    for (acl, told) in [(denied, 0), (mine, 1), (None, 1)] {
        w.send(1, &get(1, "/a", true));
        w.output(1);
        w.event(3, EventType::NodeDataChanged, "/a", acl);
        assert_eq!(w.got(1).len(), told);
        w.event(4, EventType::NodeDataChanged, "/a", None);
        assert!(w.got(1).is_empty());
    }
}

#[test]
fn set_watches_tells_what_happened_before_its_reply() {
    let mut w = World::new();
    w.open(1);
    let list = |paths: &[&str]| paths.iter().map(|path| (*path).to_owned()).collect();
    let watches = SetWatches {
        relative_zxid: Zxid(1),
        data: list(&["/big", "/a", "/gone"]),
        exist: list(&["/a", "/none"]),
        child: list(&["/a"]),
        ..SetWatches::default()
    };
    let bytes = request(xid::SET_WATCHES, Op::SET_WATCHES, &Request::SetWatches(watches));
    w.send(1, &bytes);
    let told: Vec<(i32, i64, i32)> =
        w.got(1).iter().map(|g| (g.xid, g.zxid, g.body.get(3).map_or(0, |b| i32::from(*b)))).collect();
    // /big is newer than zxid 1, /gone does not exist any more, /a exists: created.
    assert_eq!(told, [(-1, -1, 3), (-1, -1, 2), (-1, -1, 1), (-8, 2, 0)]);
    w.event(3, EventType::NodeDataChanged, "/a", None);
    w.event(3, EventType::NodeCreated, "/none", None);
    w.event(3, EventType::NodeChildrenChanged, "/a", None);
    w.event(3, EventType::NodeDataChanged, "/big", None);
    assert_eq!(w.got(1).len(), 3, "what was not told is armed");
}

#[test]
fn no_event_reaches_a_connection_that_ends() {
    let mut w = World::new();
    w.open(1);
    w.send(1, &get(1, "/a", true));
    w.output(1);
    w.handle(Input::Stream(ToShard::Close { conn: ConnId(1) }));
    w.event(3, EventType::NodeDataChanged, "/a", None);
    assert!(w.output(1).is_empty());
    w.handle(Input::Disconnected { conn: ConnId(1) });
    w.event(4, EventType::NodeDataChanged, "/a", None);
    assert!(w.out.dirty.is_empty());
}
