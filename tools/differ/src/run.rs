//! Runs one stream on both servers, and searches for a shorter one that still shows the difference.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use crate::Result;
use crate::compare::{Difference, compare};
use crate::normal::{Item, Words, Zxids};
use crate::request::Request;
use crate::side::{Heard, Side};
use crate::stream::{AREAS, SESSIONS, Step};
use zabra::types::Op;

/// The servers' addresses and the timeout.
#[derive(Clone, Copy, Debug)]
pub struct Servers {
    pub apache: SocketAddr,
    pub zabra: SocketAddr,
    pub patience: Duration,
}

/// Counts of what was compared.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub struct Compared {
    /// Replies by opcode and error code: shows what the streams cover.
    pub tally: BTreeMap<(Op, i32), u64>,
    pub requests: u64,
    pub answers: u64,
    pub events: u64,
}

impl Compared {
    /// Adds the counts of another stream.
    pub fn add(&mut self, other: Compared) {
        self.requests += other.requests;
        self.answers += other.answers;
        self.events += other.events;
        for (key, n) in other.tally {
            *self.tally.entry(key).or_default() += n;
        }
    }
}

/// The first difference of a stream.
#[derive(Clone, Debug)]
pub struct Found {
    /// The index of the step.
    pub step: usize,
    pub difference: Difference,
    /// The request whose reply differs, if it was a reply.
    pub request: Option<Request>,
    /// Everything that the session received in this step.
    pub apache: Vec<Item>,
    pub zabra: Vec<Item>,
}

impl Found {
    /// Whether two differences are taken for the same: both concern the same kind of request or of event.
    pub fn resembles(&self, other: &Found) -> bool {
        let mark = |f: &Found| {
            let event = |i: &Option<Item>| i.as_ref().is_some_and(|i| i.text.starts_with("event"));
            let d = &f.difference;
            (
                f.request.as_ref().map(Request::op),
                event(&d.apache),
                event(&d.zabra),
                d.apache.is_some(),
                d.zabra.is_some(),
            )
        };
        mark(self) == mark(other)
    }
}

/// Runs a stream until its end or the first difference.
pub fn run(servers: Servers, root: &str, steps: &[Step]) -> Result<(Compared, Option<Found>)> {
    let (mut apache, mut zabra) = both(
        || Side::open(servers.apache, servers.patience, root, &AREAS, SESSIONS),
        || Side::open(servers.zabra, servers.patience, root, &AREAS, SESSIONS),
    )?;
    let (mut apache_zxids, mut zabra_zxids) = (Zxids::new(apache.base.zxid), Zxids::new(zabra.base.zxid));
    let mut compared = Compared::default();
    let mut found = None;
    for (number, step) in steps.iter().enumerate() {
        let (a, z) = both(|| apache.step(step), || zabra.step(step))?;
        count(&mut compared, &a);
        let a = words(&apache, root, false).step(&mut apache_zxids, step, &a);
        let z = words(&zabra, root, true).step(&mut zabra_zxids, step, &z);
        if let Some(difference) = compare(&a, &z, step.is_concurrent()) {
            let session = difference.session;
            found = Some(Found {
                step: number,
                request: request_of(step, &difference),
                difference,
                apache: a[session].clone(),
                zabra: z[session].clone(),
            });
            break;
        }
    }
    both(|| apache.close(), || zabra.close())?;
    Ok((compared, found))
}

fn both<A: Send, B>(apache: impl FnOnce() -> Result<A> + Send, zabra: impl FnOnce() -> Result<B>) -> Result<(A, B)> {
    thread::scope(|scope| {
        let other = scope.spawn(apache);
        let b = zabra().map_err(|e| format!("Zabra: {e}"));
        let a = other.join().map_err(|_| "the thread that asks Apache died".to_owned())?;
        Ok((a.map_err(|e| format!("Apache: {e}"))?, b?))
    })
}

fn words<'a>(side: &'a Side, root: &'a str, takes_its_own: bool) -> Words<'a> {
    Words { ids: &side.ids, base: &side.base, root, takes_its_own }
}

fn count(compared: &mut Compared, heard: &[Vec<Heard>]) {
    for h in heard.iter().flatten() {
        match h {
            Heard::Reply { asked: Some(r), err, .. } => {
                *compared.tally.entry((r.op(), *err)).or_default() += 1;
                compared.requests += 1;
                compared.answers += 1;
            }
            Heard::Event { .. } => compared.events += 1,
            _ => compared.answers += 1,
        }
    }
}

fn request_of(step: &Step, d: &Difference) -> Option<Request> {
    let place = d.request()?;
    let requests = match step {
        Step::Burst(bursts) => &bursts.iter().find(|b| b.session == d.session)?.requests,
        Step::Away { session, back, .. } if *session == d.session => back,
        Step::Away { meanwhile, .. } => &meanwhile.iter().find(|b| b.session == d.session)?.requests,
        Step::WrongPassword(_) => return None,
    };
    requests.get(place).cloned()
}

/// Tries to leave out steps, then single requests, as long as `differs` still finds the same kind of difference. Calls
/// `differs` at most `tries` times. Returns what remains, with its difference.
pub fn shrink<F>(steps: &[Step], found: Found, mut tries: u32, mut differs: F) -> Result<(Vec<Step>, Found)>
where
    F: FnMut(&[Step]) -> Result<Option<Found>>,
{
    let mut best = (steps[..=found.step].to_vec(), found);
    let mut check = |best: &mut (Vec<Step>, Found), shorter: Vec<Step>| -> Result<Option<bool>> {
        if tries == 0 {
            return Ok(None);
        }
        tries -= 1;
        match differs(&shorter)? {
            Some(f) if f.resembles(&best.1) => {
                *best = (shorter[..=f.step].to_vec(), f);
                Ok(Some(true))
            }
            _ => Ok(Some(false)),
        }
    };
    let mut size = best.0.len() / 2;
    while size > 0 {
        let mut at = 0;
        while at + size < best.0.len() {
            let mut shorter = best.0.clone();
            shorter.drain(at..at + size);
            match check(&mut best, shorter)? {
                Some(true) => {}
                Some(false) => at += size,
                None => return Ok(best),
            }
        }
        size /= 2;
    }
    // From the end, so that the indices of those not tried yet stay valid.
    let places: Vec<(usize, usize, usize)> = places(&best.0).into_iter().rev().collect();
    for (step, list, request) in places {
        let mut shorter = best.0.clone();
        let Some(step) = shorter.get_mut(step) else { continue };
        if let Some(requests) = step.requests_mut().into_iter().nth(list)
            && request < requests.len()
        {
            requests.remove(request);
        }
        if check(&mut best, shorter)?.is_none() {
            break;
        }
    }
    Ok(best)
}

fn places(steps: &[Step]) -> Vec<(usize, usize, usize)> {
    let mut all = Vec::new();
    for (s, step) in steps.iter().enumerate() {
        for (l, list) in step.requests().into_iter().enumerate() {
            all.extend((0..list.len()).map(|r| (s, l, r)));
        }
    }
    all
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
