//! A configuration that is being read: where each key was set, and the problems and warnings found so far.

use std::collections::BTreeMap;

use super::error::{ConfigError, Problem, Warning};
use super::files::Files;
use super::keys::{self, Disposition, Key, Scope};
use super::member_lines::MemberLines;
use super::properties::Entry;
use super::settings::Config;

const PREFIX: &str = "zookeeper.";
/// The place that problems name for keys given on the command line.
pub(super) const COMMAND_LINE: &str = "command line";

/// A configuration that is being read.
pub(super) struct Draft<'a> {
    pub(super) config: Config,
    pub(super) files: &'a dyn Files,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<Warning>,
    /// Place to name for problems that have no line number: the file, or the command line.
    pub(super) name: String,
    /// Where each key of the table was set last.
    given: BTreeMap<&'static str, String>,
    /// Settings that have no effect (key and place), by the reason why.
    meaningless: BTreeMap<&'static str, Vec<String>>,
    /// Properties on the command line that begin with `zookeeper.` but that nothing reads.
    unknown: Vec<String>,
    /// The `server.N`, `group.N` and `weight.N` lines.
    pub(super) lines: MemberLines,
}

impl Draft<'_> {
    pub(super) fn new<'a>(name: &str, config: Config, files: &'a dyn Files) -> Draft<'a> {
        Draft {
            config,
            files,
            problems: Vec::new(),
            warnings: Vec::new(),
            name: name.into(),
            given: BTreeMap::new(),
            meaningless: BTreeMap::new(),
            unknown: Vec::new(),
            lines: MemberLines::new(),
        }
    }

    /// Where a key was set, if it was.
    pub(super) fn place(&self, key: &str) -> Option<&str> {
        self.given.get(key).map(String::as_str)
    }

    pub(super) fn warn(&mut self, text: impl Into<String>) {
        self.warnings.push(Warning(text.into()));
    }

    /// Adds a problem with a key, at the place that set it.
    pub(super) fn wrong(&mut self, key: &str, what: impl Into<String>) {
        let place = self.place(key).unwrap_or(&self.name).to_string();
        self.problems.push(Problem::new(place, key, what));
    }

    /// Handles one setting as the table of keys says. `written` is the key as the user wrote it, with prefix.
    pub(super) fn apply(&mut self, key: &'static Key, written: &str, value: &str, place: &str) {
        self.given.insert(key.name, place.to_string());
        let result = match key.disposition {
            Disposition::Honoured(set) | Disposition::Ensemble(set) => key.read(set, &mut self.config, value),
            Disposition::Meaningless(reason) => {
                self.meaningless.entry(reason).or_default().push(format!("{written} ({place})"));
                Ok(())
            }
            Disposition::Refused(_) if value.is_empty() || value.eq_ignore_ascii_case(key.default) => Ok(()),
            Disposition::Refused(what) => Err(format!(
                "{what} is not available in this version of Zabra, and to ignore the key could be dangerous: remove the \
                 key, or stay with Apache ZooKeeper for now"
            )),
        };
        if let Err(what) = result {
            self.problems.push(Problem::new(place, written, what + quotation_marks(value)));
        }
    }

    /// Handles one entry of zoo.cfg.
    pub(super) fn take_entry(&mut self, entry: &Entry) {
        let place = format!("{}:{}", self.name, entry.line);
        let (key, value) = (entry.key.as_str(), entry.value.as_str());
        if !value.is_ascii() {
            self.warn(format!(
                "{place}: the value of {key} is not ASCII and is read as Latin-1, as ZooKeeper does: write \\uXXXX \
                 escapes"
            ));
        }
        if MemberLines::owns(key) {
            self.take_member(key, value, &place);
        } else if let Some(row) = keys::find(key, &[Scope::File]) {
            self.apply(row, key, value, &place);
        } else {
            let name = key.strip_prefix(PREFIX).unwrap_or(key);
            self.config.properties.insert(format!("{PREFIX}{name}"), value.into());
            match keys::find(name, &[Scope::Property, Scope::Any]) {
                Some(row) => self.apply(row, key, value, &place),
                None => self.warn(unknown_in_file(name, value, &place)),
            }
        }
    }

    pub(super) fn take_member(&mut self, key: &str, value: &str, place: &str) {
        let several = self.config.ensemble.multi_address;
        if let Err(what) = self.lines.take(key, value, several) {
            self.problems.push(Problem::new(place, key, what));
        }
    }

    /// Handles one `-Dkey=value`.
    pub(super) fn take_property(&mut self, key: &str, value: &str) {
        self.config.properties.insert(key.into(), value.into());
        let row = match key.strip_prefix(PREFIX) {
            Some(name) => keys::find(name, &[Scope::Property, Scope::Any]),
            None => keys::find(key, &[Scope::Bare, Scope::Any]),
        };
        match row {
            Some(row) => self.apply(row, &format!("-D{key}"), value, COMMAND_LINE),
            None => match written_otherwise(key) {
                Some(text) => self.warn(text),
                None if key.starts_with(PREFIX) => self.unknown.push(format!("-D{key}")),
                // Ignored without a warning: start scripts pass many properties that are not ZooKeeper's.
                None => {}
            },
        }
    }

    /// Adds one warning that names all settings without effect.
    fn name_meaningless(&mut self) {
        if self.meaningless.is_empty() {
            return;
        }
        let groups = self.meaningless.iter().map(|(reason, keys)| format!("{}: {reason}", keys.join(", ")));
        let text = format!("these settings have no effect in Zabra: {}", groups.collect::<Vec<_>>().join("; "));
        self.warn(text);
    }

    /// Adds one warning that names all unknown `zookeeper.` properties.
    fn name_unknown(&mut self) {
        if !self.unknown.is_empty() {
            let names = self.unknown.join(", ");
            let text = format!("unknown properties, which nothing reads: {names}: correct or remove them");
            self.warn(text);
        }
    }

    /// The configuration with its warnings, or all problems.
    pub(super) fn finish(mut self) -> Result<(Config, Vec<Warning>), ConfigError> {
        self.name_meaningless();
        self.name_unknown();
        if self.problems.is_empty() {
            Ok((self.config, self.warnings))
        } else {
            Err(ConfigError { problems: self.problems, warnings: self.warnings })
        }
    }
}

/// The warning for a line of zoo.cfg that nothing reads.
fn unknown_in_file(name: &str, value: &str, place: &str) -> String {
    if keys::find(name, &[Scope::Bare]).is_some() {
        return format!(
            "{place}: {name} has no effect: in zoo.cfg it becomes the property {PREFIX}{name}, which nothing reads. Start with \
             -D{name}={value} instead"
        );
    }
    let same = keys::all().find(|k| k.name.eq_ignore_ascii_case(name));
    let hint = same.map(|k| format!(" Did you mean {}?", k.name)).unwrap_or_default();
    format!("{place}: unknown key {name} becomes the property {PREFIX}{name}, which nothing reads.{hint}")
}

/// If the property has no effect only because its prefix is wrong: the warning that says how to write it.
fn written_otherwise(key: &str) -> Option<String> {
    let name = key.strip_prefix(PREFIX).unwrap_or(key);
    let row = keys::find(name, &[Scope::File, Scope::Property, Scope::Bare, Scope::Any])?;
    Some(match row.scope {
        Scope::File | Scope::Bare => format!("-D{key} has no effect: write -D{name}"),
        Scope::Property | Scope::Any => format!("-D{key} has no effect: write -D{PREFIX}{name}"),
    })
}

/// A hint to add to an error if the value is in quotation marks, which zoo.cfg does not need.
pub(super) fn quotation_marks(value: &str) -> &'static str {
    if value.starts_with(['"', '\'']) { ". Quotation marks are part of a value: remove them" } else { "" }
}
