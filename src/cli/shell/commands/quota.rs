//! Commands about quotas. Mirrors `SetQuotaCommand`, `ListQuotaCommand` and `DelQuotaCommand`.

use super::{Command, Context, Outcome, visit};
use crate::cli::shell::client::{Client, ClientError, Create, code};
use crate::cli::shell::error::ShellError;
use crate::cli::shell::options::{Group, Opt, Parsed, Syntax, flag, value};
use crate::cli::shell::quota::{BYTES, BYTES_HARD, COUNT, COUNT_HARD, StatsTrack, limits, node, usage};
use crate::types::path::{LIMIT_NODE, QUOTA, ZOOKEEPER};
use crate::types::{Acl, CreateMode, path};

pub(super) const SET_QUOTA: Command = Command { name: "setquota", usage: "-n|-b|-N|-B val path", run: set_quota };
pub(super) const LIST_QUOTA: Command = Command { name: "listquota", usage: "path", run: list_quota };
pub(super) const DEL_QUOTA: Command = Command { name: "delquota", usage: "[-n|-b|-N|-B] path", run: del_quota };

const SET_OPTIONS: [Opt; 4] = [value("n"), value("b"), value("N"), value("B")];
const DEL_OPTIONS: [Opt; 4] = [flag("n"), flag("b"), flag("N"), flag("B")];
const SET_SYNTAX: Syntax = Syntax {
    options: &SET_OPTIONS,
    group: Some(Group {
        required: Some("[-n num soft quota, -b bytes soft quota, -N num hard quota, -B bytes hard quota]"),
    }),
};
const DEL_SYNTAX: Syntax = Syntax { options: &DEL_OPTIONS, group: Some(Group { required: None }) };
const NO_OPTIONS: Syntax = Syntax::of(&[]);
/// The limit that each option sets.
const KEYS: [(&str, &str); 4] = [("n", COUNT), ("b", BYTES), ("N", COUNT_HARD), ("B", BYTES_HARD)];

fn is_no_node(e: &ClientError) -> bool {
    matches!(e, ClientError::Keeper { code: code::NO_NODE, .. })
}

fn set_quota(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = SET_QUOTA.parse(&SET_SYNTAX, words, 2)?;
    let path = &p.args[1];
    if path.starts_with(QUOTA) {
        ctx.console.err_line(&format!("cannot set a quota under the path: {QUOTA}"));
        return Ok(());
    }
    match limit(&p) {
        Ok(Some((key, number))) => create_quota(ctx, path, key, number),
        Ok(None) => Ok(()),
        // As in zkCli, an invalid number is reported but does not count as a failure.
        Err(complaint) => {
            ctx.console.err_line(complaint);
            Ok(())
        }
    }
}

fn limit(p: &Parsed) -> Result<Option<(&'static str, i64)>, &'static str> {
    let Some((option, key)) = KEYS.into_iter().find(|(o, _)| p.has(o)) else { return Ok(None) };
    let text = p.value(option).unwrap_or_default();
    let bad = |_| "NumberFormatException happens when parsing the option value";
    if key == BYTES || key == BYTES_HARD {
        let number: i64 = text.parse().map_err(bad)?;
        return if number >= 0 {
            Ok(Some((key, number)))
        } else {
            Err("the bytes quota must be greater than or equal to zero")
        };
    }
    let number: i32 = text.parse().map_err(bad)?;
    if number > 0 { Ok(Some((key, number.into()))) } else { Err("the num quota must be greater than zero") }
}

fn create_quota(ctx: &Context<'_>, path: &str, key: &str, number: i64) -> Outcome {
    let client = ctx.client;
    if client.exists(path, false)?.is_none() {
        return Err(ShellError::new(format!("{path} does not exist.")));
    }
    refuse_quota_below(client, path)?;
    refuse_quota_above(client, path)?;
    make_if_missing(client, ZOOKEEPER)?;
    make_if_missing(client, QUOTA)?;
    let mut at = QUOTA.to_owned();
    for name in path.split('/').filter(|n| !n.is_empty()) {
        at = path::join(&at, name);
        make_if_missing(client, &at)?;
    }
    let (limits, usage) = (limits(path), usage(path));
    if client.exists(&limits, false)?.is_none() {
        let mut track = StatsTrack::default();
        for (_, key) in KEYS {
            track.set(key, -1);
        }
        track.set(key, number);
        make(client, &limits, Some(track.to_string().as_bytes()))?;
        let mut none = StatsTrack::default();
        none.set(COUNT, 0);
        none.set(BYTES, 0);
        // The server replaces this by the actual usage.
        make(client, &usage, Some(none.to_string().as_bytes()))?;
        warn_if_exceeded(ctx, &read(client, &limits)?, &read(client, &usage)?);
    } else {
        let mut track = read(client, &limits)?;
        track.set(key, number);
        warn_if_exceeded(ctx, &track, &read(client, &usage)?);
        client.set_data(&limits, track.to_string().as_bytes(), -1)?;
    }
    Ok(())
}

fn read(client: &Client, at: &str) -> Result<StatsTrack, ShellError> {
    StatsTrack::parse(client.get_data(at, false)?.0.as_deref())
}

fn make(client: &Client, at: &str, data: Option<&[u8]>) -> Result<(), ClientError> {
    let acl = [Acl::world_all()];
    client.create(at, &Create { data, acl: &acl, mode: CreateMode::Persistent, ttl_ms: None }).map(drop)
}

fn make_if_missing(client: &Client, at: &str) -> Result<(), ClientError> {
    if client.exists(at, false)?.is_some() {
        return Ok(());
    }
    match make(client, at, None) {
        // Another client has created it meanwhile.
        Err(ClientError::Keeper { code: code::NODE_EXISTS, .. }) => Ok(()),
        made => made,
    }
}

fn warn_if_exceeded(ctx: &Context<'_>, limits: &StatsTrack, usage: &StatsTrack) {
    for (soft, hard, what) in [(COUNT, COUNT_HARD, "count"), (BYTES, BYTES_HARD, "bytes")] {
        let used = usage.get(soft);
        if [soft, hard].into_iter().map(|k| limits.get(k)).any(|l| l > -1 && l < used) {
            ctx.console
                .out_line(&format!("[Warning]: the {what} quota you create is less than the existing {what}:{used}"));
        }
    }
}

/// Refuses a quota if a znode below has one: quotas cannot be nested.
fn refuse_quota_below(client: &Client, path: &str) -> Outcome {
    let own = node(path);
    let walk = || -> Result<(), ShellError> {
        visit::subtree(client, &own, false, |at| {
            let below = at != own
                && path::name(at) != LIMIT_NODE
                && client.exists(&path::join(at, LIMIT_NODE), false)?.is_some();
            if below {
                let at = at.strip_prefix(QUOTA).unwrap_or(at);
                return Err(ShellError::new(format!("{path} has a child {at} which has a quota")));
            }
            Ok(true)
        })
    };
    match client.exists(&own, false)? {
        Some(_) => walk(),
        None => Ok(()),
    }
}

fn refuse_quota_above(client: &Client, path: &str) -> Outcome {
    let own = node(path);
    let mut at = QUOTA.to_owned();
    let names: Vec<&str> = path.split('/').collect();
    for name in names.get(1..names.len().saturating_sub(1)).unwrap_or_default() {
        at = path::join(&at, name);
        let children = match client.get_children(&at, false) {
            Ok((children, _)) => children,
            Err(e) if is_no_node(&e) => return Ok(()),
            Err(e) => return Err(e.into()),
        };
        if at != own && children.iter().any(|c| c == LIMIT_NODE) {
            let at = at.strip_prefix(QUOTA).unwrap_or(&at);
            return Err(ShellError::new(format!("{path} has a parent {at} which has a quota")));
        }
    }
    Ok(())
}

fn list_quota(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = LIST_QUOTA.parse(&NO_OPTIONS, words, 2)?;
    let path = &p.args[1];
    let limits = limits(path);
    ctx.console.err_line(&format!("absolute path is {limits}"));
    let both = || -> Result<_, ClientError> {
        Ok((ctx.client.get_data(&limits, false)?.0, ctx.client.get_data(&usage(path), false)?.0))
    };
    match both() {
        Ok((limits, usage)) => {
            let (limits, usage) = (StatsTrack::parse(limits.as_deref())?, StatsTrack::parse(usage.as_deref())?);
            ctx.console.out_line(&format!("Output quota for {path} {limits}"));
            ctx.console.out_line(&format!("Output stat for {path} {usage}"));
            Ok(())
        }
        Err(e) if is_no_node(&e) => {
            ctx.console.err_line(&format!("quota for {path} does not exist."));
            Ok(())
        }
        Err(e) => Err(e.into()),
    }
}

fn del_quota(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = DEL_QUOTA.parse(&DEL_SYNTAX, words, 2)?;
    let path = &p.args[1];
    let limits = limits(path);
    if ctx.client.exists(&limits, false)?.is_none() {
        ctx.console.out_line(&format!("Quota does not exist for {path}"));
        return Ok(());
    }
    let mut track = read(ctx.client, &limits)?;
    let done = match KEYS.into_iter().find(|(o, _)| p.has(o)) {
        None => remove_all(ctx.client, &node(path)),
        Some((_, key)) => {
            track.set(key, -1);
            ctx.client.set_data(&limits, track.to_string().as_bytes(), -1).map(drop)
        }
    };
    match done {
        Err(e) if is_no_node(&e) => {
            ctx.console.err_line(&format!("quota for {path} does not exist."));
            Ok(())
        }
        done => Ok(done?),
    }
}

/// Deletes a quota's znodes, and those ancestors that hold no other quota.
fn remove_all(client: &Client, own: &str) -> Result<(), ClientError> {
    for child in client.get_children(own, false)?.0 {
        client.delete(&path::join(own, &child), -1)?;
    }
    let mut at = Some(own);
    while let Some(p) = at.filter(|p| *p != QUOTA) {
        if !client.get_children(p, false)?.0.is_empty() {
            break;
        }
        client.delete(p, -1)?;
        at = path::parent(p);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::shell::options::parse;

    #[test]
    fn limits_are_checked() {
        let of = |option, number| limit(&parse(&SET_SYNTAX, &["setquota", option, number, "/a"]).unwrap());
        assert_eq!(of("-n", "5"), Ok(Some((COUNT, 5))));
        assert_eq!(of("-B", "0"), Ok(Some((BYTES_HARD, 0))));
        assert_eq!(of("-N", "0"), Err("the num quota must be greater than zero"));
        assert_eq!(of("-b", "-1"), Err("the bytes quota must be greater than or equal to zero"));
        let unreadable = Err("NumberFormatException happens when parsing the option value");
        assert_eq!(of("-n", "2147483648"), unreadable);
        assert_eq!(of("-b", "x"), unreadable);
    }
}
