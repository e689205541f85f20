//! A byte stream, split at arbitrary places, into the shard's frame reader. Mirrors what a socket passes to
//! `NIOServerCnxn`.
//!
//! * One connection: however the stream is split, the client must get the same bytes and the peer core the same
//!   requests. Answering writes in between instead of at the end must change nothing except where a stream stops that
//!   ends the connection.
//! * Many connections: any order of bytes, answers, events, ends and time must keep the shard's invariants, everything
//!   it sends must be complete frames, and when everything is answered nothing may be left waiting.

use zabra::shard::CloseHow;
use zabra::types::{ConnId, Op};

use crate::input::Input;
use crate::world::{Asked, World, frames, hello, pieces};

/// Input: a byte of flags; then for one connection the places to split and the stream, for many connections a list of
/// steps.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let flags = input.u8();
    if flags & 1 == 0 {
        one_stream(flags, &mut input);
    } else {
        many(flags, &mut input);
    }
}

/// The effects of a stream.
#[derive(PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub(crate) sent: Vec<u8>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) closed: Option<CloseHow>,
    pub(crate) words: Vec<(ConnId, &'static str, i64)>,
}

/// The connection in a world with only one.
pub(crate) const FIRST: ConnId = ConnId(1);

/// Passes the pieces to a new connection. Handshakes are answered at once; writes at once if `often` is set, or else at
/// the end.
pub(crate) fn feed(pieces: &[&[u8]], often: bool) -> Seen {
    let mut world = World::new(false);
    world.accept(FIRST);
    for piece in pieces {
        world.data(FIRST, piece);
        if often {
            world.settle();
        } else if world.handshake_waits() {
            world.answer();
        }
    }
    world.settle();
    Seen {
        sent: world.sent.remove(&FIRST).unwrap_or_default(),
        closed: world.closed.get(&FIRST).copied(),
        words: world.take_words(),
        asked: world.asked,
    }
}

/// Compares different ways to split a stream.
pub(crate) fn compare(stream: &[u8], cuts: &[u8]) -> Seen {
    let whole = feed(&[stream], false);
    let cut = pieces(stream, cuts);
    assert_eq!(whole, feed(&cut, false), "cut into {cut:?}");
    let often = feed(&cut, true);
    if whole.closed.is_none() {
        assert_eq!(whole, often, "cut into {cut:?}, answered in between");
    } else {
        assert_eq!(whole.closed.is_some(), often.closed.is_some());
        // The end of a connection may come before or after an answer.
        assert!(starts_with(&whole.sent, &often.sent), "{whole:?} {often:?}");
        assert!(starts_with(&whole.asked, &often.asked), "{whole:?} {often:?}");
    }
    whole
}

fn starts_with<T: PartialEq>(a: &[T], b: &[T]) -> bool {
    a.starts_with(b) || b.starts_with(a)
}

fn one_stream(flags: u8, input: &mut Input<'_>) {
    let cuts = input.piece();
    let mut stream = if flags & 2 == 0 { hello() } else { Vec::new() };
    stream.extend_from_slice(input.rest());
    let seen = compare(&stream, cuts);
    if seen.words.is_empty() && flags & 2 == 0 {
        frames(&seen.sent);
    }
}

fn many(flags: u8, input: &mut Input<'_>) {
    let mut world = World::new(flags & 2 != 0);
    let mut next = 1;
    let mut open: Vec<ConnId> = Vec::new();
    for _ in 0..200 {
        if input.is_empty() {
            break;
        }
        let kind = input.u8();
        let conn = if open.is_empty() { ConnId(0) } else { *input.pick(&open) };
        match kind % 16 {
            0 | 1 if open.len() < 6 => {
                // A free slot, with an id that was never used.
                let slot = (0..).find(|s| open.iter().all(|c| c.0 as u32 != *s)).unwrap_or_default();
                let conn = ConnId(next << 32 | u64::from(slot));
                next += 1;
                if kind & 16 == 0 {
                    world.accept(conn);
                } else {
                    world.open(conn);
                }
                open.push(conn);
            }
            2..=7 => world.data(conn, input.piece()),
            8 => drop(world.answer()),
            9 => drop(world.turn()),
            10 => world.settle(),
            11 => {
                world.gone(conn);
                open.retain(|c| *c != conn);
            }
            12 => world.eof(conn),
            13 => world.untaken(conn, usize::from(input.u16()) << 12),
            14 => {
                let ops = [Op::CREATE, Op::SET_DATA, Op::DELETE];
                let paths = ["/a", "/a/b", "/c", "/none"];
                let (op, path) = (*input.pick(&ops), *input.pick(&paths));
                world.change(op, path);
            }
            _ => {
                world.after(i64::from(input.u8()) * 17);
                world.turn();
            }
        }
    }
    finish(&mut world, &open);
}

/// All clients read everything, and everything is answered; what they get must be complete.
fn finish(world: &mut World, open: &[ConnId]) {
    for (conn, word, _) in world.take_words() {
        world.word_answer(conn, word.as_bytes());
        world.sent.remove(&conn);
    }
    for conn in open {
        world.untaken(*conn, 0);
    }
    world.settle();
    for sent in world.sent.values().filter(|s| !s.ends_with(b"whitelist.\n")) {
        frames(sent);
    }
    assert_eq!(world.outstanding(), 0, "requests are left without an answer");
}
