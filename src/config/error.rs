//! What is wrong with a configuration, said so that the reader can mend it. Mirrors `QuorumPeerConfig.ConfigException`.

use std::fmt;

use super::exit::ExitCode;

/// One thing to mend: where, which key, what is wrong and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Problem {
    /// `file:line`, `file`, or `command line`.
    pub place: String,
    /// The key, or empty.
    pub key: String,
    /// What is wrong and what to do.
    pub what: String,
}

impl Problem {
    /// A problem on a line of a file.
    pub fn at(file: &str, line: usize, key: &str, what: impl Into<String>) -> Problem {
        Problem { place: format!("{file}:{line}"), key: key.into(), what: what.into() }
    }

    /// A problem at a place already put in words.
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

/// All that is wrong with a configuration; never empty. The server does not start.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConfigError {
    /// At least one, in file order.
    pub problems: Vec<Problem>,
    /// The warnings gathered before.
    pub warnings: Vec<Warning>,
}

impl ConfigError {
    /// The code to exit with.
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

/// Something the operator should know though the server starts. One line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning(pub String);

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
