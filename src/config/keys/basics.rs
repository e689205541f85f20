//! Keys of a single server, and Zabra's own.

use std::path::PathBuf;

use super::{Key, Scope, Set, any, file, int, meaningless, port, refused};
use crate::config::address::HostAddr;
use crate::config::settings::{Cores, Io, LogSync};

const JVM: &str = "there is no Java VM to watch";
const TLS: &str = "TLS for clients";

pub(super) const KEYS: &[Key] = &[
    file(
        "dataDir",
        "",
        Set::Text(|c, v| {
            c.data_dir = directory(v)?;
            Ok(())
        }),
    ),
    file(
        "dataLogDir",
        "= dataDir",
        Set::Text(|c, v| {
            c.data_log_dir = directory(v)?;
            Ok(())
        }),
    ),
    file("clientPort", "", port(|c, v| c.client.port = v as u16)),
    file(
        "clientPortAddress",
        "",
        Set::Text(|c, v| {
            c.client.host = Some(HostAddr::parse(v)?);
            Ok(())
        }),
    ),
    refused(Scope::File, "secureClientPort", "", TLS),
    refused(Scope::File, "secureClientPortAddress", "", TLS),
    file("clientPortListenBacklog", "-1", any(|c, v| c.client.listen_backlog = v as i32)),
    file("tickTime", "3000", int(1, |c, v| c.tick_ms = v as i32)),
    file("minSessionTimeout", "= 2 ticks", int(-1, |c, v| c.min_session_timeout_ms = v as i32)),
    file("maxSessionTimeout", "= 20 ticks", int(-1, |c, v| c.max_session_timeout_ms = v as i32)),
    file("maxClientCnxns", "60", any(|c, v| c.client.max_per_ip = v as i32)),
    file("autopurge.snapRetainCount", "3", any(|c, v| c.storage.purge_retain = v as i32)),
    // ZooKeeper's default is 0, never to purge, which is the most common cause of a full disk.
    file(
        "autopurge.purgeInterval",
        "1",
        Set::Text(|c, v| {
            c.storage.purge_interval_ms = hours_ms(v)?;
            Ok(())
        }),
    ),
    meaningless(Scope::File, "jvm.pause.monitor", "false", JVM),
    meaningless(Scope::File, "jvm.pause.info-threshold.ms", "1000", JVM),
    meaningless(Scope::File, "jvm.pause.warn-threshold.ms", "10000", JVM),
    meaningless(Scope::File, "jvm.pause.sleep.time.ms", "500", JVM),
    file(
        "zabra.cores",
        "auto",
        Set::Text(|c, v| {
            c.host.cores = cores(v)?;
            Ok(())
        }),
    ),
    file(
        "zabra.io",
        "auto",
        Set::Text(|c, v| {
            c.host.io = match v {
                "auto" => Io::Auto,
                "io_uring" => Io::Uring,
                "epoll" => Io::Epoll,
                _ => return Err(format!("{v:?} is unknown: write auto, io_uring or epoll")),
            };
            Ok(())
        }),
    ),
    file("zabra.shards", "0", Set::Int(0, 64, |c, v| c.host.shards = v as usize)),
    file(
        "zabra.logSync",
        "fdatasync",
        Set::Text(|c, v| {
            c.host.log_sync = match v {
                "fdatasync" => LogSync::Fdatasync,
                "msync" => LogSync::Msync,
                "dsync" => LogSync::Dsync,
                _ => return Err(format!("{v:?} is unknown: write fdatasync, msync or dsync")),
            };
            Ok(())
        }),
    ),
];

fn directory(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("is empty: write a directory".into());
    }
    Ok(PathBuf::from(text))
}

/// Milliseconds from a number of hours, or from a number with one of the units ms, s, m, h, d.
fn hours_ms(text: &str) -> Result<i64, String> {
    const UNITS: [(&str, i64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_lowercase();
    let factor = if unit.is_empty() { Some(3_600_000) } else { UNITS.iter().find(|(u, _)| *u == unit).map(|u| u.1) };
    let number = digits.trim().parse::<i64>().ok();
    number.zip(factor).and_then(|(n, f)| n.checked_mul(f)).map(|ms| ms.max(0)).ok_or_else(|| {
        format!("{text:?} is not a time: write hours, or a number with ms, s, m, h or d; 0 turns the purge off")
    })
}

/// Parses `auto`, or CPU numbers and ranges such as `0,2-5`.
fn cores(text: &str) -> Result<Cores, String> {
    let wrong =
        || format!("{text:?} is not a list of CPUs: write auto, or numbers and ranges below 1024 such as 0,2-5");
    if text == "auto" {
        return Ok(Cores::Auto);
    }
    let mut list: Vec<usize> = Vec::new();
    for part in text.split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let from: usize = from.trim().parse().map_err(|_| wrong())?;
        let to: usize = to.trim().parse().map_err(|_| wrong())?;
        if from > to || to >= 1024 {
            return Err(wrong());
        }
        for cpu in from..=to {
            if list.contains(&cpu) {
                return Err(format!("CPU {cpu} is named twice in {text:?}: name it once"));
            }
            list.push(cpu);
        }
    }
    Ok(Cores::List(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purge_intervals() {
        for (text, want) in [
            ("0", 0),
            ("1", 3_600_000),
            ("24", 86_400_000),
            ("90m", 5_400_000),
            ("1D", 86_400_000),
            ("5 s", 5000),
            ("-1", 0),
        ] {
            assert_eq!(hours_ms(text), Ok(want), "{text}");
        }
        for text in ["", "x", "1w", "h", "9223372036854775807"] {
            assert!(hours_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn core_lists() {
        assert_eq!(cores("auto"), Ok(Cores::Auto));
        assert_eq!(cores("3"), Ok(Cores::List(vec![3])));
        assert_eq!(cores("0, 4-6,2"), Ok(Cores::List(vec![0, 4, 5, 6, 2])));
        for text in ["", "a", "1,", "5-3", "1,1", "0-3,2", "0-99999999", "-1"] {
            assert!(cores(text).is_err(), "{text}");
        }
    }
}
