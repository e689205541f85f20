//! Commands about ACLs. Mirrors `GetAclCommand` and `SetAclCommand`.

use super::{Command, Context, Outcome, number, visit};
use crate::cli::shell::options::{Syntax, flag, value};
use crate::cli::shell::{acl, stat};

pub(super) const GET_ACL: Command = Command { name: "getAcl", usage: "[-s] path", run: get_acl };
pub(super) const SET_ACL: Command = Command { name: "setAcl", usage: "[-s] [-v version] [-R] path acl", run: set_acl };

const GET_SYNTAX: Syntax = Syntax::of(&[flag("s")]);
const SET_SYNTAX: Syntax = Syntax::of(&[flag("s"), value("v"), flag("R")]);

fn get_acl(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = GET_ACL.parse(&GET_SYNTAX, words, 2)?;
    let (acls, stat) = ctx.client.get_acl(&p.args[1])?;
    for a in &acls {
        ctx.console.out(&acl::text(a));
    }
    if p.has("s") {
        ctx.console.out(&stat::text(&stat));
    }
    Ok(())
}

fn set_acl(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = SET_ACL.parse(&SET_SYNTAX, words, 3)?;
    let acl = acl::parse(&p.args[2], ctx.console);
    let version = number(&p, "v", -1)?;
    if p.has("R") {
        return visit::subtree(ctx.client, &p.args[1], false, |path| {
            // If one znode fails, go on with the others.
            if let Err(e) = ctx.client.set_acl(path, &acl, version) {
                ctx.console.out(&e.to_string());
            }
            Ok(true)
        });
    }
    let stat = ctx.client.set_acl(&p.args[1], &acl, version)?;
    if p.has("s") {
        ctx.console.out(&stat::text(&stat));
    }
    Ok(())
}
