//! Generates streams of steps from a seed. They do not depend on the servers' answers, so a stream can be shortened
//! anywhere.

use std::collections::VecDeque;

use fastrand::Rng;
use zabra::types::{Acl, Id, Op, perms};

use crate::request::{Relative, Request};

/// Number of sessions in a run.
pub const SESSIONS: usize = 4;
/// Znodes below the run's root: one for the work of each session, a common one, and one with quotas.
pub const AREAS: [&str; 6] = ["s0", "s1", "s2", "s3", "x", "q"];
const COMMON: &str = "x";
const QUOTA: &str = "q";
const NAMES: [&str; 3] = ["a", "b", "n-"];

/// Requests that one session sends in one packet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Burst {
    pub session: usize,
    pub requests: Vec<Request>,
}

/// A step; after it the tool waits for all replies and events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// Requests of one session, or of several at the same time, each in an area of its own.
    Burst(Vec<Burst>),
    /// A connection breaks, another session continues, then the session is resumed and sends requests right after the
    /// handshake.
    Away { session: usize, meanwhile: Vec<Burst>, back: Vec<Request> },
    /// An attempt to take the session over without its password.
    WrongPassword(usize),
}

impl Step {
    /// Whether several sessions write at the same time.
    pub fn is_concurrent(&self) -> bool {
        matches!(self, Step::Burst(bursts) if bursts.len() > 1)
    }

    /// Number of requests.
    pub fn len(&self) -> usize {
        match self {
            Step::Burst(bursts) => bursts.iter().map(|b| b.requests.len()).sum(),
            Step::Away { meanwhile, back, .. } => {
                back.len() + meanwhile.iter().map(|b| b.requests.len()).sum::<usize>()
            }
            Step::WrongPassword(_) => 0,
        }
    }

    /// All its lists of requests, from which single requests can be removed.
    pub fn requests(&self) -> Vec<&Vec<Request>> {
        match self {
            Step::Burst(bursts) => bursts.iter().map(|b| &b.requests).collect(),
            Step::Away { meanwhile, back, .. } => {
                meanwhile.iter().map(|b| &b.requests).chain(std::iter::once(back)).collect()
            }
            Step::WrongPassword(_) => Vec::new(),
        }
    }

    /// Removes what an Apache leader must not get.
    pub fn spare_apache_leaders(&mut self) {
        self.requests_mut().into_iter().for_each(|list| list.retain(|r| !r.is_undecodable_write()));
    }

    /// The same lists, for changing them.
    pub fn requests_mut(&mut self) -> Vec<&mut Vec<Request>> {
        match self {
            Step::Burst(bursts) => bursts.iter_mut().map(|b| &mut b.requests).collect(),
            Step::Away { meanwhile, back, .. } => {
                meanwhile.iter_mut().map(|b| &mut b.requests).chain(std::iter::once(back)).collect()
            }
            Step::WrongPassword(_) => Vec::new(),
        }
    }
}

/// The root of the run.
pub fn root(seed: u64) -> String {
    format!("/d{seed}")
}

/// The stream of a seed: steps with at least `ops` requests in total.
pub fn stream(seed: u64, ops: u32) -> Vec<Step> {
    let mut maker = Maker { rng: Rng::with_seed(seed), root: root(seed), recent: VecDeque::new() };
    // The first session is the super user: otherwise some ACL would soon deny everybody everything.
    let auth = Request::Auth { scheme: "digest".to_owned(), auth: b"super:interop".to_vec() };
    let mut steps = vec![Step::Burst(vec![Burst { session: 0, requests: vec![auth] }])];
    let mut made = 0;
    while made < ops as usize {
        let step = maker.step();
        made += step.len().max(1);
        steps.push(step);
    }
    steps
}

struct Maker {
    rng: Rng,
    root: String,
    /// Paths used recently: using them again makes it likely that a znode, version or watch is there.
    recent: VecDeque<(&'static str, String)>,
}

/// Ends the burst after a setACL: Apache checks writes against the applied ACL, not against a setACL that is still
/// outstanding (known.rs).
fn until_acl(requests: impl Iterator<Item = Request>) -> Vec<Request> {
    let mut list = Vec::new();
    for r in requests.filter(|r| !r.is_alone()) {
        let ends = matches!(r, Request::SetAcl { .. });
        list.push(r);
        if ends {
            break;
        }
    }
    list
}

impl Maker {
    fn chance(&mut self, per_cent: u32) -> bool {
        self.rng.u32(0..100) < per_cent
    }

    fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.rng.usize(0..of.len())]
    }

    fn session(&mut self) -> usize {
        self.rng.usize(0..SESSIONS)
    }

    fn step(&mut self) -> Step {
        match self.rng.u32(0..100) {
            0..=54 => {
                let session = self.session();
                Step::Burst(vec![self.burst(session)])
            }
            55..=69 => self.concurrent(),
            70..=82 => {
                let request = self.alone();
                Step::Burst(vec![Burst { session: self.session(), requests: vec![request] }])
            }
            83..=88 => {
                // Sent one after the other: none of these may be pipelined.
                let requests = (0..self.rng.usize(4..20)).map(|_| self.quota()).collect();
                Step::Burst(vec![Burst { session: self.session(), requests }])
            }
            89..=95 => self.away(),
            96 => Step::WrongPassword(self.session()),
            _ => {
                let session = self.session();
                Step::Burst(vec![Burst { session, requests: vec![Request::Bare(Op::CLOSE_SESSION)] }])
            }
        }
    }

    /// A pipelined burst of one session, anywhere in the tree.
    fn burst(&mut self, session: usize) -> Burst {
        let n = if self.chance(20) { self.rng.usize(10..40) } else { self.rng.usize(1..10) };
        let requests = until_acl((0..n).map(|_| self.request(None)));
        Burst { session, requests }
    }

    fn concurrent(&mut self) -> Step {
        let mut bursts = Vec::new();
        for (session, area) in AREAS.into_iter().take(SESSIONS).enumerate() {
            let n = self.rng.usize(1..12);
            let requests = until_acl((0..n).map(|_| self.request(Some(area))));
            bursts.push(Burst { session, requests });
        }
        Step::Burst(bursts)
    }

    fn away(&mut self) -> Step {
        let session = self.session();
        let other = (session + 1 + self.rng.usize(0..SESSIONS - 1)) % SESSIONS;
        let meanwhile = vec![self.burst(other)];
        let mut back = Vec::new();
        if self.chance(80) {
            back.push(self.set_watches());
            back.extend(self.burst(session).requests);
        }
        Step::Away { session, meanwhile, back }
    }

    /// A request that must not be pipelined.
    fn alone(&mut self) -> Request {
        match self.rng.u32(0..100) {
            0..=29 => self.auth(),
            30..=49 => self.cut(),
            50..=79 => self.patched(),
            80..=84 => {
                let (path, acl) = (self.path(None), self.acl());
                Request::Create { op: Op::CREATE_CONTAINER, path, data: None, acl, flags: 1, ttl_ms: 0 }
            }
            85..=92 => Request::Bare(Op(*self.pick(&[10, 99, 0, 108, -2, 23, 1000, i32::MAX, i32::MIN, Op::PING.0]))),
            _ => Request::Check { path: self.path(None), version: self.version() },
        }
    }

    fn cut(&mut self) -> Request {
        loop {
            let of = self.request(None);
            let whole = of.body(0).len();
            if whole > 0 {
                return Request::Cut { of: Box::new(of), bytes: self.rng.usize(1..=whole) };
            }
        }
    }

    /// Changes four bytes of a body to values that lengths and counts should not have. Not for single writes, because
    /// their zxid depends on whether they can be decoded (known.rs). Not for createTTL, because a negative TTL stops
    /// Apache.
    fn patched(&mut self) -> Request {
        loop {
            let of = self.request(None);
            let whole = of.body(0).len();
            if whole >= 4 && (of.op() == Op::MULTI || !of.is_write()) && !of.has(Op::CREATE_TTL) {
                let at = self.rng.usize(0..=whole - 4);
                let with = *self.pick(&[-1, -1, -2, 0, 1, 2, 255, 1 << 24, i32::MAX, i32::MIN]);
                return Request::Patched { of: Box::new(of), at, with };
            }
        }
    }

    fn auth(&mut self) -> Request {
        let (scheme, auth): (&str, &[u8]) = match self.rng.u32(0..100) {
            0..=39 => ("digest", b"alice:secret"),
            40..=64 => ("digest", b"bob:builder"),
            65..=79 => ("digest", b"super:interop"),
            80..=84 => ("digest", b"super:wrong"),
            85..=88 => ("digest", b"nocolon"),
            89..=92 => ("ip", b"10.1.2.3"),
            93..=95 => ("world", b"anyone"),
            96..=97 => ("nosuch", b"x"),
            _ => ("sasl", b""),
        };
        Request::Auth { scheme: scheme.to_owned(), auth: auth.to_vec() }
    }

    /// A request about limits, usage or a znode under a quota.
    fn quota(&mut self) -> Request {
        let below = *self.pick(&["", "", "", "/a"]);
        let area = format!("{}/{QUOTA}{below}", self.root);
        let node = *self.pick(&["zookeeper_limits", "zookeeper_limits", "zookeeper_stats"]);
        let path = format!("/zookeeper/quota{area}/{node}");
        let texts: &[&str] = if self.chance(8) {
            &["bytes=1", "count=1", "count=1,bytes=2,more=3", "a=1=2"]
        } else if node == "zookeeper_limits" {
            &[
                "count=3,bytes=20",
                "count=-1,bytes=-1",
                "count=3,bytes=-1=;byteHardLimit=10;countHardLimit=4",
                "count=100,bytes=-1=;byteHardLimit=-1;countHardLimit=3",
                "count=-1,bytes=-1=;byteHardLimit=5;countHardLimit=-1",
                "count=-1,bytes=-1=;byteHardLimit=0;countHardLimit=2",
            ]
        } else {
            &["count=0,bytes=0"]
        };
        let text: &str = self.pick::<&str>(texts);
        let data = Some(text.as_bytes().to_vec());
        let acl = vec![Acl::world_all()];
        match self.rng.u32(0..100) {
            0..=17 => Request::Create { op: Op::CREATE, path, data, acl, flags: 0, ttl_ms: 0 },
            18..=21 => {
                let path = format!("/zookeeper/quota{area}");
                Request::Create { op: Op::CREATE, path, data: None, acl, flags: 0, ttl_ms: 0 }
            }
            22..=27 => Request::SetData { path, data, version: -1 },
            28..=32 => Request::Delete { path, version: -1 },
            33..=39 => Request::Read { op: Op::GET_DATA, path, watch: self.chance(30) },
            40..=44 => {
                let path = format!("/zookeeper/quota{area}/zookeeper_stats");
                Request::Read { op: Op::GET_DATA, path, watch: self.chance(30) }
            }
            45..=54 => Request::Multi { op: Op::MULTI, ops: (0..3).map(|_| self.part(Some(QUOTA))).collect() },
            55..=59 => self.request(Some(QUOTA)),
            _ => self.write(Some(QUOTA)),
        }
    }

    /// Any request. Some must not be pipelined; the caller drops those.
    fn request(&mut self, area: Option<&'static str>) -> Request {
        match self.rng.u32(0..100) {
            0..=37 => self.write(area),
            38..=44 => self.multi(area),
            45..=74 => {
                let op = *self.pick(&[
                    Op::EXISTS,
                    Op::EXISTS,
                    Op::GET_DATA,
                    Op::GET_DATA,
                    Op::GET_CHILDREN,
                    Op::GET_CHILDREN2,
                ]);
                Request::Read { op, path: self.path(area), watch: self.chance(50) }
            }
            75..=81 => {
                let op =
                    *self.pick(&[Op::GET_ACL, Op::GET_ACL, Op::SYNC, Op::GET_EPHEMERALS, Op::GET_ALL_CHILDREN_NUMBER]);
                let null = area.is_none() && self.chance(3);
                Request::Path { op, path: if null { None } else { Some(self.path(area)) } }
            }
            82..=85 => self.multi_read(area),
            86..=92 => self.watch(area),
            93..=94 => Request::Bare(Op::WHO_AM_I),
            95 if area.is_none() => self.set_watches(),
            96 if area.is_none() => Request::Reconfig,
            _ => Request::SetAcl { path: self.plain_path(area), acl: self.acl(), version: self.version() },
        }
    }

    fn write(&mut self, area: Option<&'static str>) -> Request {
        match self.rng.u32(0..100) {
            0..=54 => self.create(area),
            55..=72 => Request::Delete { path: self.path(area), version: self.version() },
            _ => Request::SetData { path: self.path(area), data: self.data(), version: self.version() },
        }
    }

    fn create(&mut self, area: Option<&'static str>) -> Request {
        let path = self.path(area);
        let data = self.data();
        let acl = self.acl();
        let (op, flags, ttl_ms) = match self.rng.u32(0..100) {
            0..=54 => (*self.pick(&[Op::CREATE, Op::CREATE2]), *self.pick(&[0, 0, 0, 1, 1, 2, 2, 3]), 0),
            55..=69 => (Op::CREATE_TTL, *self.pick(&[5, 6]), *self.pick(&[1, 100_000, (1 << 40) - 1])),
            70..=74 => (Op::CREATE_TTL, *self.pick(&[5, 6]), *self.pick(&[0, -1, 1 << 40, i64::MAX, i64::MIN])),
            // With a negative TTL other flags stop Apache: see known.rs.
            75..=77 => (Op::CREATE_TTL, *self.pick(&[0, 1, 2, 3, 4]), *self.pick(&[0, 5, 1 << 40])),
            78..=89 => (Op::CREATE_CONTAINER, 4, 0),
            90..=92 => (Op::CREATE_CONTAINER, *self.pick(&[0, 1]), 0),
            93..=95 => (*self.pick(&[Op::CREATE, Op::CREATE2]), *self.pick(&[4, 5, 6]), 0),
            _ => (*self.pick(&[Op::CREATE, Op::CREATE2, Op::CREATE_CONTAINER]), *self.pick(&[7, -1, 99, i32::MIN]), 0),
        };
        Request::Create { op, path, data, acl, flags, ttl_ms }
    }

    /// A write in a multi. A container with the flag of an ephemeral may have children there only with us: see known.rs.
    fn part(&mut self, area: Option<&'static str>) -> Request {
        match self.write(area) {
            Request::Create { op: Op::CREATE_CONTAINER, flags: 1, path, data, acl, ttl_ms } => {
                Request::Create { op: Op::CREATE_CONTAINER, flags: 0, path, data, acl, ttl_ms }
            }
            other => other,
        }
    }

    fn multi(&mut self, area: Option<&'static str>) -> Request {
        let n = self.rng.usize(0..6);
        let mut ops: Vec<Request> = (0..n)
            .map(|_| match self.rng.u32(0..100) {
                0..=14 => Request::Check { path: self.path(area), version: self.version() },
                _ => self.part(area),
            })
            .collect();
        if self.chance(4) {
            ops.push(Request::Read { op: Op::GET_DATA, path: self.path(area), watch: false });
        }
        Request::Multi { op: Op::MULTI, ops }
    }

    fn multi_read(&mut self, area: Option<&'static str>) -> Request {
        let n = self.rng.usize(0..5);
        let mut ops: Vec<Request> = (0..n)
            .map(|_| {
                let op = *self.pick(&[Op::GET_DATA, Op::GET_CHILDREN]);
                Request::Read { op, path: self.path(area), watch: self.chance(20) }
            })
            .collect();
        if self.chance(4) {
            ops.push(self.part(area));
        }
        Request::Multi { op: Op::MULTI_READ, ops }
    }

    fn watch(&mut self, area: Option<&'static str>) -> Request {
        let path = self.path(area);
        match self.rng.u32(0..100) {
            0..=49 => Request::Watch { op: Op::ADD_WATCH, path, kind: *self.pick(&[0, 0, 0, 1, 1, 1, 2, -1]) },
            50..=74 => {
                Request::Watch { op: Op::CHECK_WATCHES, path, kind: *self.pick(&[1, 2, 3, 4, 5, 1, 2, 3, 0, 9]) }
            }
            _ => Request::Watch { op: Op::REMOVE_WATCHES, path, kind: *self.pick(&[1, 2, 3, 4, 5, 1, 2, 3, 0, 9]) },
        }
    }

    fn set_watches(&mut self) -> Request {
        let op = *self.pick(&[Op::SET_WATCHES, Op::SET_WATCHES2]);
        let relative =
            *self.pick(&[Relative::Seen, Relative::Seen, Relative::Seen, Relative::Nothing, Relative::Future]);
        let lists = std::array::from_fn(|_| (0..self.rng.usize(0..4)).map(|_| self.path(None)).collect());
        Request::SetWatches { op, relative, lists }
    }

    fn version(&mut self) -> i32 {
        *self.pick(&[-1, -1, -1, -1, -1, 0, 0, 1, 2, 3, 7, -2, i32::MAX, i32::MIN])
    }

    fn data(&mut self) -> Option<Vec<u8>> {
        match self.rng.u32(0..100) {
            0..=4 => None,
            5..=9 => Some(Vec::new()),
            10..=11 => Some(vec![0xee; self.rng.usize(0..3000)]),
            _ => Some(format!("v{}", self.rng.u32(0..1000)).into_bytes()),
        }
    }

    fn acl(&mut self) -> Vec<Acl> {
        let acl = |perms, scheme: &str, id: &str| Acl { perms, id: Id::new(scheme, id) };
        let all = perms::ALL;
        // base64(sha1("alice:secret")) need not be correct: if it is not, only the super user has the permission.
        match self.rng.u32(0..100) {
            0..=79 => vec![Acl::world_all()],
            80..=81 => vec![acl(perms::READ, "world", "anyone")],
            82..=83 => vec![acl(all, "auth", "")],
            84 => vec![acl(perms::READ, "world", "anyone"), acl(all, "auth", "ignored")],
            85..=86 => vec![acl(all, "ip", "127.0.0.1")],
            87 => vec![acl(all, "ip", "10.0.0.0/8"), acl(perms::READ | perms::CREATE, "ip", "127.0.0.0/8")],
            88..=89 => vec![acl(all, "digest", "carol:5CNnbM1gN7ZoMbbzhiXrxMVmd3E=")],
            90 => vec![acl(perms::ADMIN, "world", "anyone")],
            91 => vec![acl(all & !perms::READ, "world", "anyone")],
            92 => vec![Acl::world_all(), Acl::world_all(), acl(perms::READ, "world", "anyone")],
            93 => Vec::new(),
            94 => vec![acl(all, "digest", "nocolon")],
            95 => vec![acl(all, "digest", "a:b:c")],
            96 => vec![acl(all, "nosuch", "x")],
            97 => vec![acl(all, "world", "bob")],
            98 => vec![acl(*self.pick(&[0, -1, 32, 63]), "world", "anyone")],
            _ => vec![acl(all, "ip", self.pick::<&str>(&["", "300.1.1.1", "1.2.3.4/33", "::1", "1.2.3", "fe80::/10"]))],
        }
    }

    /// A path below an area; without an area, sometimes any other path.
    fn path(&mut self, area: Option<&'static str>) -> String {
        if area.is_none() && self.chance(8) {
            return self.odd_path();
        }
        self.plain_path(area)
    }

    fn plain_path(&mut self, area: Option<&'static str>) -> String {
        let area = match area {
            Some(area) => area,
            None if self.chance(60) => COMMON,
            None => AREAS[self.rng.usize(0..SESSIONS)],
        };
        if self.chance(50) {
            let known: Vec<&String> = self.recent.iter().filter(|(a, _)| *a == area).map(|(_, p)| p).collect();
            if !known.is_empty() {
                return known[self.rng.usize(0..known.len())].clone();
            }
        }
        let mut path = format!("{}/{area}", self.root);
        for _ in 0..*self.pick(&[1, 1, 1, 1, 1, 1, 2, 2, 3]) {
            path.push('/');
            let name: &str = self.pick::<&str>(&NAMES);
            path.push_str(name);
            if path.ends_with('-') && self.chance(50) {
                path.push_str(&format!("{:010}", self.rng.u32(0..4)));
            }
        }
        self.recent.push_back((area, path.clone()));
        if self.recent.len() > 24 {
            self.recent.pop_front();
        }
        path
    }

    fn odd_path(&mut self) -> String {
        let base = self.plain_path(None);
        match self.rng.u32(0..26) {
            0..=3 => "/".to_owned(),
            4 => String::new(),
            5 => "relative".to_owned(),
            6 => format!("{base}/"),
            7 => format!("{base}//b"),
            8 => format!("{base}/."),
            9 => format!("{base}/../a"),
            10 => format!("{base}\0"),
            11 => format!("{base}/\u{1}"),
            12 => format!("{base}/é漢"),
            13 => format!("{base}/\u{e000}"),
            14 => format!("{base}/\u{fff0}"),
            15 => format!("{base}/\u{1f600}"),
            16 => format!("{base}/\u{7f}"),
            17 => "/zookeeper".to_owned(),
            18 => "/zookeeper/config".to_owned(),
            19 => "/zookeeper/quota".to_owned(),
            20 => format!("{base}/{}", "long".repeat(60)),
            21 => format!("{base}/..."),
            22 => "//".to_owned(),
            23 => self.root.clone(),
            24 => format!("{}/{COMMON}", self.root),
            _ => format!("{}/nothing/here", self.root),
        }
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
