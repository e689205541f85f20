//! Configuration errors: each says where, which key, what is wrong and what to do. Mirrors
//! `QuorumPeerConfig.ConfigException`.

use std::fmt;

use super::exit::ExitCode;

/// One configuration error: where it is, which key, what is wrong and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// `file:line`, `file`, or `command line`.
    pub place: String,
    /// The key; empty if the problem concerns no single key.
    pub key: String,
    /// What is wrong and what to do about it.
    pub what: String,
}

impl Problem {
    /// A problem on one line of a file.
    pub fn at(file: &str, line: usize, key: &str, what: impl Into<String>) -> Problem {
        Problem { place: format!("{file}:{line}"), key: key.into(), what: what.into() }
    }

    /// A problem at a place that is already text.
    pub fn new(place: impl Into<String>, key: &str, what: impl Into<String>) -> Problem {
        Problem { place: place.into(), key: key.into(), what: what.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            write!(f, "{}: {}", self.place, self.what)
        } else {
            write!(f, "{}: {}: {}", self.place, self.key, self.what)
        }
    }
}

/// All problems of a configuration, at least one. The server does not start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// At least one, in the order found.
    pub problems: Vec<Problem>,
    /// The warnings found as well.
    pub warnings: Vec<Warning>,
}

impl ConfigError {
    /// The exit code of the process: always [`ExitCode::InvalidInvocation`].
    pub fn exit_code(&self) -> ExitCode {
        ExitCode::InvalidInvocation
    }
}

impl From<Problem> for ConfigError {
    fn from(problem: Problem) -> Self {
        ConfigError { problems: vec![problem], warnings: Vec::new() }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.problems.iter().enumerate() {
            if i > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

/// One line that the operator should know although the server starts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
