//! The plain loads: choose the next request and check its reply.

use zabra::jute::Reader;
use zabra::jute::stat::read_stat;
use zabra::types::{Op, Stat};

use crate::Result;
use crate::args::{Args, Load};
use crate::bare::sizes;
use crate::conn::{Conn, Flight, Reply};
use crate::engine::{Driver, Engine};
use crate::frames::{MAX_NUMBER, STAT, Template, own_parent, path, stem};
use crate::poll::now_ns;

/// What is sent and what replies are expected.
pub struct Work {
    load: Load,
    /// The names of the histograms; the kind of a [`Flight`] is an index into them.
    pub kinds: Vec<&'static str>,
    rng: fastrand::Rng,
    keys: u64,
    reads: u8,
    ops: u32,
    mode: i32,
    pub(crate) data: Vec<u8>,
    get: Template,
    set: Template,
    multi: Template,
    /// For create and delete: one for each connection.
    own: Vec<Own>,
    /// For the bare echo: size of the answer for each kind, in bytes.
    answers: Option<Vec<u32>>,
}

struct Own {
    stem: String,
    template: Template,
    /// Next number to create or delete.
    next: u64,
    /// For delete: the number after the last one.
    end: u64,
}

impl Work {
    /// `run` is the parent of everything that this run creates.
    pub fn new(args: &Args, run: &str) -> Work {
        let answers = (args.load == Load::Echo).then(|| sizes::answers(args));
        let load = if args.load == Load::Echo { args.like } else { args.load };
        // Frames for the bare server contain the size of the answer.
        let made = |kind: usize, t: Template| match &answers {
            Some(sizes) => t.asking(sizes[kind]),
            None => t,
        };
        let mut rng = fastrand::Rng::with_seed(args.seed);
        let mut data = vec![0; args.size as usize];
        rng.fill(&mut data);
        let shared = stem(&args.root, 'k', args.path_length);
        let connections = args.connections as usize;
        let own = (0..connections)
            .map(|at| {
                let stem = stem(&own_parent(run, at), 'n', args.path_length);
                let template = match load {
                    Load::Delete => Template::delete(&stem),
                    _ => made(0, Template::create(&stem, &data, args.mode)),
                };
                // The znodes to delete are distributed evenly; the first connections get what is left over.
                let nodes = args.nodes as usize;
                let end = nodes / connections + usize::from(at < nodes % connections);
                Own { stem, template, next: 0, end: end as u64 }
            })
            .collect();
        Work {
            load,
            kinds: match load {
                Load::Get => vec!["get"],
                Load::Set => vec!["set"],
                Load::Create => vec!["create"],
                Load::Delete => vec!["delete"],
                Load::Mixed => vec!["get", "set"],
                Load::Multi => vec!["multi"],
                Load::Fanout | Load::Storm | Load::Hostile | Load::Echo | Load::Disk | Load::EchoServer => vec![],
            },
            rng,
            keys: args.keys.into(),
            reads: args.reads,
            ops: args.ops,
            mode: args.mode,
            get: made(0, Template::get(&shared, false)),
            // The second kind of the load mixed.
            set: made(usize::from(load == Load::Mixed), Template::set(&shared, &data)),
            multi: made(0, Template::multi(&shared, &data, args.ops)),
            data,
            own,
            answers,
        }
    }

    /// Queues the next request of connection `at`; returns `false` when this load has no more requests.
    #[inline]
    pub fn push(&mut self, at: usize, conn: &mut Conn, planned: u64, now: u64) -> bool {
        let Work { rng, keys, .. } = self;
        match self.load {
            Load::Get => conn.request(0, 0, planned, now, |out, xid| self.get.put(out, xid, || rng.u64(..*keys))),
            Load::Set => conn.request(0, 0, planned, now, |out, xid| self.set.put(out, xid, || rng.u64(..*keys))),
            Load::Mixed => {
                let (kind, template) = if rng.u8(..100) < self.reads { (0, &self.get) } else { (1, &self.set) };
                conn.request(kind, 0, planned, now, |out, xid| template.put(out, xid, || rng.u64(..*keys)));
            }
            Load::Multi => conn.request(0, 0, planned, now, |out, xid| self.multi.put(out, xid, || rng.u64(..*keys))),
            Load::Create | Load::Delete => {
                let own = &mut self.own[at];
                let limit = if self.load == Load::Delete { own.end } else { MAX_NUMBER };
                if own.next >= limit {
                    return false;
                }
                conn.request(0, own.next, planned, now, |out, xid| own.template.put(out, xid, || own.next));
                own.next += 1;
            }
            Load::Fanout | Load::Storm | Load::Hostile | Load::Echo | Load::Disk | Load::EchoServer => {
                unreachable!("not a plain load")
            }
        }
        true
    }

    /// Whether the reply is correct.
    #[inline]
    pub fn check(&self, at: usize, flight: &Flight, reply: &Reply<'_>) -> Result<()> {
        let kind = self.kinds[flight.kind as usize];
        if reply.err != 0 {
            return Err(format!("{kind} failed: {}", reply.error_name()));
        }
        if let Some(answers) = &self.answers {
            let right = reply.body.len() + sizes::REPLY_HEAD == answers[flight.kind as usize] as usize;
            return if right { Ok(()) } else { Err(format!("echo: an answer of {} bytes", reply.body.len())) };
        }
        let right = match kind {
            "get" => self.is_data(reply.body),
            "set" => self.is_stat(reply.body, reply.zxid),
            "create" => self.is_created(at, flight.arg, reply.body),
            "delete" => reply.body.is_empty(),
            _ => self.is_multi(reply.body),
        };
        if right { Ok(()) } else { Err(format!("{kind}: wrong reply body {:02x?}", reply.body)) }
    }

    fn is_data(&self, body: &[u8]) -> bool {
        let n = self.data.len();
        body.len() == 4 + n + STAT && body[..4] == (n as u32).to_be_bytes() && body[4..4 + n] == self.data[..]
    }

    fn is_stat(&self, body: &[u8], zxid: i64) -> bool {
        let right = |s: Stat| s.mzxid.0 == zxid && s.data_length as usize == self.data.len() && s.version > 0;
        body.len() == STAT && read_stat(&mut Reader::new(body)).is_ok_and(right)
    }

    fn is_created(&self, at: usize, number: u64, body: &[u8]) -> bool {
        let Some((head, created)) = body.split_first_chunk::<4>() else { return false };
        let asked = path(&self.own[at].stem, number);
        let sequence = if self.mode >= 2 { 10 } else { 0 };
        u32::from_be_bytes(*head) as usize == created.len()
            && created.len() == asked.len() + sequence
            && created.starts_with(asked.as_bytes())
            && created[asked.len()..].iter().all(u8::is_ascii_digit)
    }

    fn is_multi(&self, body: &[u8]) -> bool {
        let each = 9 + STAT;
        let ops = self.ops as usize;
        let results = body.chunks_exact(each).take(ops);
        body.len() == ops * each + 9
            && results.into_iter().all(|r| r[..4] == Op::SET_DATA.0.to_be_bytes() && r[4..9] == [0; 5])
            && body[ops * each..ops * each + 5] == [0xff, 0xff, 0xff, 0xff, 1]
    }

    /// Writes this run's data to every shared znode.
    pub fn rewrite(&self, engine: &mut Engine) -> Result<()> {
        struct Rewrite<'a>(&'a Work, u64);
        impl Driver for Rewrite<'_> {
            fn reply(&mut self, _: usize, _: &mut Conn, _: &Flight, reply: &Reply<'_>, _: u64) -> Result<()> {
                let right = reply.err == 0 && self.0.is_stat(reply.body, reply.zxid);
                if right { Ok(()) } else { Err(format!("set-up: setData: {}", reply.error_name())) }
            }
            fn refill(&mut self, _: usize, conn: &mut Conn, now: u64) -> Result<()> {
                while self.1 < self.0.keys && conn.in_flight() < 64 {
                    conn.request(0, 0, now, now, |out, xid| self.0.set.put(out, xid, || self.1));
                    self.1 += 1;
                }
                Ok(())
            }
        }
        let mut driver = Rewrite(self, 0);
        for at in 0..engine.conns.len() {
            driver.refill(at, &mut engine.conns[at], now_ns())?;
            engine.flush(at)?;
        }
        engine.drain(&mut driver)
    }

    /// For delete: the paths that must exist before the run.
    pub fn to_delete(&self) -> impl Iterator<Item = String> + '_ {
        self.own.iter().flat_map(|o| (0..o.end).map(|n| path(&o.stem, n)))
    }

    /// What was created, and what is left of what was to be deleted.
    pub fn leftovers(&self) -> impl Iterator<Item = String> + '_ {
        self.own.iter().flat_map(|o| {
            let left = match self.load {
                Load::Create if self.mode < 2 => 0..o.next,
                Load::Delete => o.next..o.end,
                _ => 0..0,
            };
            left.map(|n| path(&o.stem, n))
        })
    }
}
