//! Writes seed inputs to a folder, with a subfolder per target: exchanges recorded with Apache, files of Apache, and
//! inputs written by hand. `cargo run -p zabra-fuzz --bin seeds -- FOLDER`; `tools/fuzz/run` calls it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use zabra::proto::request::put_ping;
use zabra::types::Op;
use zabra_fuzz::{config, leader, request};

fn main() -> io::Result<()> {
    let Some(folder) = std::env::args().nth(1) else {
        return Err(io::Error::other("usage: seeds FOLDER"));
    };
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let seeds = Seeds { folder: PathBuf::from(folder) };
    seeds.exchanges(&root.join("tests/golden/apache-3.9"))?;
    seeds.files(&root.join("src/txnlog/testdata"))?;
    seeds.terms(&root.join("tests/ensemble/vectors"))?;
    seeds.servers(&root.join("tests/ensemble/vectors"))?;
    seeds.configurations()?;
    seeds.by_chance()
}

struct Seeds {
    folder: PathBuf,
}

impl Seeds {
    fn put(&self, target: &str, name: &str, bytes: &[u8]) -> io::Result<()> {
        let folder = self.folder.join(target);
        fs::create_dir_all(&folder)?;
        fs::write(folder.join(name), bytes)
    }

    /// What clients sent, as a stream and request by request.
    fn exchanges(&self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".hex")) else {
                continue;
            };
            let text = fs::read_to_string(&path)?;
            let first = text.lines().filter(|l| l.starts_with("@ ")).take(2).count();
            let mut stream = Vec::new();
            for line in text.lines().filter_map(|l| l.strip_prefix("> ")) {
                let sent = hex(line);
                self.requests(name, &sent)?;
                stream.extend(sent);
            }
            if first == 1 {
                // Split twice, with the complete handshake.
                self.put("frame", name, &[&[2, 2, 45, 19], &stream[..]].concat())?;
                self.put("connect", name, &[&[2, 3, 30], &stream[..]].concat())?;
            }
        }
        Ok(())
    }

    fn requests(&self, name: &str, sent: &[u8]) -> io::Result<()> {
        let mut rest = sent;
        for i in 0u8.. {
            let Some((len, behind)) = rest.split_first_chunk::<4>() else { break };
            let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(usize::MAX);
            let Some(frame) = behind.get(..len).filter(|f| f.len() >= 8) else { break };
            let op = Op(i32::from_be_bytes([frame[4], frame[5], frame[6], frame[7]]));
            if let Some(number) = request::number_of(op) {
                let seed = [&[number, i & 7], &frame[8..]].concat();
                self.put("request", &format!("{name}-{i}"), &seed)?;
            }
            rest = &behind[len..];
        }
        Ok(())
    }

    /// What servers said to each other: message by message, and an election connection's side as a stream.
    fn servers(&self, folder: &Path) -> io::Result<()> {
        const KINDS: [&str; 5] = ["learner", "leader", "token", "hello", "notification"];
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let Some(name) = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".txt")) else {
                continue;
            };
            let text = fs::read_to_string(&path)?;
            let mut streams = BTreeMap::<String, Vec<u8>>::new();
            for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.starts_with(['#', '='])) {
                let fields: Vec<&str> = line.split(' ').collect();
                let [_, connection, ends, kind, bytes] = fields[..] else { continue };
                let Some(number) = KINDS.iter().position(|known| *known == kind) else { continue };
                let bytes = hex(bytes);
                self.put("packets", &format!("{name}-{i}"), &[&[number as u8], &bytes[..]].concat())?;
                if number >= 3 {
                    streams.entry(format!("{connection}-{ends}")).or_default().extend(bytes);
                }
            }
            for (i, stream) in streams.values().enumerate() {
                // Split twice, to a server that looks and to one that leads.
                self.put("election", &format!("{name}-{i}"), &[&[2, 2, 30, 90], &stream[..]].concat())?;
                self.put("election", &format!("{name}-{i}-leads"), &[&[6, 2, 9, 70], &stream[..]].concat())?;
            }
        }
        Ok(())
    }

    /// Files that Apache wrote.
    fn files(&self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let bytes = fs::read(&path)?;
            let flags: u8 = match path.extension().and_then(|e| e.to_str()) {
                Some("gz") => 1,
                Some("snappy") => 2,
                _ => 0,
            };
            if name.contains("snapshot") {
                self.put("snapshot", &name, &[&[flags], &bytes[..]].concat())?;
                if flags == 0 {
                    // Only the image, without header, terminator, blocks and seals.
                    let end = bytes.len().saturating_sub(5 + 13 + 33 + 21).max(16);
                    self.put("snapshot", &format!("{name}-image"), &[&[4], &bytes[16..end]].concat())?;
                }
            } else {
                let mut raw = vec![0, 0, 0, 255];
                raw.extend((bytes.len() as u16).to_be_bytes());
                raw.extend(&bytes);
                self.put("log_recovery", &name, &raw)?;
            }
        }
        Ok(())
    }

    /// What Apache's leaders said to learners that began without a history. Behind each packet the disk does its work.
    fn terms(&self, folder: &Path) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|n| n.to_str()).unwrap_or_default().to_owned();
            let mut terms = BTreeMap::<String, Vec<u8>>::new();
            for line in fs::read_to_string(&path)?.lines() {
                let [_, connection, _, kind, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
                let bytes = hex(bytes);
                match (kind, bytes.get(..12)) {
                    // FOLLOWERINFO or OBSERVERINFO, of no epoch.
                    ("learner", Some([0, 0, 0, role @ (11 | 16), 0, 0, 0, 0, ..])) => {
                        terms.insert(connection.to_owned(), vec![u8::from(*role == 16), 0, 0]);
                    }
                    ("leader" | "state", _) => {
                        let Some(term) = terms.get_mut(connection) else { continue };
                        term.extend([0, 255]);
                        term.extend((bytes.len() as u16).to_be_bytes());
                        term.extend(bytes);
                        term.push(9);
                    }
                    _ => {}
                }
            }
            for (connection, term) in terms {
                self.put("learner", &format!("{name}-{connection}"), &term)?;
            }
        }
        Ok(())
    }

    fn configurations(&self) -> io::Result<()> {
        let standalone = "tickTime=2000\ndataDir=/d\nclientPort=2181\nmaxClientCnxns=60\n4lw.commands.whitelist=*\n";
        let servers =
            "server.1=a:2888:3888;2181\nserver.2=[::1]:2888:3888:observer;[::1]:2181\ngroup.1=1:2\nweight.1=3\n";
        let dynamic = "dataDir=/d\ndynamicConfigFile=/conf/zoo.cfg.dynamic.1a\nclientPort=2181\n";
        let texts: [&[&str]; 6] = [
            &[standalone],
            &[standalone, "", "1\n", "zookeeper.snapCount=9\njute.maxbuffer=0x100000\n"],
            &[&format!("{standalone}{servers}initLimit=5\nsyncLimit=2\n"), "", "1"],
            &[dynamic, servers, "1"],
            &["dataDir=/d\nclientPort=1\nk\\u0041\\\n  b : c\n# c\n! d\nautopurge.purgeInterval=1\nskipACL=yes\n"],
            &["metricsProvider.className=x\nsecureClientPort=1\nauthProvider.1=x\nadmin.enableServer=false\n"],
        ];
        for (i, parts) in texts.iter().enumerate() {
            self.put("config", &format!("by-hand-{i}"), &config::join(parts))?;
        }
        let keys: Vec<String> = zabra::config::keys::all().map(|k| format!("{}={}\n", k.name, k.default)).collect();
        for (i, some) in keys.chunks(25).enumerate() {
            self.put("config", &format!("keys-{i}"), format!("{standalone}{}", some.concat()).as_bytes())?;
            let defines = format!("zookeeper.{}", some.join("zookeeper."));
            self.put("config", &format!("defines-{i}"), &config::join(&[standalone, "", "1", &defines]))?;
        }
        Ok(())
    }

    /// Inputs that are read as choices, and a long stream.
    fn by_chance(&self) -> io::Result<()> {
        for (i, input) in leader::by_hand().iter().enumerate() {
            self.put("leader", &format!("by-hand-{i}"), input)?;
        }
        let mut rng = fastrand::Rng::with_seed(1);
        for i in 0..24 {
            let mut any = |n: usize| (0..n).map(|_| rng.u8(..)).collect::<Vec<u8>>();
            self.put("operations", &format!("chance-{i}"), &any(40 * (i + 1)))?;
            self.put("log_recovery", &format!("damaged-{i}"), &[&[2], &any(12 * (i + 1))[..]].concat())?;
            self.put("log_recovery", &format!("forged-{i}"), &[&[1], &any(12 * (i + 1))[..]].concat())?;
            self.put("frame", &format!("many-{i}"), &[&[1 + 2 * (i as u8 & 1)], &any(30 * (i + 1))[..]].concat())?;
            self.put("learner", &format!("chance-{i}"), &any(20 * (i + 1)))?;
            self.put("leader", &format!("chance-{i}"), &any(40 * (i + 1)))?;
            let worlds = [1 + 2 * (i as u8 & 3) + 8 * u8::from(i % 5 == 0)];
            self.put("election", &format!("chance-{i}"), &[&worlds, &any(40 * (i + 1))[..]].concat())?;
            self.put("snapshot", &format!("damaged-{i}"), &[&[12 + i as u8 % 3], &any(5)[..]].concat())?;
        }
        let mut ping = vec![0, 1, 60];
        for _ in 0..40 {
            put_ping(&mut ping);
        }
        self.put("frame", "pings", &ping)
    }
}

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).unwrap_or_default(), 16).unwrap_or(0);
    digits.chunks(2).map(byte).collect()
}
