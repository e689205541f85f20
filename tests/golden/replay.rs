//! Replays one recorded exchange to a real server.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zabra::types::{Op, SessionId};

/// How long a reply may take. A later one counts as a difference.
const PATIENCE: Duration = Duration::from_secs(20);
const SID_BASE: i64 = 0x0100_0000_0000_0000;
const ZXID_BASE: i64 = 0x1000;
/// Fewer zxids than this are used by any exchange.
const ZXIDS: i64 = 0x1000;
const TIME: i64 = 0x0000_0180_0000_0000;
const QUIET: Duration = Duration::from_millis(400);

/// One connection of an exchange.
struct Conn {
    stream: TcpStream,
    /// Number of complete frames sent, including the handshake.
    sent: usize,
    received: usize,
    /// The opcode of each xid sent.
    ops: HashMap<i32, Op>,
}

struct Exchange {
    addr: SocketAddr,
    base: i64,
    conns: HashMap<u32, Conn>,
    current: u32,
    /// The actual session ids, in order of appearance.
    sessions: Vec<i64>,
    any_zxid: bool,
}

/// Replays `text`; returns the first difference, if there is one.
pub(super) fn replay(addr: SocketAddr, base: i64, text: &str, ends_with_anything: bool) -> Result<(), String> {
    let any_zxid = text.contains("# the zxid in reply headers is not comparable here");
    let mut e = Exchange { addr, base, conns: HashMap::new(), current: 0, sessions: Vec::new(), any_zxid };
    let lines: Vec<&str> = text.lines().collect();
    for (n, line) in lines.iter().enumerate() {
        let masks = lines.get(n + 1).and_then(|l| l.strip_prefix("# normalised: ")).unwrap_or("");
        let done = match line.split_at_checked(2) {
            Some(("@ ", number)) => {
                e.use_conn(number.parse().expect("a connection's number"));
                Ok(())
            }
            Some(("> ", hex)) => {
                e.send(unhex(hex));
                Ok(())
            }
            Some(("< ", hex)) => e.receive(&unhex(hex), masks),
            _ if *line == "x" => e.closed(ends_with_anything),
            _ if *line == "# silence" => e.silent(),
            _ if line.starts_with('#') => Ok(()),
            _ => panic!("line {} is of no known kind: {line}", n + 1),
        };
        done.map_err(|what| format!("line {}: {what}", n + 1))?;
    }
    Ok(())
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |i| u8::from_str_radix(&text[i..i + 2], 16).expect("hex");
    (0..text.len()).step_by(2).map(byte).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn i32_at(bytes: &[u8], at: usize) -> Option<i32> {
    Some(i32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn i64_at(bytes: &[u8], at: usize) -> Option<i64> {
    Some(i64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn put(bytes: &mut [u8], at: usize, value: i64) {
    bytes[at..at + 8].copy_from_slice(&value.to_be_bytes());
}

impl Exchange {
    fn use_conn(&mut self, n: u32) {
        self.current = n;
        let addr = self.addr;
        self.conns.entry(n).or_insert_with(|| {
            let stream = TcpStream::connect(addr).expect("the server accepts");
            stream.set_nodelay(true).expect("nodelay");
            Conn { stream, sent: 0, received: 0, ops: HashMap::new() }
        });
    }

    fn conn(&mut self) -> &mut Conn {
        self.conns.get_mut(&self.current).expect("@ comes first")
    }

    /// Sends bytes, after replacing the normalised ids and zxids by those of this run.
    fn send(&mut self, mut bytes: Vec<u8>) {
        let mut at = 0;
        while let Some(len) = i32_at(&bytes, at).and_then(|l| usize::try_from(l).ok()) {
            let Some(frame) = bytes.get_mut(at..at + 4 + len) else { break };
            let first = self.conns[&self.current].sent == 0;
            if first {
                self.localise_handshake(frame);
            } else {
                self.localise_request(frame);
            }
            self.conn().sent += 1;
            at += 4 + len;
        }
        // The server may have closed the connection; then the next line of the recording says so.
        let _ = self.conn().stream.write_all(&bytes);
    }

    fn real_zxid(&self, normal: i64) -> i64 {
        if (ZXID_BASE..ZXID_BASE + ZXIDS).contains(&normal) { normal - ZXID_BASE + self.base } else { normal }
    }

    fn localise_handshake(&self, frame: &mut [u8]) {
        if let Some(zxid) = i64_at(frame, 8) {
            put(frame, 8, self.real_zxid(zxid));
        }
        let Some(normal) = i64_at(frame, 20) else { return };
        let index = usize::try_from(normal - SID_BASE - 1).ok();
        let Some(real) = index.and_then(|i| self.sessions.get(i)).copied() else { return };
        put(frame, 20, real);
        if let Some(passwd) = frame.get_mut(32..48)
            && *passwd == SessionId(normal).passwd()
        {
            passwd.copy_from_slice(&SessionId(real).passwd());
        }
    }

    fn localise_request(&mut self, frame: &mut [u8]) {
        let (Some(xid), Some(op)) = (i32_at(frame, 4), i32_at(frame, 8).map(Op)) else { return };
        self.conn().ops.insert(xid, op);
        if matches!(op, Op::SET_WATCHES | Op::SET_WATCHES2)
            && let Some(zxid) = i64_at(frame, 12)
        {
            put(frame, 12, self.real_zxid(zxid));
        }
    }

    fn receive(&mut self, expected: &[u8], masks: &str) -> Result<(), String> {
        let mut actual = self.read(expected.len(), PATIENCE);
        let first = self.conn().received == 0;
        self.conn().received += 1;
        if first
            && actual.len() >= 40
            && let Some(sid) = i64_at(&actual, 12)
            && sid != 0
            && !self.sessions.contains(&sid)
        {
            self.sessions.push(sid);
        }
        let mut expected = expected.to_vec();
        self.normalise(&mut actual, masks);
        self.sort(&mut actual);
        if self.any_zxid && !first && actual.len() >= 20 && expected.len() >= 20 {
            put(&mut actual, 8, 0);
            put(&mut expected, 8, 0);
        }
        // Identities come in the order of a hash set.
        if let Some(Op::WHO_AM_I) = self.op_of(&actual) {
            sort_identities(&mut actual);
            sort_identities(&mut expected);
        }
        if actual == expected {
            return Ok(());
        }
        // Also show what else the server has sent, so that the difference can be understood.
        let more = self.read(4096, Duration::from_millis(50));
        Err(format!("\n  expected {}\n  actual   {} {}", hex(&expected), hex(&actual), hex(&more)))
    }

    fn op_of(&self, frame: &[u8]) -> Option<Op> {
        let xid = i32_at(frame, 4)?;
        self.conns[&self.current].ops.get(&xid).copied()
    }

    fn normalise(&self, bytes: &mut [u8], masks: &str) {
        for mask in masks.split_whitespace() {
            let (kind, at) = mask.split_once('@').expect("kind@offset");
            let at: usize = at.parse().expect("an offset");
            let Some(value) = i64_at(bytes, at) else { continue };
            match kind {
                "zxid" if value > 0 => put(bytes, at, value - self.base + ZXID_BASE),
                "zxid" => {}
                "time" => {
                    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
                    if (value - now).abs() < 600_000 {
                        put(bytes, at, TIME);
                    }
                }
                "sid" => {
                    if let Some(i) = self.sessions.iter().position(|s| *s == value) {
                        put(bytes, at, SID_BASE + i as i64 + 1);
                    }
                }
                "passwd" => {
                    // The session id in front of it has been normalised already.
                    let normal = i64_at(bytes, at - 12).unwrap_or(0);
                    let real = usize::try_from(normal - SID_BASE - 1).ok().and_then(|i| self.sessions.get(i)).copied();
                    if let (Some(real), Some(passwd)) = (real, bytes.get_mut(at..at + 16))
                        && *passwd == SessionId(real).passwd()
                    {
                        passwd.copy_from_slice(&SessionId(normal).passwd());
                    }
                }
                other => panic!("unknown mask {other}"),
            }
        }
    }

    /// Names may come in any order; in the recording they are sorted.
    fn sort(&self, frame: &mut [u8]) {
        let lists = [Op::GET_CHILDREN, Op::GET_CHILDREN2, Op::GET_EPHEMERALS];
        if !self.op_of(frame).is_some_and(|op| lists.contains(&op)) || i32_at(frame, 16) != Some(0) {
            return;
        }
        let Some(count) = i32_at(frame, 20).filter(|n| *n > 0) else { return };
        let (mut at, mut names) = (24, Vec::new());
        for _ in 0..count {
            let Some(len) = i32_at(frame, at).and_then(|l| usize::try_from(l).ok()) else { return };
            let Some(name) = frame.get(at..at + 4 + len) else { return };
            names.push(name.to_vec());
            at += 4 + len;
        }
        names.sort_by(|a, b| a[4..].cmp(&b[4..]));
        frame[24..at].copy_from_slice(&names.concat());
    }

    fn closed(&mut self, anything: bool) -> Result<(), String> {
        let more = self.read(1 << 20, PATIENCE);
        let end = self.ended();
        if !end {
            return Err("the connection stays open".into());
        }
        if more.is_empty() || anything { Ok(()) } else { Err(format!("sent before the end: {}", hex(&more))) }
    }

    fn ended(&mut self) -> bool {
        let stream = &mut self.conn().stream;
        stream.set_read_timeout(Some(QUIET)).expect("a timeout");
        !matches!(stream.read(&mut [0]), Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
    }

    fn silent(&mut self) -> Result<(), String> {
        let stream = &mut self.conn().stream;
        stream.set_read_timeout(Some(QUIET)).expect("a timeout");
        match stream.read(&mut [0]) {
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(()),
            Ok(0) | Err(_) => Err("closed instead of silent".into()),
            Ok(_) => Err("an answer instead of silence".into()),
        }
    }

    /// Reads up to `len` bytes; fewer if the connection ends or if nothing arrives for `wait`.
    fn read(&mut self, len: usize, wait: Duration) -> Vec<u8> {
        let stream = &mut self.conn().stream;
        stream.set_read_timeout(Some(wait)).expect("a timeout");
        let mut bytes = vec![0; len];
        let mut have = 0;
        while have < len {
            match stream.read(&mut bytes[have..]) {
                Ok(0) | Err(_) => break,
                Ok(n) => have += n,
            }
            // The rest of a frame follows its first bytes quickly, so do not wait the full time if a frame is shorter
            // than expected.
            stream.set_read_timeout(Some(wait.min(Duration::from_secs(2)))).expect("a timeout");
        }
        bytes.truncate(have);
        bytes
    }
}

fn sort_identities(frame: &mut [u8]) {
    let Some(count) = i32_at(frame, 20).filter(|n| *n > 0) else { return };
    let (mut at, mut found) = (24, Vec::new());
    for _ in 0..count {
        let begin = at;
        for _ in 0..2 {
            let Some(len) = i32_at(frame, at).and_then(|l| usize::try_from(l).ok()) else { return };
            at += 4 + len;
        }
        let Some(one) = frame.get(begin..at) else { return };
        found.push(one.to_vec());
    }
    found.sort();
    frame[24..at].copy_from_slice(&found.concat());
}
