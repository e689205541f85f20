//! Commands that create and change znodes. Mirrors `CreateCommand` and `SetCommand`.

use base64::Engine;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::{Command, Context, Outcome, number};
use crate::cli::shell::client::{ClientError, Create, code};
use crate::cli::shell::error::ShellError;
use crate::cli::shell::options::{Parsed, Syntax, flag, value};
use crate::cli::shell::{acl, stat};
use crate::types::stat::owner::MAX_TTL_MS;
use crate::types::{Acl, CreateMode};

pub(super) const CREATE: Command =
    Command { name: "create", usage: "[-s] [-e] [-c] [-t ttl] path [data] [acl]", run: create };
pub(super) const SET: Command = Command { name: "set", usage: "path data [-s] [-v version] [-b]", run: set };

const CREATE_SYNTAX: Syntax = Syntax::of(&[flag("e"), flag("s"), flag("c"), value("t")]);
const SET_SYNTAX: Syntax = Syntax::of(&[flag("s"), value("v"), flag("b")]);
const SET_OPTIONS: &str = " -b         Supply data in base64 format
 -s         Print znode stats additionally
 -v <arg>   Set with an expected version
";

/// As lenient as Java's decoder: padding may be missing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

fn mode(p: &Parsed) -> Result<(CreateMode, Option<i64>), ShellError> {
    let (e, s, c, t) = (p.has("e"), p.has("s"), p.has("c"), p.has("t"));
    if c && (e || s) {
        return Err(ShellError::new(
            "-c cannot be combined with -s or -e. Containers cannot be ephemeral or sequential.",
        ));
    }
    let ttl = number(p, "t", 0_i64).map_err(|_| ShellError::new("-t argument must be a long value"))?;
    if t && e {
        return Err(ShellError::new("TTLs cannot be used with Ephemeral znodes"));
    }
    if t && c {
        return Err(ShellError::new("TTLs cannot be used with Container znodes"));
    }
    if t && !(1..=MAX_TTL_MS).contains(&ttl) {
        return Err(ShellError::new(format!("ttl must be positive and cannot be larger than: {MAX_TTL_MS}")));
    }
    let mode = match (e, s, c, t) {
        (true, true, ..) => CreateMode::EphemeralSequential,
        (true, false, ..) => CreateMode::Ephemeral,
        (false, true, _, true) => CreateMode::PersistentSequentialWithTtl,
        (false, true, _, false) => CreateMode::PersistentSequential,
        (false, false, true, _) => CreateMode::Container,
        (false, false, false, true) => CreateMode::PersistentWithTtl,
        (false, false, false, false) => CreateMode::Persistent,
    };
    Ok((mode, t.then_some(ttl)))
}

fn create(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = CREATE.parse(&CREATE_SYNTAX, words, 2)?;
    let (mode, ttl_ms) = mode(&p)?;
    let acl = match p.args.get(3) {
        Some(text) => acl::parse(text, ctx.console),
        None => vec![Acl::world_all()],
    };
    let request = Create { data: p.args.get(2).map(|d| d.as_bytes()), acl: &acl, mode, ttl_ms };
    match ctx.client.create(&p.args[1], &request) {
        Ok(path) => {
            ctx.console.err_line(&format!("Created {path}"));
            Ok(())
        }
        Err(e) => {
            match &e {
                ClientError::Keeper { code: code::EPHEMERAL_ON_LOCAL_SESSION, .. } => {
                    ctx.console.err_line("Unable to create ephemeral node on a local session");
                }
                ClientError::Keeper { code: code::INVALID_ACL, .. } => ctx.console.err_line(&e.to_string()),
                _ => {}
            }
            Err(e.into())
        }
    }
}

fn set(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = SET.parse(&SET_SYNTAX, words, 1)?;
    if p.args.len() < 3 {
        return Err(ShellError::new(format!("{}\n{SET_OPTIONS}", SET.usage_text())));
    }
    let data = if p.has("b") {
        BASE64.decode(&p.args[2]).map_err(|e| ShellError::new(format!("Illegal base64: {e}")))?
    } else {
        p.args[2].clone().into_bytes()
    };
    let stat = ctx.client.set_data(&p.args[1], &data, number(&p, "v", -1)?)?;
    if p.has("s") {
        ctx.console.out(&stat::text(&stat));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shell::options::parse;

    fn mode_of(words: &[&str]) -> Result<(CreateMode, Option<i64>), String> {
        mode(&parse(&CREATE_SYNTAX, words).unwrap()).map_err(|e| e.message)
    }

    #[test]
    fn modes() {
        assert_eq!(mode_of(&["create", "/a"]), Ok((CreateMode::Persistent, None)));
        assert_eq!(mode_of(&["create", "-es", "/a"]), Ok((CreateMode::EphemeralSequential, None)));
        assert_eq!(mode_of(&["create", "-c", "/a"]), Ok((CreateMode::Container, None)));
        assert_eq!(mode_of(&["create", "-t", "5", "/a"]), Ok((CreateMode::PersistentWithTtl, Some(5))));
        assert_eq!(mode_of(&["create", "-s", "-t5", "/a"]), Ok((CreateMode::PersistentSequentialWithTtl, Some(5))));
    }

    #[test]
    fn modes_that_exclude_each_other() {
        assert!(mode_of(&["create", "-c", "-s", "/a"]).unwrap_err().starts_with("-c cannot be combined"));
        assert_eq!(mode_of(&["create", "-t", "x", "/a"]).unwrap_err(), "-t argument must be a long value");
        assert_eq!(mode_of(&["create", "-e", "-t", "5"]).unwrap_err(), "TTLs cannot be used with Ephemeral znodes");
        assert_eq!(mode_of(&["create", "-c", "-t", "5"]).unwrap_err(), "TTLs cannot be used with Container znodes");
        for ttl in ["0", "-1", "1099511627776"] {
            let e = mode_of(&["create", "-t", ttl, "/a"]).unwrap_err();
            assert_eq!(e, "ttl must be positive and cannot be larger than: 1099511627775");
        }
    }

    #[test]
    fn base64_without_padding() {
        assert_eq!(BASE64.decode("YWI").unwrap(), b"ab");
        assert_eq!(BASE64.decode("YWI=").unwrap(), b"ab");
        assert!(BASE64.decode("!!!").is_err());
    }
}
