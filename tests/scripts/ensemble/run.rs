//! Who works when: each server's core, its log thread and the rest of its disk, and what arrives. Time passes only by command.

use zabra::peer::turn::TreeAccess;
use zabra::types::ServerId;

use super::logs::Logs;
use super::show;
use super::world::World;
use crate::scripts::command::Args;

/// What is looked at while time passes, in milliseconds.
const STEP_MS: i64 = 20;

/// More rounds than any script needs until nobody has anything to do.
const MANY: usize = 10_000;

impl World {
    /// Everybody works, and everything arrives, until nobody has anything to do.
    pub(super) fn settle(&mut self) {
        for _ in 0..MANY {
            self.has_news = false;
            let ids: Vec<ServerId> = self.servers.keys().copied().collect();
            for id in ids {
                self.shard_turn(id);
                self.turn(id);
                self.work_log(id, usize::MAX);
                self.work_disk(id);
            }
            self.deliver();
            if !self.has_news {
                return;
            }
        }
        panic!("this never ends");
    }

    /// `run MS`: time passes.
    pub(super) fn run(&mut self, args: &mut Args<'_>) {
        let ms: i64 = args.need("milliseconds").parse().expect("milliseconds");
        let end_ms = self.now.mono_ms + ms;
        self.settle();
        while self.now.mono_ms < end_ms {
            let step_ms = STEP_MS.min(end_ms - self.now.mono_ms);
            self.now.mono_ms += step_ms;
            self.now.wall_ms += step_ms;
            self.servers.values_mut().for_each(|server| server.is_due = true);
            self.settle();
        }
    }

    /// One turn of a server's core, if it has a reason for one.
    fn turn(&mut self, id: ServerId) {
        let now = self.now;
        let server = self.server(id);
        if server.is_frozen {
            return;
        }
        let is_due = std::mem::take(&mut server.is_due);
        let Some(member) = server.member.as_mut().filter(|member| is_due || member.mail.is_for_peer()) else { return };
        let (is_busy, lines) = Logs::of(|| member.turn(now));
        server.is_due = is_busy;
        self.has_news |= is_busy;
        self.logged(id, lines);
        self.after_turn(id);
    }

    pub(super) fn logged(&mut self, id: ServerId, lines: Vec<String>) {
        lines.into_iter().for_each(|line| self.say(format!("{}: {line}", id.0)));
    }

    pub(super) fn after_turn(&mut self, id: ServerId) {
        let server = self.server(id);
        let (has_shard, member) = (server.core.is_some(), server.member.as_mut().expect("it runs"));
        // A shard of its own takes its messages in its next turn.
        let is_for_shard = has_shard && member.mail.shards.iter().any(|shard| !shard.letters.is_empty());
        let messages = if has_shard { Vec::new() } else { member.take_stream() };
        let wants = member.take_net();
        self.has_news |= is_for_shard;
        messages.into_iter().for_each(|message| self.stream(id, message));
        wants.into_iter().for_each(|want| self.net_want(id, want));
    }

    /// The log thread works until it has nothing to do, or has told of so many things.
    pub(super) fn work_log(&mut self, id: ServerId, most: usize) {
        let now = self.now;
        let server = self.server(id);
        if server.is_frozen || server.log_stands && most == usize::MAX {
            return;
        }
        let mut told = 0;
        let mut done = Vec::new();
        while let Some(member) = server.member.as_mut().filter(|member| told < most && !member.log_is_idle()) {
            let before = member.mail.told.len();
            if let Err(why) = member.log_step(now) {
                done.push(format!("the process ends: {}", without_directory(&why.to_string())));
                server.member = None;
                break;
            }
            let news = member.mail.told.iter().skip(before).filter_map(show::done);
            let shown = done.len();
            done.extend(news);
            told += done.len() - shown;
        }
        let has_ended = server.member.is_none();
        self.has_news |= !done.is_empty();
        done.into_iter().for_each(|line| self.say(format!("disk of {}: {line}", id.0)));
        if has_ended {
            self.has_ended(id);
        }
    }

    /// The snapshot writer and the reader of the disk work until they have nothing to do.
    fn work_disk(&mut self, id: ServerId) {
        let now = self.now;
        let server = self.server(id);
        if server.is_frozen {
            return;
        }
        let mut done = Vec::new();
        let mut has_worked = false;
        while let Some(member) = server.member.as_mut().filter(|member| !member.disk_is_idle()) {
            let before = member.mail.told.len();
            member.disk_step(now);
            done.extend(member.mail.told.iter().skip(before).filter_map(show::done));
            has_worked = true;
        }
        self.has_news |= has_worked;
        done.into_iter().for_each(|line| self.say(format!("disk of {}: {line}", id.0)));
    }

    /// `show [N] [PATH...]`
    pub(super) fn show(&mut self, args: &mut Args<'_>) {
        let only = args.next().map(super::world::id);
        let ids: Vec<ServerId> =
            self.servers.keys().copied().filter(|id| only.is_none_or(|only| only == *id)).collect();
        let paths: Vec<&str> = std::iter::from_fn(|| args.next()).collect();
        for id in ids {
            let server = &self.servers[&id];
            let mut lines = Vec::new();
            match &server.member {
                Some(member) if !paths.is_empty() => {
                    let tree = member.tree.read();
                    lines.extend(paths.iter().map(|path| match tree.get(path) {
                        Some(node) => format!("{path} {}", crate::scripts::show::data(node.data())),
                        None => format!("{path} is not there"),
                    }));
                }
                _ => lines.push(show::server(server)),
            }
            lines.into_iter().for_each(|line| self.say(format!("{}: {line}", id.0)));
        }
    }
}

/// An error of the disk without the directory, which has another name in each run.
fn without_directory(why: &str) -> String {
    let Some((before, behind)) = why.split_once("/test/") else { return why.to_owned() };
    let name = &behind[behind.find(['/', ':']).unwrap_or(behind.len())..];
    name.strip_prefix('/').map_or_else(|| format!("{before}the directory{name}"), |name| format!("{before}{name}"))
}
