//! Judges whether a client may have seen what it saw.

use super::client::{Ask, Client, Got};
use std::collections::BTreeMap;
use zabra::types::Zxid;

/// The mzxids of both znodes after each zxid that changed one of them.
pub type History = BTreeMap<Zxid, [Zxid; 2]>;

fn at(history: &History, zxid: Zxid) -> [Zxid; 2] {
    history.range(..=zxid).next_back().map(|(_, v)| *v).unwrap_or_default()
}

/// Checks everything that one client received.
pub fn judge(c: &Client, history: &History) -> Result<(), String> {
    let mut next = 0;
    let mut stamp = Zxid::ZERO;
    // For each znode with a watch: the mzxid when the watch was set.
    let mut armed: [Option<Zxid>; 2] = [None; 2];
    let writes: Vec<(usize, Zxid)> = c
        .got
        .iter()
        .filter_map(|g| match g {
            Got::Reply(n, z, _) if matches!(c.script[*n], Ask::Set(_) | Ask::SetBoth) => Some((*n, *z)),
            _ => None,
        })
        .collect();
    for got in &c.got {
        match got {
            Got::Event(p, zxid) => {
                let base = armed[*p].take().ok_or_else(|| format!("event {zxid} for {p} without a watch"))?;
                if *zxid <= base {
                    return Err(format!("event {zxid} for a change already seen ({base})"));
                }
                let first = history.range(base..).find(|(z, v)| **z > base && v[*p] > base).map(|(z, _)| *z);
                if first != Some(*zxid) {
                    return Err(format!("watch set at {base} fired at {zxid}, but the first change was {first:?}"));
                }
                stamp = later(stamp, *zxid)?;
            }
            Got::Reply(n, zxid, seen) => {
                if *n != next {
                    return Err(format!("reply {n} where {next} was due"));
                }
                next += 1;
                stamp = later(stamp, *zxid)?;
                read(c, *n, *zxid, seen, history, &writes, &mut armed)?;
            }
        }
    }
    if next != c.script.len() {
        return Err(format!("only {next} of {} requests were answered", c.script.len()));
    }
    let last = history.keys().next_back().copied().unwrap_or_default();
    for (p, base) in armed.iter().enumerate() {
        if base.is_some_and(|b| at(history, last)[p] > b) {
            return Err(format!("the watch on {p} never fired"));
        }
    }
    Ok(())
}

fn later(stamp: Zxid, next: Zxid) -> Result<Zxid, String> {
    if next < stamp { Err(format!("zxid fell from {stamp} to {next}")) } else { Ok(next) }
}

fn read(
    c: &Client,
    n: usize,
    zxid: Zxid,
    seen: &[Zxid],
    history: &History,
    writes: &[(usize, Zxid)],
    armed: &mut [Option<Zxid>; 2],
) -> Result<(), String> {
    let shown: Vec<(usize, Zxid)> = match c.script[n] {
        Ask::Get(p, _) => vec![(p, seen[0])],
        Ask::GetBoth => vec![(0, seen[0]), (1, seen[1])],
        Ask::Sync if zxid < c.known[n] => return Err(format!("sync {n} at {zxid} misses {}", c.known[n])),
        Ask::Sync => Vec::new(),
        Ask::Set(_) | Ask::SetBoth => {
            let changed = |p: &usize| c.script[n] == Ask::SetBoth || c.script[n] == Ask::Set(*p);
            return match (0..2).filter(changed).find(|p| armed[*p].is_some()) {
                Some(p) => Err(format!("write {n} is answered at {zxid} before the event of {p}")),
                None => Ok(()),
            };
        }
    };
    for (p, mzxid) in &shown {
        if at(history, zxid)[*p] != *mzxid {
            return Err(format!("read {n} stamped {zxid} shows {mzxid}, but it was {}", at(history, zxid)[*p]));
        }
        if armed[*p].is_some_and(|base| *mzxid > base) {
            return Err(format!("read {n} shows {mzxid} of {p} before the event"));
        }
    }
    for (w, z) in writes {
        if *w < n && *z > zxid {
            return Err(format!("read {n} at {zxid} misses the session's own write {w} at {z}"));
        }
        if *w > n && *z <= zxid {
            return Err(format!("read {n} at {zxid} shows the session's later write {w} at {z}"));
        }
    }
    if let Ask::Get(p, true) = c.script[n] {
        armed[p].get_or_insert(shown[0].1);
    }
    Ok(())
}
