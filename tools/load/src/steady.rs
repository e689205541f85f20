//! Runs the plain loads: set-up, warm-up, measured time, drain, clean-up; in a closed or an open loop.

use std::time::Duration;

use crate::Result;
use crate::args::{Args, Load};
use crate::conn::{Conn, Flight, Reply};
use crate::engine::{Driver, Engine};
use crate::frames::{own_parent, path, put_create, put_delete, stem};
use crate::poll::now_ns;
use crate::record::Recorder;
use crate::report::Report;
use crate::work::Work;

/// Requests in flight on each connection while znodes are created and deleted.
const SETUP_DEPTH: usize = 64;
/// An open loop with this many unanswered requests counts as not held.
const MOST_IN_FLIGHT: u64 = 1_000_000;
/// Open loop: most requests sent before replies are read.
const SEND_BURST: u64 = 1_024;

/// A list of requests for set-up or clean-up, distributed over all connections.
struct Batch<'a, I: Iterator<Item = String>> {
    paths: I,
    /// create with this data; `None` means delete.
    create: Option<&'a [u8]>,
    /// NodeExists (for create) or NoNode (for delete) is accepted.
    left: bool,
}

const NODE_EXISTS: i32 = -110;
const NO_NODE: i32 = -101;

impl<I: Iterator<Item = String>> Driver for Batch<'_, I> {
    fn reply(&mut self, _: usize, _: &mut Conn, _: &Flight, reply: &Reply<'_>, _: u64) -> Result<()> {
        let fine = if self.create.is_some() { NODE_EXISTS } else { NO_NODE };
        if reply.err == 0 || reply.err == fine {
            return Ok(());
        }
        Err(format!("set-up failed: {}", reply.error_name()))
    }

    fn refill(&mut self, _: usize, conn: &mut Conn, now: u64) -> Result<()> {
        while self.left && conn.in_flight() < SETUP_DEPTH {
            match self.paths.next() {
                None => self.left = false,
                Some(path) => conn.request(0, 0, now, now, |out, xid| match self.create {
                    Some(data) => put_create(out, xid, &path, data),
                    None => put_delete(out, xid, &path),
                }),
            }
        }
        Ok(())
    }
}

/// Creates (if `data` is given) or deletes all `paths`. Those that exist already, or no longer, are accepted.
pub fn batch(engine: &mut Engine, paths: impl Iterator<Item = String>, create: Option<&[u8]>) -> Result<()> {
    let mut driver = Batch { paths, create, left: true };
    for at in 0..engine.conns.len() {
        driver.refill(at, &mut engine.conns[at], now_ns())?;
        engine.flush(at)?;
    }
    engine.drain(&mut driver)
}

/// The path of every ancestor of `path`, and `path` itself.
pub fn parents(path: &str) -> impl Iterator<Item = String> + '_ {
    path.match_indices('/').skip(1).map(|(at, _)| path[..at].to_owned()).chain([path.to_owned()])
}

struct Steady<'a> {
    work: &'a mut Work,
    record: &'a mut Recorder,
    /// Requests in flight on each connection; only in a closed loop.
    depth: Option<usize>,
    stopped: bool,
    /// The load has no more requests.
    exhausted: bool,
    /// Replies since the run began.
    replies: u64,
}

impl Driver for Steady<'_> {
    #[inline]
    fn reply(&mut self, at: usize, _: &mut Conn, flight: &Flight, reply: &Reply<'_>, now: u64) -> Result<()> {
        self.work.check(at, flight, reply)?;
        self.replies += 1;
        self.record.reply(flight.kind, flight.planned_ns, flight.sent_ns, now);
        Ok(())
    }

    #[inline]
    fn refill(&mut self, at: usize, conn: &mut Conn, now: u64) -> Result<()> {
        if self.stopped {
            return Ok(());
        }
        if let Some(depth) = self.depth {
            while conn.in_flight() < depth {
                if !self.work.push(at, conn, now, now) {
                    self.exhausted = true;
                    break;
                }
            }
        }
        Ok(())
    }
}

/// When the requests of an open loop are due.
struct Plan {
    first_ns: u64,
    gap_ns: f64,
    sent: u64,
    touched: Vec<usize>,
}

impl Plan {
    fn next_ns(&self) -> u64 {
        self.first_ns + (self.sent as f64 * self.gap_ns) as u64
    }

    /// Sends everything that is due, each request on the next connection.
    fn send_due(&mut self, engine: &mut Engine, driver: &mut Steady<'_>) -> Result<()> {
        let now = now_ns();
        let most = self.sent + SEND_BURST;
        while self.next_ns() <= now && !driver.exhausted && self.sent < most {
            let at = (self.sent % engine.conns.len() as u64) as usize;
            let conn = &mut engine.conns[at];
            if !conn.has_output() {
                self.touched.push(at);
            }
            driver.exhausted = !driver.work.push(at, conn, self.next_ns(), now);
            self.sent += 1;
        }
        for at in self.touched.drain(..) {
            engine.flush(at)?;
        }
        Ok(())
    }
}

/// Runs the load and returns the report.
pub fn run(args: &Args, engine: &mut Engine) -> Result<Report> {
    let run = format!("{}/r{:x}", args.root, engine.conns[0].session.0);
    let mut work = Work::new(args, &run);
    if args.load != Load::Echo {
        set_up(args, engine, &work, &run)?;
    }
    // After the set-up: --hlog may be a pipe, whose opening holds this run up until somebody reads and others are ready.
    let mut record = Recorder::new(args, &work.kinds)?;
    let report = measure(args, engine, &mut work, &mut record)?;
    if !args.keep && matches!(args.load, Load::Create | Load::Delete) && args.mode < 2 {
        batch(engine, work.leftovers(), None)?;
        batch(engine, (0..engine.conns.len()).map(|at| own_parent(&run, at)), None)?;
        batch(engine, [run].into_iter(), None)?;
    }
    Ok(report)
}

fn set_up(args: &Args, engine: &mut Engine, work: &Work, run: &str) -> Result<()> {
    for parent in parents(&args.root) {
        batch(engine, [parent].into_iter(), Some(b""))?;
    }
    if matches!(args.load, Load::Create | Load::Delete) {
        batch(engine, [run.to_owned()].into_iter(), Some(b""))?;
        batch(engine, (0..engine.conns.len()).map(|at| own_parent(run, at)), Some(b""))?;
        if args.load == Load::Delete {
            batch(engine, work.to_delete(), Some(&work.data))?;
        }
        return Ok(());
    }
    let stem = stem(&args.root, 'k', args.path_length);
    batch(engine, (0..args.keys.into()).map(|n| path(&stem, n)), Some(&work.data))?;
    // Znodes that existed already may contain other data.
    work.rewrite(engine)
}

fn measure(args: &Args, engine: &mut Engine, work: &mut Work, record: &mut Recorder) -> Result<Report> {
    let began = now_ns();
    let warm_end = began + (args.warm_up * 1e9) as u64;
    let mut end = warm_end + (args.seconds * 1e9) as u64;
    let depth = if args.rate.is_some() { None } else { Some(args.depth as usize) };
    let mut driver = Steady { work, record, depth, stopped: false, exhausted: false, replies: 0 };
    let mut plan = args.rate.map(|rate| Plan { first_ns: began, gap_ns: 1e9 / rate, sent: 0, touched: Vec::new() });
    for at in 0..engine.conns.len() {
        driver.refill(at, &mut engine.conns[at], now_ns())?;
        engine.flush(at)?;
    }
    let mut held = true;
    loop {
        let now = now_ns();
        if !driver.record.is_measuring() && now >= warm_end {
            driver.record.begin()?;
            end = now + (args.seconds * 1e9) as u64;
        }
        if now >= end || (driver.exhausted && engine.in_flight() == 0) {
            break;
        }
        let mut until = if driver.record.is_measuring() { end } else { warm_end };
        if now >= driver.record.next_line_ns() {
            driver.record.line(engine.in_flight())?;
            engine.keep_alive(Duration::from_millis(args.session_timeout_ms as u64 / 4))?;
        }
        until = until.min(driver.record.next_line_ns());
        if let Some(plan) = &mut plan {
            plan.send_due(engine, &mut driver)?;
            until = until.min(plan.next_ns());
            if plan.sent - driver.replies > MOST_IN_FLIGHT {
                held = false;
                break;
            }
        }
        engine.turn(&mut driver, Duration::from_nanos(until.saturating_sub(now_ns())))?;
    }
    if !driver.record.is_measuring() && !held {
        return Err(format!("the rate is far too high: {MOST_IN_FLIGHT} requests are unanswered within the warm-up"));
    }
    if !driver.record.is_measuring() {
        return Err("nothing was measured: the load ended within the warm-up (--warm-up, --nodes)".to_owned());
    }
    let cpu = driver.record.end()?;
    driver.stopped = true;
    let mut report = Report::new(args, driver.record, cpu)?;
    if let Some(rate) = args.rate {
        // The rate was held if the replies are as many as the requests offered, except for those that are in flight
        // during a round trip.
        held &= report.rate() >= 0.99 * rate;
        report.held = Some(held);
    }
    engine.drain(&mut driver)?;
    Ok(report)
}
