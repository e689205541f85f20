//! The connect string, and the order in which its servers are tried. Mirrors `ConnectStringParser` and
//! `StaticHostProvider`.

use std::fmt;

use crate::cli::shell::path;

const DEFAULT_PORT: u16 = 2181;

/// One server; its name is resolved again at every attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: u16,
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.name.contains(':') {
            write!(f, "[{}]:{}", self.name, self.port)
        } else {
            write!(f, "{}:{}", self.name, self.port)
        }
    }
}

/// `host[:port][,host[:port]…][/chroot]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ConnectString {
    pub(crate) hosts: Vec<Host>,
    pub(crate) chroot: Option<String>,
}

impl ConnectString {
    /// Parses a connect string; the error is a sentence for the user.
    pub(crate) fn parse(text: &str) -> Result<ConnectString, String> {
        let (servers, chroot) = match text.find('/') {
            Some(at) => (&text[..at], &text[at..]),
            None => (text, ""),
        };
        let chroot = match chroot {
            "" | "/" => None,
            c => {
                path::validate(c)?;
                Some(c.to_owned())
            }
        };
        let hosts: Vec<Host> =
            servers.split(',').map(str::trim).filter(|h| !h.is_empty()).map(host).collect::<Result<_, _>>()?;
        if hosts.is_empty() {
            return Err("A HostProvider may not be empty!".into());
        }
        Ok(ConnectString { hosts, chroot })
    }
}

fn host(text: &str) -> Result<Host, String> {
    let port = |digits: &str| digits.parse::<u16>().map_err(|_| format!("Not a port: \"{digits}\" in {text}"));
    if let Some(rest) = text.strip_prefix('[') {
        let Some((name, rest)) = rest.split_once(']') else {
            return Err(format!("{text} starts with '[' but has no matching ']'"));
        };
        if name.is_empty() {
            return Err(format!("{text} has nothing between '[' and ']'"));
        }
        return match rest.strip_prefix(':') {
            Some(digits) => Ok(Host { name: name.into(), port: port(digits)? }),
            None if rest.is_empty() => Ok(Host { name: name.into(), port: DEFAULT_PORT }),
            None => Err(format!("{text} does not have :port after ']'")),
        };
    }
    match text.rsplit_once(':') {
        Some((name, "")) => Ok(Host { name: name.into(), port: DEFAULT_PORT }),
        Some((name, digits)) => Ok(Host { name: name.into(), port: port(digits)? }),
        None => Ok(Host { name: text.into(), port: DEFAULT_PORT }),
    }
}

/// The servers in the order in which they are tried, round after round.
pub(crate) struct Rotation {
    hosts: Vec<Host>,
    next: usize,
    /// Position of the server that was connected last; a round ends there. `None` before the first attempt.
    round_end: Option<usize>,
}

impl Rotation {
    /// Shuffles the list, so that many clients spread over the servers.
    pub(crate) fn new(mut hosts: Vec<Host>) -> Rotation {
        assert!(!hosts.is_empty());
        fastrand::shuffle(&mut hosts);
        Rotation { hosts, next: 0, round_end: None }
    }

    /// The number of servers.
    pub(crate) fn len(&self) -> usize {
        self.hosts.len()
    }

    /// The next server, and whether all were tried since the last success, so that a pause is due.
    pub(crate) fn next(&mut self) -> (Host, bool) {
        let at = self.next;
        self.next = (at + 1) % self.hosts.len();
        let pause = self.round_end == Some(at);
        self.round_end.get_or_insert(0);
        (self.hosts[at].clone(), pause)
    }

    /// Records that the server returned last accepted the connection.
    pub(crate) fn connected(&mut self) {
        self.round_end = Some((self.next + self.hosts.len() - 1) % self.hosts.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn h(name: &str, port: u16) -> Host {
        Host { name: name.into(), port }
    }

    #[test]
    fn connect_strings() {
        let c = ConnectString::parse("a:1, b ,[::1]:3,[::2],c:/x/y").unwrap();
        assert_eq!(c.hosts, [h("a", 1), h("b", 2181), h("::1", 3), h("::2", 2181), h("c", 2181)]);
        assert_eq!(c.chroot.as_deref(), Some("/x/y"));
        assert_eq!(ConnectString::parse("a/").unwrap().chroot, None);
        assert_eq!(h("::1", 3).to_string(), "[::1]:3");
        for bad in ["", "/x", "a:x", "a:70000", "[::1", "[]:1", "[::1]2", "a/x/", ","] {
            assert!(ConnectString::parse(bad).is_err(), "{bad}");
        }
        assert_eq!(ConnectString::parse("a/x/").unwrap_err(), "Path must not end with / character");
    }

    #[test]
    fn one_pause_a_round() {
        let mut r = Rotation::new(vec![h("a", 1), h("b", 1)]);
        let pauses: Vec<bool> = (0..5).map(|_| r.next().1).collect();
        assert_eq!(pauses, [false, false, true, false, true]);
        r.connected();
        assert_eq!((r.next().1, r.next().1, r.next().1), (false, true, false));
    }

    #[test]
    fn a_single_host_pauses_from_the_second_attempt_on() {
        let mut r = Rotation::new(vec![h("a", 1)]);
        assert_eq!((r.next().1, r.next().1), (false, true));
    }
}
