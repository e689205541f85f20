//! Commands about the ensemble. Mirrors `GetConfigCommand`, `ReconfigCommand` and `ConfigUtils.getClientConfigStr`.

use super::{Command, Context, Outcome};
use crate::cli::shell::error::ShellError;
use crate::cli::shell::options::{Parsed, Syntax, flag, value};
use crate::cli::shell::stat;

pub(super) const CONFIG: Command = Command { name: "config", usage: "[-c] [-w] [-s]", run: config };
pub(super) const RECONFIG: Command = Command {
    name: "reconfig",
    usage: "[-s] [-v version] [[-file path] | [-members serverID=host:port1:port2;port3[,...]*]] | \
            [-add serverId=host:port1:port2;port3[,...]]* [-remove serverId[,...]*]",
    run: reconfig,
};

const CONFIG_SYNTAX: Syntax = Syntax::of(&[flag("s"), flag("w"), flag("c")]);
const RECONFIG_SYNTAX: Syntax =
    Syntax::of(&[flag("s"), value("v"), value("file"), value("members"), value("add"), value("remove")]);

fn config(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = CONFIG.parse(&CONFIG_SYNTAX, words, 1)?;
    let (data, stat) = ctx.client.get_config(p.has("w"))?;
    let text = data.map_or_else(|| "null".to_owned(), |d| String::from_utf8_lossy(&d).into_owned());
    ctx.console.out_line(&if p.has("c") { connect_string(&text) } else { text });
    if p.has("s") {
        ctx.console.out(&stat::text(&stat));
    }
    Ok(())
}

/// The `key=value` lines, without comments and blank lines.
fn properties(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines()
        .map(str::trim)
        .filter(|l| !l.is_empty() && !l.starts_with(['#', '!']))
        .map(|l| l.split_once('=').unwrap_or((l, "")))
        .map(|(k, v)| (k.trim(), v.trim()))
}

/// The version and the client addresses: `100000000 host:port,host:port`.
fn connect_string(config: &str) -> String {
    let mut lines: Vec<_> = properties(config).collect();
    let version = lines.iter().find(|(k, _)| *k == "version").map_or("", |(_, v)| v);
    let buckets = buckets(lines.len());
    lines.sort_by_key(|(k, _)| bucket(k, buckets));
    let clients: Vec<String> =
        lines.iter().filter(|(k, _)| k.starts_with("server.")).map(|(_, v)| client_address(v)).collect();
    format!("{version} {}", clients.join(","))
}

/// The bucket of a key in Java's hash table. Java lists the servers in the order of that table, and our output should
/// be identical.
fn bucket(key: &str, buckets: u32) -> u32 {
    let hash = key.encode_utf16().fold(0_u32, |h, c| h.wrapping_mul(31).wrapping_add(c.into()));
    (hash ^ (hash >> 16)) & (buckets - 1)
}

/// The size of that table with this many keys: it doubles when it is three quarters full.
fn buckets(keys: usize) -> u32 {
    let mut n = 16_u32;
    while keys >= (n / 4 * 3) as usize && n < 1 << 20 {
        n *= 2;
    }
    n
}

/// The part after the semicolon of a server's line: `[host:]port`.
fn client_address(server: &str) -> String {
    match server.split(';').nth(1).map(str::trim) {
        None | Some("") => String::new(),
        Some(client) if client.contains(':') => client.to_owned(),
        Some(port) => format!("0.0.0.0:{port}"),
    }
}

#[derive(Debug, PartialEq, Eq, Default)]
struct Change {
    joining: Option<String>,
    leaving: Option<String>,
    members: Option<String>,
    version: i64,
}

fn change(p: &Parsed) -> Result<Change, ShellError> {
    let whole = p.has("file") || p.has("members");
    let incremental = p.has("add") || p.has("remove");
    if !whole && !incremental {
        return Err(ShellError::new(RECONFIG.usage_text()));
    }
    let version = match p.value("v") {
        None => -1,
        Some(text) => i64::from_str_radix(text, 16)
            .map_err(|_| ShellError::new("-v must be followed by a long (configuration version)"))?,
    };
    if whole && incremental {
        return Err(ShellError::new(
            "Can't use -file or -members together with -add or -remove (mixing incremental and non-incremental modes \
             is not allowed)",
        ));
    }
    if p.has("file") && p.has("members") {
        return Err(ShellError::new("Can't use -file and -members together (conflicting non-incremental modes)"));
    }
    let lower = |option| p.value(option).map(str::to_lowercase);
    let members = match p.value("file") {
        Some(file) => Some(members_of(file).map_err(|e| ShellError::new(format!("Error processing {file}: {e}")))?),
        None => lower("members"),
    };
    Ok(Change { joining: lower("add"), leaving: lower("remove"), members, version })
}

/// Reads a membership file; the leader validates it again.
fn members_of(file: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|e| e.to_string())?;
    let mut lines = Vec::new();
    for (key, value) in properties(&text) {
        let number = |prefix: &str| key.strip_prefix(prefix).is_some_and(|n| n.parse::<i64>().is_ok());
        if number("server.") {
            check_server(value).map_err(|e| format!("{key}={value}: {e}"))?;
        } else if !number("group.") && !number("weight.") && key != "version" {
            return Err(format!("Unrecognised parameter: {key}"));
        }
        lines.push(format!("{key}={value}"));
    }
    if !lines.iter().any(|l| l.starts_with("server.")) {
        return Err("no server in it: add server.N lines".to_owned());
    }
    Ok(lines.join("\n"))
}

/// Checks the form `host:port:port[:role][|host:port:port…][;[host:]port]`.
fn check_server(text: &str) -> Result<(), String> {
    let peers = text.split(';').next().unwrap_or_default();
    for address in peers.split('|') {
        let rest = match address.split_once(']') {
            Some((_, rest)) if address.starts_with('[') => rest,
            _ => address.split_once(':').map_or("", |(host, _)| &address[host.len()..]),
        };
        let mut parts = rest.split(':').skip(1);
        let mut port = || parts.next().is_some_and(|p| p.trim().parse::<u16>().is_ok());
        if !port() || !port() {
            return Err("does not have the form server_config or server_config;client_config where server_config \
                        is the pipe separated list of host:port:port or host:port:port:type and client_config is \
                        port or host:port"
                .to_owned());
        }
    }
    Ok(())
}

fn reconfig(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = RECONFIG.parse(&RECONFIG_SYNTAX, words, 1)?;
    let c = change(&p)?;
    let (config, stat) =
        ctx.client.reconfigure(c.joining.as_deref(), c.leaving.as_deref(), c.members.as_deref(), c.version)?;
    let config = String::from_utf8_lossy(config.as_deref().unwrap_or_default()).into_owned();
    ctx.console.out_line(&format!("Committed new configuration:\n{config}"));
    if p.has("s") {
        ctx.console.out(&stat::text(&stat));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shell::options::parse;

    const CONFIG: &str = "server.1=a:2888:3888:participant;0.0.0.0:2181\nserver.2=b:2888:3888;2182\n\
                          server.3=c:2888:3888\nversion=100000000";

    #[test]
    fn connect_strings() {
        assert_eq!(connect_string(CONFIG), "100000000 0.0.0.0:2182,0.0.0.0:2181,");
        assert_eq!(connect_string(""), " ");
        let three: String = (1..=3).map(|n| format!("server.{n}=h:1:2;h:218{n}\n")).collect();
        assert_eq!(connect_string(&three), " h:2182,h:2181,h:2183", "as seen from Java");
    }

    #[test]
    fn changes() {
        let of = |words: &[&str]| change(&parse(&RECONFIG_SYNTAX, words).unwrap()).map_err(|e| e.message);
        let c = of(&["reconfig", "-v", "10000000a", "-add", "Server.5=H:1:2;3", "-remove", "1,2"]).unwrap();
        assert_eq!(
            c,
            Change {
                joining: Some("server.5=h:1:2;3".into()),
                leaving: Some("1,2".into()),
                members: None,
                version: 0x1_0000_000a
            }
        );
        assert_eq!(of(&["reconfig", "-members", "server.1=a:1:2;3"]).unwrap().version, -1);
        assert!(of(&["reconfig"]).unwrap_err().starts_with("reconfig [-s] [-v version] [[-file path]"));
        assert!(of(&["reconfig", "-add", "1", "-members", "2"]).unwrap_err().starts_with("Can't use -file or"));
        assert!(of(&["reconfig", "-file", "1", "-members", "2"]).unwrap_err().starts_with("Can't use -file and"));
        assert!(of(&["reconfig", "-add", "1", "-v", "xyz"]).unwrap_err().starts_with("-v must be"));
        assert!(of(&["reconfig", "-file", "/nonexistent"]).unwrap_err().starts_with("Error processing /nonexistent"));
    }

    #[test]
    fn membership_files() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("members");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            members_of(file.to_str().unwrap())
        };
        let text = "# peers\nserver.1 = a:1:2;3\nserver.2=[::1]:1:2:observer|b:1:2\nweight.1=2\n";
        assert_eq!(read(text).unwrap(), "server.1=a:1:2;3\nserver.2=[::1]:1:2:observer|b:1:2\nweight.1=2");
        for bad in ["", "server.1=a", "server.1=a:1", "server.1=a:1:x", "server.x=a:1:2", "dataDir=/x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
