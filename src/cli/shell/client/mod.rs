//! A small blocking client on this crate's own records: what the shell needs. Mirrors `ZooKeeper` and `ZooKeeperAdmin`.
//!
//! One thread keeps the session ([`keeper`]), one per connection reads its socket ([`dial`]); callers wait for their reply.

pub(crate) mod chroot;
mod dial;
pub(crate) mod error;
pub(crate) mod event;
pub(crate) mod hosts;
mod send_thread;
mod state;
#[cfg(test)]
mod tests;
pub(crate) mod watches;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, channel};
use std::time::Duration;

pub(crate) use error::{ClientError, code};
pub(crate) use event::WatchedEvent;
use send_thread::{Input, Packet, Reply, WatchChange, Watcher};
use state::Shared;
pub(crate) use state::State;
use watches::{Registration, WatcherType};

use super::path::{validate, validate_sequential};
use crate::jute::stat::read_stat;
use crate::jute::{JuteError, Reader};
use crate::proto::multi::{MultiOp, MultiResult};
use crate::proto::{CreateRequest, Request, response};
use crate::types::{Acl, CreateMode, Op, Stat, path};

/// How long a sync may take.
const SYNC_TIMEOUT: Duration = Duration::from_secs(30);

/// How a session is kept.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// The session timeout wished for.
    pub(crate) timeout_ms: i32,
    /// Whether a read-only server will do.
    pub(crate) read_only: bool,
    /// Whether a new connection sets the watches again.
    pub(crate) rearm_watches: bool,
    /// Longest reply taken, in bytes.
    pub(crate) max_frame: usize,
    /// How long a call may take; none: as long as the connection lasts.
    pub(crate) request_timeout: Option<Duration>,
}

/// One session. Dropped without [`Client::close`], it stays on the server until it times out.
pub(crate) struct Client {
    tx: SyncSender<Input>,
    shared: Arc<Shared>,
    chroot: Option<String>,
    request_timeout: Option<Duration>,
}

/// What a create asks for beside its path.
pub(crate) struct Create<'a> {
    pub(crate) data: Option<&'a [u8]>,
    pub(crate) acl: &'a [Acl],
    pub(crate) mode: CreateMode,
    /// Only with the TTL modes.
    pub(crate) ttl_ms: Option<i64>,
}

type Outcome<T> = Result<T, ClientError>;

fn argument(checked: Result<(), String>) -> Outcome<()> {
    checked.map_err(ClientError::Argument)
}

impl Client {
    /// Starts a session with the servers of `connect`; returns at once. `watcher` runs on the session's thread.
    pub(crate) fn start(connect: hosts::ConnectString, options: Options, watcher: Watcher) -> Client {
        let request_timeout = options.request_timeout;
        let (tx, shared) = send_thread::start(options, connect.hosts, connect.chroot.clone(), watcher);
        Client { tx, shared, chroot: connect.chroot, request_timeout }
    }

    /// The session's present state.
    pub(crate) fn state(&self) -> State {
        self.shared.state()
    }

    /// Waits for a connection to a server that takes writes; false if none came in time.
    pub(crate) fn wait_connected(&self, timeout: Duration) -> bool {
        self.shared.wait_connected(timeout)
    }

    /// Ends the session on the server, if it can be reached.
    pub(crate) fn close(&self) {
        if self.state().is_alive() {
            // Whatever the answer: the session is over here.
            let _ = self.submit(Op::CLOSE_SESSION, &Request::CloseSession, WatchChange::None).recv();
        }
    }

    fn submit(&self, op: Op, request: &Request<'_>, watch: WatchChange) -> Receiver<Reply> {
        let (reply, answer) = channel();
        // Fails only if the session's thread is gone; the receiver then says so.
        let _ = self.tx.send(Input::Submit(Packet { op, body: request.body(op), watch, reply }));
        answer
    }

    /// Sends a request and waits. `path` is the user's, for the error.
    fn call(&self, op: Op, request: &Request<'_>, watch: WatchChange, path: Option<&str>) -> Outcome<Vec<u8>> {
        self.await_reply(self.submit(op, request, watch), self.request_timeout, path)
    }

    fn await_reply(&self, answer: Receiver<Reply>, limit: Option<Duration>, path: Option<&str>) -> Outcome<Vec<u8>> {
        let reply = match limit {
            None => answer.recv().ok(),
            Some(limit) => match answer.recv_timeout(limit) {
                Ok(r) => Some(r),
                Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => None,
                Err(std::sync::mpsc::RecvTimeoutError::Timeout) => {
                    let _ = self.tx.send(Input::Abort);
                    Some(Reply { err: code::REQUEST_TIMEOUT, body: Vec::new() })
                }
            },
        };
        let reply = reply.unwrap_or(Reply { err: code::SESSION_EXPIRED, body: Vec::new() });
        if reply.err == code::OK {
            return Ok(reply.body);
        }
        Err(ClientError::Keeper { code: reply.err, path: path.map(str::to_owned) })
    }

    fn server(&self, path: &str) -> String {
        chroot::add(self.chroot.as_deref(), path)
    }

    fn register(watch: bool, what: Registration, path: &str) -> WatchChange {
        if watch { WatchChange::Register(what, path.to_owned()) } else { WatchChange::None }
    }

    /// Creates a node; its path, with the number where there is one.
    pub(crate) fn create(&self, path: &str, c: &Create<'_>) -> Outcome<String> {
        argument(if c.mode.is_sequential() { validate_sequential(path) } else { validate(path) })?;
        check_acl(c.acl)?;
        let op = match c.mode {
            CreateMode::Container => Op::CREATE_CONTAINER,
            m if m.is_ttl() => Op::CREATE_TTL,
            _ => Op::CREATE,
        };
        let request = Request::Create(CreateRequest {
            path: self.server(path).into(),
            data: c.data,
            acl: c.acl.to_vec().into(),
            flags: c.mode as i32,
            ttl_ms: c.ttl_ms,
        });
        let reply = self.call(op, &request, WatchChange::None, Some(path))?;
        let created = Reader::new(&reply).string()?.into_owned();
        Ok(chroot::strip(self.chroot.as_deref(), &created).to_owned())
    }

    /// Deletes a node; version -1 is any.
    pub(crate) fn delete(&self, path: &str, version: i32) -> Outcome<()> {
        argument(validate(path))?;
        // The server refuses its root; a chroot's must not be deleted under its user either.
        let server = if path == path::ROOT { path.to_owned() } else { self.server(path) };
        let request = Request::Delete { path: server.into(), version };
        self.call(Op::DELETE, &request, WatchChange::None, Some(path)).map(drop)
    }

    /// Deletes nodes of any version in one transaction, without waiting.
    pub(crate) fn delete_all(&self, paths: &[String]) -> Pending {
        let delete = |p: &String| MultiOp::Delete { path: self.server(p).into(), version: -1 };
        let request = Request::Multi(paths.iter().map(delete).collect());
        Pending(self.submit(Op::MULTI, &request, WatchChange::None))
    }

    /// The stat of a node, if there is one.
    pub(crate) fn exists(&self, path: &str, watch: bool) -> Outcome<Option<Stat>> {
        argument(validate(path))?;
        let watch_change = Self::register(watch, Registration::Exists, path);
        let request = Request::Exists { path: self.server(path).into(), watch };
        match self.call(Op::EXISTS, &request, watch_change, Some(path)) {
            Ok(reply) => Ok(Some(read_stat(&mut Reader::new(&reply))?)),
            Err(ClientError::Keeper { code: code::NO_NODE, .. }) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// Data and stat.
    pub(crate) fn get_data(&self, path: &str, watch: bool) -> Outcome<(Option<Vec<u8>>, Stat)> {
        argument(validate(path))?;
        let watch_change = Self::register(watch, Registration::Data, path);
        let request = Request::GetData { path: self.server(path).into(), watch };
        let reply = self.call(Op::GET_DATA, &request, watch_change, Some(path))?;
        read_data(&reply)
    }

    /// The ensemble's configuration; it lies outside every chroot.
    pub(crate) fn get_config(&self, watch: bool) -> Outcome<(Option<Vec<u8>>, Stat)> {
        let watch_change = Self::register(watch, Registration::Data, path::CONFIG);
        let request = Request::GetData { path: path::CONFIG.into(), watch };
        let reply = self.call(Op::GET_DATA, &request, watch_change, Some(path::CONFIG))?;
        read_data(&reply)
    }

    /// Replaces a node's data; version -1 is any.
    pub(crate) fn set_data(&self, path: &str, data: &[u8], version: i32) -> Outcome<Stat> {
        argument(validate(path))?;
        let request = Request::SetData { path: self.server(path).into(), data: Some(data), version };
        self.stat(Op::SET_DATA, &request, path)
    }

    fn stat(&self, op: Op, request: &Request<'_>, path: &str) -> Outcome<Stat> {
        let reply = self.call(op, request, WatchChange::None, Some(path))?;
        Ok(read_stat(&mut Reader::new(&reply))?)
    }

    /// ACL and stat.
    pub(crate) fn get_acl(&self, path: &str) -> Outcome<(Vec<Acl>, Stat)> {
        argument(validate(path))?;
        let request = Request::GetAcl { path: self.server(path).into() };
        let reply = self.call(Op::GET_ACL, &request, WatchChange::None, Some(path))?;
        let (acl, stat) = response::read_acl(&mut Reader::new(&reply))?;
        Ok((acl.into_owned(), stat))
    }

    /// Replaces a node's ACL; version -1 is any.
    pub(crate) fn set_acl(&self, path: &str, acl: &[Acl], version: i32) -> Outcome<Stat> {
        argument(validate(path))?;
        check_acl(acl)?;
        let request = Request::SetAcl { path: self.server(path).into(), acl: acl.to_vec().into(), version };
        self.stat(Op::SET_ACL, &request, path)
    }

    /// The children's names, unordered, and the stat.
    pub(crate) fn get_children(&self, path: &str, watch: bool) -> Outcome<(Vec<String>, Stat)> {
        argument(validate(path))?;
        let watch_change = Self::register(watch, Registration::Child, path);
        let request = Request::GetChildren { path: self.server(path).into(), watch };
        let reply = self.call(Op::GET_CHILDREN2, &request, watch_change, Some(path))?;
        Ok(response::read_children2(&mut Reader::new(&reply))?)
    }

    /// How many nodes lie below.
    pub(crate) fn get_all_children_number(&self, path: &str) -> Outcome<i32> {
        argument(validate(path))?;
        let request = Request::GetAllChildrenNumber { path: self.server(path).into() };
        let reply = self.call(Op::GET_ALL_CHILDREN_NUMBER, &request, WatchChange::None, Some(path))?;
        Ok(Reader::new(&reply).i32()?)
    }

    /// This session's ephemerals whose paths start so. As in Java, neither side of this call knows the chroot.
    pub(crate) fn get_ephemerals(&self, prefix: &str) -> Outcome<Vec<String>> {
        argument(validate(prefix))?;
        let request = Request::GetEphemerals { prefix: prefix.into() };
        let reply = self.call(Op::GET_EPHEMERALS, &request, WatchChange::None, None)?;
        Ok(Reader::new(&reply).strings()?)
    }

    /// Waits until the server has caught up with its leader.
    pub(crate) fn sync(&self, path: &str) -> Outcome<()> {
        argument(validate(path))?;
        let request = Request::Sync { path: Some(self.server(path).into()) };
        let answer = self.submit(Op::SYNC, &request, WatchChange::None);
        let limit = self.request_timeout.map_or(SYNC_TIMEOUT, |t| t.min(SYNC_TIMEOUT));
        self.await_reply(answer, Some(limit), Some(path)).map(drop)
    }

    /// Sets a watch that stays.
    pub(crate) fn add_watch(&self, path: &str, recursive: bool) -> Outcome<()> {
        argument(validate(path))?;
        let what = if recursive { Registration::PersistentRecursive } else { Registration::Persistent };
        let request = Request::AddWatch { path: self.server(path).into(), mode: i32::from(recursive) };
        self.call(Op::ADD_WATCH, &request, WatchChange::Register(what, path.to_owned()), Some(path)).map(drop)
    }

    /// Removes this session's watches on a path; `local`: even if the server cannot be asked.
    pub(crate) fn remove_watches(&self, path: &str, kind: WatcherType, local: bool) -> Outcome<()> {
        argument(validate(path))?;
        let request = Request::RemoveWatches { path: self.server(path).into(), kind: kind as i32 };
        let change = WatchChange::Remove { path: path.to_owned(), kind, local };
        self.call(Op::REMOVE_WATCHES, &request, change, Some(path)).map(drop)
    }

    /// Adds credentials to the session; a refusal comes as an event.
    pub(crate) fn add_auth(&self, scheme: &str, auth: Option<&[u8]>) {
        let auth = auth.map(<[u8]>::to_vec);
        // Fails only if the session is over.
        let _ = self.tx.send(Input::Auth { scheme: scheme.to_owned(), auth });
    }

    /// Scheme and user of every identity the server knows of this connection.
    pub(crate) fn who_am_i(&self) -> Outcome<Vec<(String, String)>> {
        let reply = self.call(Op::WHO_AM_I, &Request::WhoAmI, WatchChange::None, None)?;
        Ok(response::read_client_infos(&mut Reader::new(&reply))?)
    }

    /// Changes the ensemble; version -1 is any. The new configuration and its stat.
    pub(crate) fn reconfigure(
        &self,
        joining: Option<&str>,
        leaving: Option<&str>,
        members: Option<&str>,
        version: i64,
    ) -> Outcome<(Option<Vec<u8>>, Stat)> {
        let request = Request::Reconfig {
            joining: joining.map(Into::into),
            leaving: leaving.map(Into::into),
            new_members: members.map(Into::into),
            config_id: version,
        };
        let reply = self.call(Op::RECONFIG, &request, WatchChange::None, Some(""))?;
        read_data(&reply)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        let _ = self.tx.send(Input::Abandon);
    }
}

/// A multi on its way.
pub(crate) struct Pending(Receiver<Reply>);

impl Pending {
    /// Waits for the answer: whether all of it was done.
    pub(crate) fn wait(self) -> Result<bool, JuteError> {
        match self.0.recv() {
            Ok(Reply { err: code::OK, body }) => all_done(&body),
            _ => Ok(false),
        }
    }
}

/// Whether no result of a multi is an error: the first one is why the others were undone.
fn all_done(body: &[u8]) -> Result<bool, JuteError> {
    let results = MultiResult::read_all(&mut Reader::new(body))?;
    Ok(!results.iter().any(|r| matches!(r, MultiResult::Error(err) if *err != code::OK)))
}

fn read_data(reply: &[u8]) -> Outcome<(Option<Vec<u8>>, Stat)> {
    let (data, stat) = response::read_data(&mut Reader::new(reply))?;
    Ok((data.map(<[u8]>::to_vec), stat))
}

fn check_acl(acl: &[Acl]) -> Outcome<()> {
    if acl.is_empty() { Err(ClientError::Keeper { code: code::INVALID_ACL, path: None }) } else { Ok(()) }
}
