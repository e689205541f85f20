//! Watch fan-out: all sessions watch one znode, and one session changes it.

use std::time::Duration;

use zabra::jute::Reader;
use zabra::proto::WatcherEvent;
use zabra::types::EventType;

use crate::Result;
use crate::args::Args;
use crate::conn::{Conn, Flight, Reply};
use crate::engine::{Driver, Engine};
use crate::frames::{Template, path, put_add_watch, stem};
use crate::poll::now_ns;
use crate::record::Recorder;
use crate::report::Report;
use crate::steady::{batch, parents};

const EVENT: u8 = 0;
const LAST: u8 = 1;
/// Kinds of requests, for recognising replies.
const ARM: u8 = 10;
const SET: u8 = 11;

struct Fanout<'a> {
    record: &'a mut Recorder,
    path: String,
    arm: Template,
    set: Template,
    persistent: bool,
    /// Number of changes so far: the round.
    round: u64,
    /// For each connection, the last round whose event it got.
    told: Vec<u64>,
    /// Events still due in this round.
    due: usize,
    set_ns: u64,
    last_event_ns: u64,
}

impl Driver for Fanout<'_> {
    fn reply(&mut self, at: usize, _: &mut Conn, flight: &Flight, reply: &Reply<'_>, _: u64) -> Result<()> {
        match reply.err {
            0 => Ok(()),
            _ if flight.kind == SET => Err(format!("setData: {}", reply.error_name())),
            _ => Err(format!("session {at} cannot watch: {}", reply.error_name())),
        }
    }

    fn event(&mut self, at: usize, conn: &mut Conn, event: &Reply<'_>, now: u64) -> Result<()> {
        match WatcherEvent::read(&mut Reader::new(event.body)) {
            Ok(e) if (e.kind, e.state) == (EventType::NodeDataChanged as i32, 3) && e.path == self.path => {}
            other => return Err(format!("wrong event {other:?}")),
        }
        if self.told.get(at) != Some(&(self.round - 1)) || self.due == 0 {
            return Err(format!("told twice of change {}", self.round));
        }
        self.told[at] = self.round;
        self.due -= 1;
        self.last_event_ns = now;
        self.record.reply(EVENT, self.set_ns, self.set_ns, now);
        if !self.persistent {
            conn.request(ARM, 0, now, now, |out, xid| self.arm.put(out, xid, || 0));
        }
        Ok(())
    }
}

/// Runs the load. The last connection makes the changes.
pub fn run(args: &Args, engine: &mut Engine) -> Result<Report> {
    engine.open(args.server, 1, args.session_timeout_ms)?;
    let watchers = engine.conns.len() - 1;
    let stem = stem(&args.root, 'w', args.path_length);
    let znode = path(&stem, 0);
    let data = vec![b'f'; args.size as usize];
    for parent in parents(&znode) {
        batch(engine, [parent].into_iter(), Some(&data))?;
    }
    let mut record = Recorder::new(args, &["event", "last"])?;
    let mut driver = Fanout {
        record: &mut record,
        arm: Template::get(&stem, true),
        set: Template::set(&stem, &data),
        path: znode,
        persistent: args.persistent,
        round: 0,
        told: vec![0; watchers],
        due: 0,
        set_ns: 0,
        last_event_ns: 0,
    };
    for at in 0..watchers {
        let now = now_ns();
        let (arm, path) = (&driver.arm, &driver.path);
        engine.conns[at].request(ARM, 0, now, now, |out, xid| match args.persistent {
            true => put_add_watch(out, xid, path),
            false => arm.put(out, xid, || 0),
        });
        engine.flush(at)?;
    }
    engine.drain(&mut driver)?;
    rounds(args, engine, &mut driver, watchers)
}

fn rounds(args: &Args, engine: &mut Engine, driver: &mut Fanout<'_>, watchers: usize) -> Result<Report> {
    let warm_end = now_ns() + (args.warm_up * 1e9) as u64;
    let mut end = u64::MAX;
    let (mut rounds, mut delivering_ns) = (0u64, 0u64);
    loop {
        let now = now_ns();
        if !driver.record.is_measuring() && now >= warm_end {
            driver.record.begin()?;
            end = now + (args.seconds * 1e9) as u64;
        }
        if now >= end {
            break;
        }
        if now >= driver.record.next_line_ns() {
            driver.record.line(engine.in_flight())?;
            // A session with a persistent watch sends no requests of its own.
            engine.keep_alive(Duration::from_millis(args.session_timeout_ms as u64 / 4))?;
        }
        driver.round += 1;
        driver.due = watchers;
        driver.set_ns = now_ns();
        let (set, set_ns) = (&driver.set, driver.set_ns);
        engine.conns[watchers].request(SET, 0, set_ns, set_ns, |out, xid| set.put(out, xid, || 0));
        engine.flush(watchers)?;
        let stall = Duration::from_secs_f64(args.stall);
        while driver.due > 0 || engine.in_flight() > 0 {
            engine.turn(driver, Duration::from_millis(100))?;
            if driver.due > 0 && now_ns() - driver.set_ns > stall.as_nanos() as u64 {
                return Err(format!("{} of {watchers} events are missing after {} s", driver.due, args.stall));
            }
        }
        let took = driver.last_event_ns - driver.set_ns;
        driver.record.reply(LAST, driver.set_ns, driver.set_ns, driver.last_event_ns);
        if driver.record.is_measuring() {
            rounds += 1;
            delivering_ns += took;
        }
    }
    let cpu = driver.record.end()?;
    let events = driver.record.kinds[usize::from(EVENT)].total.len();
    let seconds = driver.record.seconds();
    let last = driver.record.kinds.pop().expect("two kinds were made").total;
    let mut report = Report::new(args, driver.record, cpu)?;
    report.extra = vec![
        ("events per second while delivering", events as f64 / (delivering_ns as f64 / 1e9), "/s"),
        ("changes per second", rounds as f64 / seconds, "/s"),
        ("p50 of the last session told", last.value_at_quantile(0.5) as f64 / 1e3, "µs"),
        ("p99 of the last session told", last.value_at_quantile(0.99) as f64 / 1e3, "µs"),
    ];
    Ok(report)
}
