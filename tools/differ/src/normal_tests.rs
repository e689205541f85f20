use super::*;
use crate::stream::Burst;
use zabra::jute::Put;
use zabra::jute::stat::put_stat;
use zabra::types::Zxid;

const SESSION: i64 = 0x1234;

fn get(path: &str) -> Request {
    Request::Read { op: Op::GET_DATA, path: path.to_owned(), watch: false }
}

fn set(path: &str) -> Request {
    Request::SetData { path: path.to_owned(), data: None, version: -1 }
}

fn lone(requests: &[Request]) -> Step {
    Step::Burst(vec![Burst { session: 0, requests: requests.to_vec() }])
}

fn reply(asked: Request, zxid: i64, err: i32, body: Vec<u8>) -> Heard {
    Heard::Reply { request: Some(0), asked: Some(asked), xid: 1, zxid, err, body }
}

fn event(zxid: i64, path: &str) -> Heard {
    let mut body = Vec::new();
    body.put_i32(2);
    body.put_i32(3);
    body.put_string(path);
    Heard::Event { zxid, err: 0, body }
}

fn stat(at: i64) -> Stat {
    Stat { czxid: Zxid(at), mzxid: Zxid(at + 1), ephemeral_owner: SESSION, ctime: at * 77, ..Stat::default() }
}

fn data(s: &Stat) -> Vec<u8> {
    let mut out = Vec::new();
    out.put_buffer(Some(b"x"));
    put_stat(&mut out, s);
    out
}

/// The text of one step as heard from a server whose run began after `base`.
fn told(base: i64, own: bool, step: &Step, heard: &[Vec<Heard>]) -> Vec<Vec<String>> {
    let before = Base { zxid: base, stats: vec![("/", Stat { cversion: base as i32, ..Stat::default() })], nodes: 10 };
    let words = Words { ids: &[SESSION + base], base: &before, root: "/d1", takes_its_own: own };
    let items = words.step(&mut Zxids::new(base), step, heard);
    items.into_iter().map(|l| l.into_iter().map(|i| i.text).collect()).collect()
}

#[test]
fn zxids_and_owners_are_told_by_distance_and_times_not_at_all() {
    let one = |base: i64, change: fn(&mut Stat)| {
        let mut s = Stat { ephemeral_owner: SESSION + base, ..stat(base + 5) };
        change(&mut s);
        told(base, false, &lone(&[get("/d1/a")]), &[vec![reply(get("/d1/a"), base + 9, 0, data(&s))]])
    };
    let same: fn(&mut Stat) = |_| {};
    assert_eq!(one(100, same), one(7_000, same));
    let text = &one(100, same)[0][0];
    assert!(text.contains("czxid +5 mzxid +6") && text.contains("owner session 0"), "{text}");
    let changes: [fn(&mut Stat); 9] = [
        |s| s.czxid.0 += 1,
        |s| s.mzxid.0 += 1,
        |s| s.pzxid.0 += 200_000,
        |s| s.version += 1,
        |s| s.cversion += 1,
        |s| s.aversion += 1,
        |s| s.ephemeral_owner += 1,
        |s| s.data_length += 1,
        |s| s.num_children += 1,
    ];
    for (i, change) in changes.into_iter().enumerate() {
        assert_ne!(one(100, same), one(7_000, change), "field {i} is compared");
    }
}

#[test]
fn the_system_paths_are_told_relative_to_what_was_there() {
    let root = |base: i64, cversion: i32| {
        let s = Stat { cversion, ..Stat::default() };
        told(base, false, &lone(&[get("/")]), &[vec![reply(get("/"), base + 1, 0, data(&s))]])
    };
    assert_eq!(root(100, 103), root(50, 53));
    assert_ne!(root(100, 103), root(50, 54));
}

#[test]
fn a_zxid_that_only_one_server_gives_away_is_taken_out() {
    let cut = Request::Cut { of: Box::new(set("/d1/a")), bytes: 2 };
    let step = lone(&[cut.clone(), set("/d1/a")]);
    let heard =
        |first, second| vec![vec![reply(cut.clone(), first, -5, vec![]), reply(set("/d1/a"), second, -101, vec![])]];
    let (apache, zabra) = (told(100, false, &step, &heard(104, 105)), told(200, true, &step, &heard(205, 206)));
    assert_eq!(apache, zabra);
    let none_taken = told(200, true, &step, &heard(204, 205));
    assert_ne!(apache, none_taken, "a server that takes none is found out");
}

#[test]
fn what_several_sessions_write_is_told_in_request_order() {
    let step = Step::Burst(vec![
        Burst { session: 0, requests: vec![set("/d1/s0/a")] },
        Burst { session: 1, requests: vec![set("/d1/s1/a")] },
    ]);
    let heard = |first: i64, second: i64| {
        vec![vec![reply(set("/d1/s0/a"), first, -101, vec![])], vec![reply(set("/d1/s1/a"), second, -101, vec![])]]
    };
    assert_eq!(told(100, false, &step, &heard(104, 105)), told(100, false, &step, &heard(105, 104)));
    assert_ne!(told(100, false, &step, &heard(104, 105)), told(100, false, &step, &heard(104, 106)), "a gap shows");
    assert_ne!(told(100, false, &step, &heard(104, 105)), told(100, false, &step, &heard(104, 104)), "so does a twin");
}

#[test]
fn only_a_closing_may_mix_its_events() {
    let close = Request::Bare(Op::CLOSE_SESSION);
    let heard =
        |asked: &Request, a, b| vec![vec![event(105, a), event(105, b)], vec![reply(asked.clone(), 105, 0, vec![])]];
    let both = |asked: Request| {
        let step = lone(std::slice::from_ref(&asked));
        [told(100, false, &step, &heard(&asked, "/a", "/b")), told(100, false, &step, &heard(&asked, "/b", "/a"))]
    };
    let [one, other] = both(close);
    assert_eq!(one, other);
    let [one, other] = both(Request::Multi { op: Op::MULTI, ops: vec![] });
    assert_ne!(one, other, "a multi's events have an order");
}

#[test]
fn child_lists_are_sets_and_acls_are_not() {
    let children = |names: &[&str]| {
        let mut body = Vec::new();
        body.put_strings(names);
        let asked = Request::Read { op: Op::GET_CHILDREN, path: "/d1/x".to_owned(), watch: false };
        told(100, false, &lone(std::slice::from_ref(&asked)), &[vec![reply(asked, 101, 0, body)]])
    };
    assert_eq!(children(&["a", "b"]), children(&["b", "a"]));
    assert_ne!(children(&["a", "b"]), children(&["b", "b"]));
    let acl = |schemes: [&str; 2], users: [&str; 2]| {
        let mut body = Vec::new();
        body.put_i32(2);
        for (scheme, user) in schemes.iter().zip(users) {
            body.put_i32(31);
            body.put_string(scheme);
            body.put_string(user);
        }
        put_stat(&mut body, &Stat::default());
        let asked = Request::Path { op: Op::GET_ACL, path: Some("/d1/x".to_owned()) };
        told(100, false, &lone(std::slice::from_ref(&asked)), &[vec![reply(asked, 101, 0, body)]])
    };
    assert_eq!(acl(["digest", "digest"], ["a", "b"]), acl(["digest", "digest"], ["b", "a"]));
    assert_ne!(acl(["world", "ip"], ["a", "b"]), acl(["ip", "world"], ["b", "a"]));
}

#[test]
fn bytes_too_many_and_too_few_show() {
    let step = lone(&[get("/d1/a")]);
    let text = |body: Vec<u8>| told(0, false, &step, &[vec![reply(get("/d1/a"), 1, 0, body)]])[0][0].clone();
    let whole = data(&stat(1));
    assert!(text([&whole[..], &[9]].concat()).contains("and then [09]"));
    assert!(text(whole[..whole.len() - 1].to_vec()).contains("undecodable"));
}

#[test]
fn javas_surrogates_read_as_the_character_they_are() {
    let read = |bytes: &[u8]| {
        let mut out = Vec::new();
        out.put_buffer(Some(bytes));
        text(&mut Reader::new(&out)).unwrap().unwrap()
    };
    assert_eq!(read(b"/\xed\xa0\xbd\xed\xb8\x80x"), "/😀x");
    assert_eq!(read("/😀é".as_bytes()), "/😀é");
    assert_ne!(read(b"/\xff"), read(b"/\xfe"));
}
