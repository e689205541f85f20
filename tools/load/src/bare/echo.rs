//! Runs the bare server as a process of its own, so that its CPU time is separate from the generator's.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use crate::Result;

/// A running bare server; it ends when this is dropped.
pub struct Server {
    child: Child,
    /// Its address.
    pub address: SocketAddr,
}

impl Server {
    /// Starts this program as the server and waits until it listens.
    pub fn start(port: u16) -> Result<Server> {
        let program = std::env::current_exe().map_err(|e| format!("this program's own path: {e}"))?;
        let child = Command::new(&program)
            .args(["echo-server", "--echo-port", &port.to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|e| format!("{}: {e}", program.display()))?;
        let mut server = Server { child, address: SocketAddr::from(([127, 0, 0, 1], port)) };
        let stdout = server.child.stdout.take().ok_or("the echo server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).map_err(|e| format!("echo server: {e}"))?;
        // The server prints the reason on standard error.
        server.address = line.trim().parse().map_err(|_| "the echo server did not start".to_owned())?;
        Ok(server)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then nothing is left to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
