//! Commands about the session itself. Mirrors `AddAuthCommand`, `CloseCommand`, `SyncCommand`, `VersionCommand` and
//! `WhoAmICommand`.

use super::{Command, Context, Outcome};
use crate::cli::shell::error::ShellError;
use crate::cli::shell::options::Syntax;

pub(super) const ADD_AUTH: Command = Command { name: "addauth", usage: "scheme auth", run: add_auth };
pub(super) const CLOSE: Command = Command { name: "close", usage: "", run: close };
pub(super) const SYNC: Command = Command { name: "sync", usage: "path", run: sync };
pub(super) const VERSION: Command = Command { name: "version", usage: "", run: version };
pub(super) const WHO_AM_I: Command = Command { name: "whoami", usage: "", run: who_am_i };

const NO_OPTIONS: Syntax = Syntax::of(&[]);
/// The ZooKeeper version whose shell this one mirrors.
const ZOOKEEPER_VERSION: &str = "3.9.5";

fn add_auth(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = ADD_AUTH.parse(&NO_OPTIONS, words, 2)?;
    ctx.client.add_auth(&p.args[1], p.args.get(2).map(|a| a.as_bytes()));
    Ok(())
}

fn close(ctx: &Context<'_>, _: &[String]) -> Outcome {
    ctx.client.close();
    Ok(())
}

fn sync(ctx: &Context<'_>, words: &[String]) -> Outcome {
    let p = SYNC.parse(&NO_OPTIONS, words, 2)?;
    match ctx.client.sync(&p.args[1]) {
        Ok(()) => ctx.console.out_line("Sync is OK"),
        Err(crate::cli::shell::client::ClientError::Keeper { code, .. }) => {
            ctx.console.out_line(&format!("Sync has failed. rc={code}"));
        }
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

fn version(ctx: &Context<'_>, words: &[String]) -> Outcome {
    if VERSION.parse(&NO_OPTIONS, words, 1)?.args.len() > 1 {
        return Err(ShellError::new(VERSION.usage_text()));
    }
    let own = env!("CARGO_PKG_VERSION");
    ctx.console.out_line(&format!("ZooKeeper CLI version: {ZOOKEEPER_VERSION}-zabra-{own}"));
    Ok(())
}

fn who_am_i(ctx: &Context<'_>, _: &[String]) -> Outcome {
    let infos = ctx.client.who_am_i()?;
    ctx.console.out_line("Auth scheme: User");
    for (scheme, user) in infos {
        ctx.console.out_line(&format!("{scheme}: {user}"));
    }
    Ok(())
}
