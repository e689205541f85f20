//! Turns answers into text that does not depend on the server: zxids become distances, session ids numbers; sets are
//! sorted, times left out.

use std::collections::HashMap;

use zabra::jute::acl::read_acls;
use zabra::jute::stat::read_stat;
use zabra::jute::{JuteError, Reader};
use zabra::proto::multi::MultiHeader;
use zabra::types::{Op, Stat};

use crate::request::{Request, words};
use crate::side::{Base, Heard};
use crate::stream::Step;

/// One thing that a session received, in a form that can be compared.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// Everything that is compared.
    pub text: String,
    /// The request that it answers, by its index in the burst.
    pub request: Option<usize>,
    /// For an event, if several sessions write at the same time: the session whose write caused it.
    pub cause: Option<usize>,
    /// For an event: its zxid.
    pub event: Option<i64>,
}

impl Item {
    /// An item that answers `request`.
    #[cfg(test)]
    pub fn plain(text: &str, request: Option<usize>) -> Item {
        Item { text: text.to_owned(), request, cause: None, event: None }
    }
}

/// The normal form of one server's zxids.
#[derive(Default, Debug)]
pub struct Zxids {
    base: i64,
    /// Zxids that only this server uses (a known difference).
    own: Vec<i64>,
    /// Zxids used while several sessions wrote: numbered in the order of requests instead of arrival, and the session.
    renamed: HashMap<i64, (i64, usize)>,
}

impl Zxids {
    /// `base` is the last zxid before the run.
    pub fn new(base: i64) -> Zxids {
        Zxids { base, ..Zxids::default() }
    }

    /// How far the server had come: the distance from the base, which should be equal on both servers.
    fn distance(&self, zxid: i64) -> i64 {
        zxid - self.base - self.own.iter().filter(|own| **own <= zxid).count() as i64
    }

    /// Identifies the transaction, rather than the number of transactions before it.
    fn transaction(&self, zxid: i64) -> i64 {
        self.renamed.get(&zxid).map_or_else(|| self.distance(zxid), |(distance, _)| *distance)
    }

    fn word(&self, zxid: i64, name: impl Fn(&Zxids, i64) -> i64) -> String {
        if zxid <= 0 {
            zxid.to_string()
        } else if zxid <= self.base {
            "old".to_owned()
        } else {
            format!("+{}", name(self, zxid))
        }
    }

    /// Learns from the raw answers of a step; must be called before they are turned into text.
    fn learn(&mut self, step: &Step, heard: &[Vec<Heard>], takes_its_own: bool) {
        let mut writes = Vec::new();
        for (session, list) in heard.iter().enumerate() {
            for h in list {
                let Heard::Reply { asked: Some(r), zxid, .. } = h else { continue };
                if takes_its_own && r.is_undecodable_write() && *zxid > self.base && !self.own.contains(zxid) {
                    self.own.push(*zxid);
                }
                if r.is_write() {
                    writes.push((session, *zxid));
                }
            }
        }
        if !step.is_concurrent() {
            return;
        }
        let Some(first) = writes.iter().map(|(_, z)| *z).min() else { return };
        let mut all: Vec<i64> = writes.iter().map(|(_, z)| *z).collect();
        all.sort_unstable();
        // If the zxids are not consecutive they are left as they are, and show as a difference.
        if all.iter().enumerate().all(|(i, z)| *z == first + i as i64) {
            let start = self.distance(first);
            for (i, (session, zxid)) in writes.into_iter().enumerate() {
                self.renamed.insert(zxid, (start + i as i64, session));
            }
        }
    }
}

/// Turns what one server sent into [`Item`]s.
pub struct Words<'a> {
    /// Session ids in the order in which they were opened.
    pub ids: &'a [i64],
    /// The state before the run.
    pub base: &'a Base,
    /// The root of the run.
    pub root: &'a str,
    /// This server gives an undecodable write a zxid of its own.
    pub takes_its_own: bool,
}

impl Words<'_> {
    /// Turns the answers of one step into text.
    pub fn step(&self, zxids: &mut Zxids, step: &Step, heard: &[Vec<Heard>]) -> Vec<Vec<Item>> {
        zxids.learn(step, heard, self.takes_its_own);
        let closings: Vec<i64> = heard
            .iter()
            .flatten()
            .filter_map(|h| match h {
                Heard::Reply { asked: Some(Request::Bare(Op::CLOSE_SESSION)), zxid, .. } => Some(*zxid),
                _ => None,
            })
            .collect();
        let mut lists = Vec::new();
        for list in heard {
            let mut items: Vec<Item> = list.iter().map(|h| self.item(zxids, step, h)).collect();
            sort_closings(&mut items, &closings);
            lists.push(items);
        }
        lists
    }

    fn item(&self, zxids: &Zxids, step: &Step, heard: &Heard) -> Item {
        let mut item = Item { text: String::new(), request: None, cause: None, event: None };
        match heard {
            Heard::Reply { request, asked, xid, zxid, err, body } => {
                item.request = *request;
                // While several sessions write, it depends on timing how far the server has come, except for the
                // writers themselves.
                let vague = step.is_concurrent() && !asked.as_ref().is_some_and(Request::is_write);
                let at = if vague && *zxid > 0 {
                    "?".to_owned()
                } else if step.is_concurrent() {
                    zxids.word(*zxid, Zxids::transaction)
                } else {
                    zxids.word(*zxid, Zxids::distance)
                };
                let what = match asked {
                    None => format!("ping {body:02x?}"),
                    Some(r) => self.body(zxids, r, *err, body),
                };
                item.text = format!("xid {xid} zxid {at} err {err} {what}");
            }
            Heard::Event { zxid, err, body } => {
                item.event = Some(*zxid);
                item.cause = zxids.renamed.get(zxid).map(|(_, session)| *session);
                let what = event(body).unwrap_or_else(|e| format!("undecodable ({e}) {body:02x?}"));
                item.text = format!("event zxid {} err {err} {what}", zxids.word(*zxid, Zxids::transaction));
            }
            Heard::Handshake(None) => item.text = "session refused".to_owned(),
            Heard::Handshake(Some((timeout_ms, ro))) => item.text = format!("session timeout {timeout_ms} ro {ro:?}"),
            Heard::Closed => item.text = "connection closed".to_owned(),
            Heard::Silence { unanswered } => item.text = format!("silence with {unanswered} unanswered"),
            Heard::Garbage(what) => item.text = format!("garbage: {what}"),
        }
        item
    }

    fn body(&self, zxids: &Zxids, request: &Request, err: i32, body: &[u8]) -> String {
        if err != 0 || body.is_empty() {
            return if body.is_empty() { String::new() } else { format!("bytes {body:02x?}") };
        }
        let mut r = Reader::new(body);
        let path = request.path().unwrap_or("-");
        match self.record(zxids, request.op(), path, &mut r) {
            Ok(text) if r.is_empty() => text,
            Ok(text) => format!("{text} and then {:02x?}", r.rest()),
            Err(e) => format!("undecodable ({e}) {body:02x?}"),
        }
    }

    fn record(&self, zxids: &Zxids, op: Op, path: &str, r: &mut Reader<'_>) -> Result<String, JuteError> {
        Ok(match op {
            Op::CREATE | Op::SYNC => format!("path {:?}", text(r)?),
            Op::CREATE2 | Op::CREATE_CONTAINER | Op::CREATE_TTL => {
                format!("path {:?} {}", text(r)?, self.stat(zxids, "-", r)?)
            }
            Op::EXISTS | Op::SET_DATA | Op::SET_ACL => self.stat(zxids, path, r)?,
            Op::GET_DATA => format!("data {} {}", words(r.buffer()?), self.stat(zxids, path, r)?),
            Op::GET_CHILDREN => self.names(path, r)?,
            Op::GET_CHILDREN2 => format!("{} {}", self.names(path, r)?, self.stat(zxids, path, r)?),
            Op::GET_ACL => format!("acl {} {}", acl(r)?, self.stat(zxids, path, r)?),
            Op::GET_EPHEMERALS => {
                let mut names = r.strings()?;
                names.sort();
                format!("ephemerals {names:?}")
            }
            Op::GET_ALL_CHILDREN_NUMBER => {
                let before = if matches!(path, "/" | "") { self.base.nodes } else { 0 };
                format!("descendants {}", r.i32()? - before)
            }
            Op::ADD_WATCH => format!("code {}", r.i32()?),
            Op::WHO_AM_I => {
                let n = r.count(8)?.unwrap_or(0);
                let mut who = Vec::new();
                for _ in 0..n {
                    who.push(format!("{:?}:{:?}", r.ustring()?, r.ustring()?));
                }
                who.sort();
                format!("who {who:?}")
            }
            Op::MULTI | Op::MULTI_READ => self.multi(zxids, r)?,
            _ => format!("bytes {:02x?}", r.take(r.rest().len())?),
        })
    }

    fn multi(&self, zxids: &Zxids, r: &mut Reader<'_>) -> Result<String, JuteError> {
        let mut parts = Vec::new();
        loop {
            let h = MultiHeader::read(r)?;
            if h.done {
                return Ok(format!("[{}] end {} {}", parts.join("; "), h.op, h.err));
            }
            let what = match h.op {
                Op::ERROR => format!("code {}", r.i32()?),
                Op::DELETE | Op::CHECK => String::new(),
                _ => self.record(zxids, h.op, "-", r)?,
            };
            parts.push(format!("{} err {} {what}", h.op, h.err));
        }
    }

    fn stat(&self, zxids: &Zxids, path: &str, r: &mut Reader<'_>) -> Result<String, JuteError> {
        let mut s = read_stat(r)?;
        let path = if path.is_empty() { "/" } else { path };
        if let Some((_, before)) = self.base.stats.iter().find(|(p, _)| *p == path) {
            s = Stat {
                cversion: s.cversion - before.cversion,
                num_children: s.num_children - before.num_children,
                version: s.version - before.version,
                ..s
            };
        }
        let owner = match (s.ephemeral_owner, self.ids.iter().position(|id| *id == s.ephemeral_owner)) {
            (0, _) => "0".to_owned(),
            (_, Some(n)) => format!("session {n}"),
            (owner, None) => format!("{owner:#x}"),
        };
        Ok(format!(
            "stat czxid {} mzxid {} pzxid {} version {} cversion {} aversion {} owner {owner} length {} children {}",
            zxids.word(s.czxid.0, Zxids::transaction),
            zxids.word(s.mzxid.0, Zxids::transaction),
            zxids.word(s.pzxid.0, Zxids::transaction),
            s.version,
            s.cversion,
            s.aversion,
            s.data_length,
            s.num_children,
        ))
    }

    fn names(&self, path: &str, r: &mut Reader<'_>) -> Result<String, JuteError> {
        let mut names = r.strings()?;
        if matches!(path, "/" | "" | "/zookeeper/quota") {
            // Ignore what other runs left behind.
            names.retain(|n| n == "zookeeper" || n == self.root.trim_start_matches('/'));
        }
        names.sort();
        Ok(format!("names {names:?}"))
    }
}

/// A string. Java writes characters beyond U+FFFF as two surrogates of three bytes each; these are joined here (a known
/// difference).
fn text(r: &mut Reader<'_>) -> Result<Option<String>, JuteError> {
    let Some(bytes) = r.buffer()? else { return Ok(None) };
    let mut units = Vec::new();
    for chunk in bytes.utf8_chunks() {
        units.extend(chunk.valid().encode_utf16());
        units.extend(chunk.invalid().iter().map(|b| 0xdc00 | u16::from(*b)));
    }
    // A surrogate shows as three single bytes: ed, a0..bf, 80..bf.
    let mut joined = Vec::new();
    let mut rest = &units[..];
    while let [first, tail @ ..] = rest {
        if let [0xdced, b @ 0xdca0..=0xdcbf, c @ 0xdc80..=0xdcbf, tail @ ..] = rest {
            joined.push(0xd000 | (b & 0x3f) << 6 | (c & 0x3f));
            rest = tail;
        } else {
            joined.push(*first);
            rest = tail;
        }
    }
    Ok(Some(char::decode_utf16(joined).map(|c| c.unwrap_or_else(|e| lone(e.unpaired_surrogate()))).collect()))
}

/// A character that stands for one invalid byte.
fn lone(unit: u16) -> char {
    char::from_u32(0xf_0000 + u32::from(unit)).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The order of an ACL matters, except for the entries that replace `auth`, which come in the order of a hash set.
fn acl(r: &mut Reader<'_>) -> Result<String, JuteError> {
    let mut list = read_acls(r)?.into_owned();
    for run in list.chunk_by_mut(|a, b| a.perms == b.perms && a.id.scheme == "digest" && b.id.scheme == "digest") {
        run.sort_by(|a, b| a.id.cmp(&b.id));
    }
    let list: Vec<String> = list.iter().map(|a| format!("{}:{}:{}", a.id.scheme, a.id.id, a.perms)).collect();
    Ok(format!("{list:?}"))
}

fn event(body: &[u8]) -> Result<String, JuteError> {
    let mut r = Reader::new(body);
    let text = format!("type {} state {} path {:?}", r.i32()?, r.i32()?, text(&mut r)?);
    if r.is_empty() { Ok(text) } else { Err(r.unexpected("bytes after the event")) }
}

/// A closing session's znodes are deleted in the order of a hash set, so the events of one closeSession are compared as
/// a set.
fn sort_closings(items: &mut [Item], closings: &[i64]) {
    for run in items.chunk_by_mut(|a, b| a.event.is_some() && a.event == b.event) {
        if run[0].event.is_some_and(|z| closings.contains(&z)) {
            run.sort_by(|a, b| a.text.cmp(&b.text));
        }
    }
}

#[cfg(test)]
#[path = "normal_tests.rs"]
mod tests;
