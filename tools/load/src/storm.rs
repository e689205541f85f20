//! Reconnect storm: all connections are cut at once; every client resumes its session and sets its watches again.

use std::time::Duration;

use crate::Result;
use crate::args::Args;
use crate::conn::{Conn, Flight, Reply};
use crate::engine::{Driver, Engine};
use crate::frames::{Template, path, put_set_watches, stem};
use crate::poll::now_ns;
use crate::record::Recorder;
use crate::report::Report;
use crate::steady::{batch, parents};

const RESUME: u8 = 0;
const READY: u8 = 1;
const WATCHES: u8 = 10;

struct Storm<'a> {
    record: &'a mut Recorder,
    get: Template,
    watched: Vec<String>,
    /// When each client began to reconnect.
    since: Vec<u64>,
    /// Number of clients that are not back yet.
    away: usize,
}

impl Driver for Storm<'_> {
    fn opened(&mut self, at: usize, conn: &mut Conn, now: u64) -> Result<()> {
        self.record.reply(RESUME, self.since[at], self.since[at], now);
        let seen = conn.last_zxid();
        if !self.watched.is_empty() {
            conn.request(WATCHES, 0, now, now, |out, xid| put_set_watches(out, xid, seen, &self.watched));
        }
        conn.request(READY, 0, now, now, |out, xid| self.get.put(out, xid, || 0));
        Ok(())
    }

    fn reply(&mut self, at: usize, _: &mut Conn, flight: &Flight, reply: &Reply<'_>, now: u64) -> Result<()> {
        if reply.err != 0 {
            return Err(format!("after coming back: {}", reply.error_name()));
        }
        if flight.kind == READY {
            self.record.reply(READY, self.since[at], self.since[at], now);
            self.away -= 1;
        }
        Ok(())
    }
}

/// Runs the load.
pub fn run(args: &Args, engine: &mut Engine) -> Result<Report> {
    let stem = stem(&args.root, 's', args.path_length);
    let data = vec![b's'; args.size as usize];
    for parent in parents(&args.root) {
        batch(engine, [parent].into_iter(), Some(&data))?;
    }
    let watched: Vec<String> = (0..u64::from(args.watches)).map(|n| path(&stem, n)).collect();
    batch(engine, (0..u64::from(args.watches.max(1))).map(|n| path(&stem, n)), Some(&data))?;
    let mut record = Recorder::new(args, &["resume", "ready"])?;
    let since = vec![0; engine.conns.len()];
    let mut driver = Storm { record: &mut record, get: Template::get(&stem, false), watched, since, away: 0 };
    // Each must have seen the newest zxid, or its watches would fire when they are set again.
    for at in 0..engine.conns.len() {
        let now = now_ns();
        engine.conns[at].request(WATCHES, 0, now, now, |out, xid| driver.get.put(out, xid, || 0));
        engine.flush(at)?;
    }
    engine.drain(&mut driver)?;
    let warm_end = now_ns() + (args.warm_up * 1e9) as u64;
    let mut end = u64::MAX;
    let mut rounds = 0u64;
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
        }
        round(args, engine, &mut driver)?;
        rounds += u64::from(driver.record.is_measuring());
    }
    let cpu = driver.record.end()?;
    let resumed = driver.record.kinds.remove(usize::from(RESUME)).total;
    let mut report = Report::new(args, driver.record, cpu)?;
    report.extra = vec![
        ("storms", rounds as f64, ""),
        ("p50 until the session is resumed", resumed.value_at_quantile(0.5) as f64 / 1e3, "µs"),
        ("p99 until the session is resumed", resumed.value_at_quantile(0.99) as f64 / 1e3, "µs"),
    ];
    Ok(report)
}

/// Cuts all connections, then resumes all sessions.
fn round(args: &Args, engine: &mut Engine, driver: &mut Storm<'_>) -> Result<()> {
    for conn in &engine.conns {
        conn.cut()?;
    }
    driver.away = engine.conns.len();
    for at in 0..engine.conns.len() {
        driver.since[at] = now_ns();
        let back = Conn::dial(args.server, args.session_timeout_ms, Some(&engine.conns[at]))?;
        engine.replace(at, back)?;
        if at % 64 == 63 {
            engine.turn(driver, Duration::ZERO)?;
        }
    }
    while driver.away > 0 {
        engine.turn(driver, Duration::from_millis(100))?;
    }
    Ok(())
}
