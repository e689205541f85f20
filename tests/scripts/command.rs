//! The words of a command in a script.

use zabra::proto::multi::{MultiOp, MultiReadOp};
use zabra::proto::record::{CreateRequest, Text};
use zabra::proto::request::{Request, SetWatches};
use zabra::types::{Acl, CreateMode, Epoch, Id, Op, Zxid};

/// The words of a command; each is used once. Those with `=` are found by name, the others are used in order.
pub struct Args<'a> {
    line: &'a str,
    words: Vec<&'a str>,
}

impl<'a> Args<'a> {
    pub fn new(line: &'a str) -> Args<'a> {
        Args { line, words: line.split_whitespace().collect() }
    }

    /// The next word.
    pub fn next(&mut self) -> Option<&'a str> {
        let at = self.words.iter().position(|w| !w.contains('='))?;
        Some(self.words.remove(at))
    }

    pub fn need(&mut self, what: &str) -> &'a str {
        self.next().unwrap_or_else(|| panic!("`{}` names no {what}", self.line))
    }

    /// Whether the command has this word.
    pub fn flag(&mut self, word: &str) -> bool {
        let at = self.words.iter().position(|w| *w == word);
        at.map(|at| self.words.remove(at)).is_some()
    }

    /// The value of `name=`.
    pub fn value(&mut self, name: &str) -> Option<&'a str> {
        let at = self.words.iter().position(|w| w.split_once('=').is_some_and(|(n, _)| n == name))?;
        self.words.remove(at).split_once('=').map(|(_, value)| value)
    }

    pub fn number(&mut self, name: &str) -> Option<i64> {
        self.value(name).map(|v| v.parse().unwrap_or_else(|e| panic!("{name}={v}: {e}")))
    }

    /// A zxid as it is shown: `0x5`, or `2.0x5` in epoch 2.
    pub fn zxid(&mut self, name: &str) -> Option<Zxid> {
        self.value(name).map(zxid)
    }

    /// The rest of the words, in parts that `;` separates.
    pub fn parts(&mut self) -> Vec<Args<'a>> {
        let words = std::mem::take(&mut self.words);
        if words.is_empty() {
            return Vec::new();
        }
        words.split(|word| *word == ";").map(|words| Args { line: self.line, words: words.to_vec() }).collect()
    }

    fn paths(&mut self, name: &str) -> Vec<String> {
        self.value(name).map_or_else(Vec::new, |v| v.split(',').map(str::to_owned).collect())
    }

    /// Checks that all words were used.
    ///
    /// # Panics
    /// If some were not.
    pub fn end(self) {
        assert!(self.words.is_empty(), "`{}`: nothing is known of {:?}", self.line, self.words);
    }
}

/// A zxid as it is shown.
pub fn zxid(text: &str) -> Zxid {
    let (epoch, counter) = text.split_once('.').unwrap_or(("0", text));
    let counter = counter.strip_prefix("0x").and_then(|hex| u32::from_str_radix(hex, 16).ok());
    let (Ok(epoch), Some(counter)) = (epoch.parse(), counter) else { panic!("{text} is no zxid") };
    Zxid::new(Epoch(epoch), counter)
}

/// Opcode and body of the request that `send` describes.
pub fn request<'a>(what: &str, args: &mut Args<'a>) -> (Op, Request<'a>) {
    match what {
        "create" | "create2" => create(args, if what == "create" { Op::CREATE } else { Op::CREATE2 }),
        "delete" => {
            let version = version(args);
            (Op::DELETE, Request::Delete { path: path(args), version })
        }
        "set" => {
            let version = version(args);
            (Op::SET_DATA, Request::SetData { path: path(args), data: args.next().map(str::as_bytes), version })
        }
        "setacl" => {
            let version = version(args);
            let acl = acl(args).unwrap_or_else(|| vec![Acl::world_all()]);
            (Op::SET_ACL, Request::SetAcl { path: path(args), acl: acl.into(), version })
        }
        "get" => {
            let watch = args.flag("watch");
            (Op::GET_DATA, Request::GetData { path: path(args), watch })
        }
        "exists" => {
            let watch = args.flag("watch");
            (Op::EXISTS, Request::Exists { path: path(args), watch })
        }
        "ls" => {
            let watch = args.flag("watch");
            (Op::GET_CHILDREN, Request::GetChildren { path: path(args), watch })
        }
        "sync" => (Op::SYNC, Request::Sync { path: Some(path(args)) }),
        "ping" => (Op::PING, Request::Ping),
        "close" => (Op::CLOSE_SESSION, Request::CloseSession),
        "addwatch" => {
            let mode = i32::from(args.flag("recursive"));
            (Op::ADD_WATCH, Request::AddWatch { path: path(args), mode })
        }
        "setwatches" => {
            let watches = SetWatches {
                relative_zxid: args.zxid("seen").unwrap_or_default(),
                data: args.paths("data"),
                exist: args.paths("exist"),
                child: args.paths("child"),
                persistent: args.paths("persistent"),
                persistent_recursive: args.paths("recursive"),
            };
            (Op::SET_WATCHES2, Request::SetWatches(watches))
        }
        "multi" => (Op::MULTI, Request::Multi(multi(args))),
        "multiread" => {
            let reads = std::iter::from_fn(|| args.next());
            (Op::MULTI_READ, Request::MultiRead(reads.map(|p| MultiReadOp::GetData { path: p.into() }).collect()))
        }
        other => panic!("`send` knows no {other}"),
    }
}

fn path<'a>(args: &mut Args<'a>) -> Text<'a> {
    args.need("path").into()
}

fn version(args: &mut Args<'_>) -> i32 {
    args.number("version").map_or(-1, |v| v as i32)
}

/// `acl=scheme:id:perms`, with the permissions as a number.
fn acl(args: &mut Args<'_>) -> Option<Vec<Acl>> {
    let value = args.value("acl")?;
    let parts: Vec<&str> = value.split(':').collect();
    let [scheme, id, perms] = parts[..] else { panic!("acl={value} is not scheme:id:perms") };
    Some(vec![Acl { perms: perms.parse().expect("permissions are a number"), id: Id::new(scheme, id) }])
}

fn create<'a>(args: &mut Args<'a>, code: Op) -> (Op, Request<'a>) {
    let (ephemeral, sequential) = (args.flag("ephemeral"), args.flag("sequential"));
    let (container, ttl_ms) = (args.flag("container"), args.number("ttl"));
    let (mode, code) = match (ephemeral, sequential, container, ttl_ms) {
        (false, false, false, None) => (CreateMode::Persistent, code),
        (true, false, false, None) => (CreateMode::Ephemeral, code),
        (false, true, false, None) => (CreateMode::PersistentSequential, code),
        (true, true, false, None) => (CreateMode::EphemeralSequential, code),
        (false, false, true, None) => (CreateMode::Container, Op::CREATE_CONTAINER),
        (false, false, false, Some(_)) => (CreateMode::PersistentWithTtl, Op::CREATE_TTL),
        (false, true, false, Some(_)) => (CreateMode::PersistentSequentialWithTtl, Op::CREATE_TTL),
        _ => panic!("there is no such mode"),
    };
    let acl = acl(args).unwrap_or_else(|| vec![Acl::world_all()]).into();
    let (path, flags) = (path(args), mode as i32);
    let data = args.next().map(str::as_bytes);
    (code, Request::Create(CreateRequest { path, data, acl, flags, ttl_ms }))
}

/// Operations separated by `;`.
fn multi<'a>(args: &mut Args<'a>) -> Vec<MultiOp<'a>> {
    let operation = |mut args: Args<'a>| {
        let what = args.need("operation");
        let found = if what == "check" {
            let version = version(&mut args);
            MultiOp::Check { path: path(&mut args), version }
        } else {
            match request(what, &mut args) {
                (code, Request::Create(create)) => MultiOp::Create(code, create),
                (_, Request::Delete { path, version }) => MultiOp::Delete { path, version },
                (_, Request::SetData { path, data, version }) => MultiOp::SetData { path, data, version },
                _ => panic!("{what} is nothing for a multi"),
            }
        };
        args.end();
        found
    };
    args.parts().into_iter().map(operation).collect()
}
