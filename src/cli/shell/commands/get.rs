//! Commands that read one znode. Mirrors `GetCommand`, `StatCommand`, `GetEphemeralsCommand` and
//! `GetAllChildrenNumberCommand`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{Command, Context, Outcome, watch_word};
use crate::cli::shell::client::{ClientError, code};
use crate::cli::shell::error::ShellError;
use crate::cli::shell::options::{Syntax, flag};
use crate::cli::shell::{dump, stat};
use crate::types::path;

pub(super) const GET: Command = Command { name: "get", usage: "[-s] [-w] [-b] [-x] path", run: get };
pub(super) const STAT: Command = Command { name: "stat", usage: "[-w] path", run: stat };
pub(super) const GET_EPHEMERALS: Command = Command { name: "getEphemerals", usage: "path", run: ephemerals };
pub(super) const GET_ALL_CHILDREN_NUMBER: Command =
    Command { name: "getAllChildrenNumber", usage: "path", run: all_children_number };

const GET_SYNTAX: Syntax = Syntax::of(&[flag("s"), flag("w"), flag("b"), flag("x")]);
const STAT_SYNTAX: Syntax = Syntax::of(&[flag("w")]);
const NO_OPTIONS: Syntax = Syntax::of(&[]);
const GET_OPTIONS: &str = " -b   Output data in base64 format
 -s   Print znode stats additionally
 -w   Watch for changes on the znode
 -x   Output data in hexdump format
";

fn get(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let usage = || ShellError::new(format!("{}\n{GET_OPTIONS}", GET.usage_text()));
    let p = watch_word(ctx, &GET, &GET_SYNTAX, words, "[-s] [-w]")?;
    let path = p.args.get(1).ok_or_else(usage)?;
    let (data, stat) = ctx.client.get_data(path, p.has("w"))?;
    let data = data.unwrap_or_else(|| b"null".to_vec());
    let text = if p.has("x") {
        dump::hex(&data)
    } else if p.has("b") {
        STANDARD.encode(&data)
    } else {
        String::from_utf8_lossy(&data).into_owned()
    };
    ctx.console.out_line(&text);
    if p.has("s") {
        ctx.console.out(&stat::text(&stat));
    }
    Ok(())
}

fn stat(ctx: &Context<'_>, words: &[String]) -> Outcome {
    STAT.parse(&STAT_SYNTAX, words, 2)?;
    let p = watch_word(ctx, &STAT, &STAT_SYNTAX, words, "[-w]")?;
    let path = p.args.get(1).ok_or_else(|| ShellError::new(STAT.usage_text()))?;
    match ctx.client.exists(path, p.has("w"))? {
        Some(stat) => {
            ctx.console.out(&stat::text(&stat));
            Ok(())
        }
        None => Err(ClientError::Keeper { code: code::NO_NODE, path: Some(path.clone()) }.into()),
    }
}

fn ephemerals(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = GET_EPHEMERALS.parse(&NO_OPTIONS, words, 1)?;
    let paths = ctx.client.get_ephemerals(p.args.get(1).map_or(path::ROOT, String::as_str))?;
    ctx.console.out_line(&format!("[{}]", paths.join(", ")));
    Ok(())
}

fn all_children_number(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = GET_ALL_CHILDREN_NUMBER.parse(&NO_OPTIONS, words, 2)?;
    ctx.console.out_line(&ctx.client.get_all_children_number(&p.args[1])?.to_string());
    Ok(())
}
