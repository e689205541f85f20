//! The shell's command line and client configuration. Mirrors `MyCommandOptions.parseOptions` and `ZKClientConfig`.

use std::time::Duration;

use super::client::Options;

/// Longest reply that the shell accepts unless `jute.maxbuffer` says otherwise. Java's limit is 1 MiB, with which a
/// znode with many children cannot be listed.
const MAX_FRAME: usize = 64 << 20;

/// The options before the command, and the words of the command, if there is one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Start {
    pub(crate) server: String,
    pub(crate) timeout_ms: i32,
    pub(crate) read_only: bool,
    pub(crate) wait_for_connection: bool,
    pub(crate) client_configuration: Option<String>,
    pub(crate) command: Vec<String>,
}

impl Start {
    /// Parses zkCli's arguments. As in zkCli, an unknown option is ignored.
    pub(crate) fn parse(args: &[String]) -> Result<Start, String> {
        let mut start = Start {
            server: "localhost:2181".to_owned(),
            timeout_ms: 30_000,
            read_only: false,
            wait_for_connection: false,
            client_configuration: None,
            command: Vec::new(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            let mut value = || args.next().cloned().ok_or_else(|| format!("Error: no argument found for option {arg}"));
            match arg.as_str() {
                "-server" => start.server = value()?,
                "-timeout" => {
                    let text = value()?;
                    start.timeout_ms = text.parse().map_err(|_| format!("-timeout: For input string: \"{text}\""))?;
                }
                "-client-configuration" => start.client_configuration = Some(value()?),
                "-r" => start.read_only = true,
                "-waitforconnection" => start.wait_for_connection = true,
                option if option.starts_with('-') => {}
                _ => {
                    start.command.push(arg.clone());
                    start.command.extend(args.by_ref().cloned());
                }
            }
        }
        Ok(start)
    }

    /// The options of the session; reads the client configuration file if one is named.
    pub(crate) fn client_options(&self) -> Result<Options, String> {
        let mut options = Options {
            timeout_ms: self.timeout_ms,
            read_only: self.read_only,
            rearm_watches: true,
            max_frame: MAX_FRAME,
            request_timeout: None,
        };
        if let Some(file) = &self.client_configuration {
            let text = std::fs::read_to_string(file).map_err(|e| format!("Error while processing {file}: {e}"))?;
            configure(&mut options, &text).map_err(|e| format!("Error while processing {file}: {e}"))?;
        }
        Ok(options)
    }
}

fn configure(options: &mut Options, text: &str) -> Result<(), String> {
    let mut secure = None;
    let mut tls_key = None;
    for line in text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', '!'])) {
        let (key, value) = line.split_once('=').map_or((line, ""), |(k, v)| (k.trim(), v.trim()));
        let number = || value.parse::<u64>().map_err(|_| format!("{key}: For input string: \"{value}\""));
        match key {
            "zookeeper.client.secure" => secure = Some(value.eq_ignore_ascii_case("true")),
            "zookeeper.disableAutoWatchReset" => options.rearm_watches = !value.eq_ignore_ascii_case("true"),
            "zookeeper.request.timeout" => {
                options.request_timeout = Some(number()?).filter(|ms| *ms > 0).map(Duration::from_millis);
            }
            "jute.maxbuffer" => {
                let bytes = match value.strip_prefix("0x") {
                    Some(hex) => u64::from_str_radix(hex, 16).map_err(|_| format!("{key}: not a number: {value}"))?,
                    None => number()?,
                };
                options.max_frame = usize::try_from(bytes).unwrap_or(usize::MAX).min(i32::MAX as usize);
            }
            k if k.starts_with("zookeeper.ssl.") => tls_key = tls_key.or(Some(k.to_owned())),
            // Ignored: SASL would need a JAAS configuration, which this shell does not have, and the rest concerns only
            // Java.
            _ => {}
        }
    }
    match (secure, tls_key) {
        (Some(true), _) => Err("TLS is not supported by this shell: zookeeper.client.secure=true".to_owned()),
        (None, Some(key)) => Err(format!("TLS is not supported by this shell: {key}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Start, String> {
        Start::parse(&args.iter().map(|a| (*a).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn arguments() {
        let s = parse(&["-server", "a:1/x", "-timeout", "5", "-r", "-waitforconnection", "ls", "-R", "/"]).unwrap();
        assert_eq!((s.server.as_str(), s.timeout_ms, s.read_only, s.wait_for_connection), ("a:1/x", 5, true, true));
        assert_eq!(s.command, ["ls", "-R", "/"]);
        let s = parse(&[]).unwrap();
        assert_eq!((s.server.as_str(), s.timeout_ms, s.command.len()), ("localhost:2181", 30_000, 0));
        assert_eq!(parse(&["-unknown", "get", "-server"]).unwrap().command, ["get", "-server"]);
        assert_eq!(parse(&["-server"]).unwrap_err(), "Error: no argument found for option -server");
        assert!(parse(&["-timeout", "x"]).is_err());
    }

    #[test]
    fn client_configuration() {
        let read = |text: &str| {
            let mut o = parse(&[]).unwrap().client_options().unwrap();
            configure(&mut o, text).map(|()| o)
        };
        let o =
            read("# x\nzookeeper.request.timeout = 50\nzookeeper.disableAutoWatchReset=true\njute.maxbuffer=0x10\n")
                .unwrap();
        assert_eq!((o.request_timeout, o.rearm_watches, o.max_frame), (Some(Duration::from_millis(50)), false, 16));
        assert!(read("zookeeper.client.secure=true").unwrap_err().contains("TLS is not supported"));
        assert!(read("zookeeper.ssl.keyStore.location=/x").unwrap_err().contains("zookeeper.ssl.keyStore.location"));
        assert!(read("zookeeper.client.secure=false\nzookeeper.ssl.keyStore.location=/x").is_ok());
        assert!(read("zookeeper.request.timeout=x").is_err());
    }
}
