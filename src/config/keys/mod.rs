//! The table of every key of zoo.cfg and every system property that ZooKeeper 3.9 knows, by subject, and what Zabra
//! does with each. Mirrors the `if` ladder of `QuorumPeerConfig.parseProperties` and the `getProperty` calls throughout
//! ZooKeeper's server.

mod admin;
mod auth;
mod basics;
mod cluster;
mod limits;
mod storage;
mod tls;

use super::settings::Config;

/// Where a key may be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// `name` in zoo.cfg.
    File,
    /// `name` in zoo.cfg, or `-Dzookeeper.name`.
    Property,
    /// `-Dname` only: in zoo.cfg ZooKeeper would prefix the name with `zookeeper.`, and nothing reads that property.
    Bare,
    /// `name` in zoo.cfg, `-Dzookeeper.name` or `-Dname`.
    Any,
}

/// What Zabra does with a key.
#[derive(Clone, Copy)]
pub enum Disposition {
    /// It sets a field.
    Honoured(Set),
    /// It sets a field that only an ensemble reads.
    Ensemble(Set),
    /// It has no meaning in Zabra. One warning names all such keys with the reasons.
    Meaningless(&'static str),
    /// To ignore it would be dangerous: the server does not start unless the value is the default. The text names the
    /// missing feature.
    Refused(&'static str),
}

/// How a value is parsed and which field it sets.
#[derive(Clone, Copy)]
pub enum Set {
    /// `true` or `false`.
    Bool(fn(&mut Config, bool)),
    /// `yes` or `no`.
    YesNo(fn(&mut Config, bool)),
    /// A whole number between two bounds, both included.
    Int(i64, i64, fn(&mut Config, i64)),
    /// A number between two bounds, both included.
    Float(f64, f64, fn(&mut Config, f64)),
    /// Any other text; the error says what is wrong and what to write.
    Text(fn(&mut Config, &str) -> Result<(), String>),
}

/// One row of the table.
#[derive(Clone, Copy)]
pub struct Key {
    /// The name without the prefix `zookeeper.`. A name that ends with `.` or `*` stands for all names with that
    /// beginning.
    pub name: &'static str,
    /// Where it may be written.
    pub scope: Scope,
    /// ZooKeeper's default as text. Empty means not set. A text that begins with `=` is derived from other settings.
    pub default: &'static str,
    /// What Zabra does with it.
    pub disposition: Disposition,
}

/// All rows of the table.
pub fn all() -> impl Iterator<Item = &'static Key> {
    [basics::KEYS, storage::KEYS, cluster::KEYS, limits::KEYS, auth::KEYS, tls::KEYS, admin::KEYS].into_iter().flatten()
}

/// The row for a name, in any of the given scopes. An exact name is preferred to a family, and a longer family to a
/// shorter one.
pub(super) fn find(name: &str, scopes: &[Scope]) -> Option<&'static Key> {
    let rows = || all().filter(|k| scopes.contains(&k.scope));
    let family = || rows().filter(|k| k.owns(name)).max_by_key(|k| k.name.len());
    rows().find(|k| k.name == name).or_else(family)
}

impl Key {
    fn owns(&self, name: &str) -> bool {
        match self.name.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => self.name.ends_with('.') && name.starts_with(self.name),
        }
    }

    /// How the value is parsed, if the key sets a field.
    pub fn set(&self) -> Option<Set> {
        match self.disposition {
            Disposition::Honoured(set) | Disposition::Ensemble(set) => Some(set),
            Disposition::Meaningless(_) | Disposition::Refused(_) => None,
        }
    }

    /// Parses `value` and sets the field. Numbers in zoo.cfg are decimal (`Integer.parseInt`); those of properties may
    /// also be hexadecimal or octal (`Integer.getInteger`).
    ///
    /// # Errors
    /// What is wrong with the value and what to write.
    pub(super) fn read(&self, set: Set, config: &mut Config, value: &str) -> Result<(), String> {
        match self.scope {
            Scope::File => set.apply(config, value, |text| text.parse().ok(), " in decimal digits"),
            Scope::Property | Scope::Bare | Scope::Any => set.apply(config, value, decode, ""),
        }
    }

    /// The type of the value, in words.
    pub fn kind(&self) -> &'static str {
        self.set().map_or("text", Set::kind)
    }
}

impl Set {
    fn kind(self) -> &'static str {
        match self {
            Set::Bool(_) => "true or false",
            Set::YesNo(_) => "yes or no",
            Set::Int(..) => "whole number",
            Set::Float(..) => "number",
            Set::Text(_) => "text",
        }
    }

    /// Parses `value` and sets the field. `number` parses a whole number; `form` describes to the user how one is
    /// written.
    fn apply(
        self,
        config: &mut Config,
        value: &str,
        number: fn(&str) -> Option<i64>,
        form: &str,
    ) -> Result<(), String> {
        match self {
            Set::Bool(set) => match value.to_ascii_lowercase().as_str() {
                "true" => set(config, true),
                "false" => set(config, false),
                _ => return Err(format!("{value:?} is neither true nor false: write one of them")),
            },
            Set::YesNo(set) => match value {
                "yes" => set(config, true),
                "no" => set(config, false),
                _ => return Err(format!("{value:?} is neither yes nor no: write one of them")),
            },
            Set::Int(min, max, set) => {
                let number =
                    number(value).ok_or_else(|| format!("{value:?} is not a whole number{form}: write one"))?;
                if !(min..=max).contains(&number) {
                    return Err(format!("{value} is out of range: write a number {}", range_words(min, max)));
                }
                set(config, number);
            }
            Set::Float(min, max, set) => match value.parse::<f64>() {
                Ok(number) if (min..=max).contains(&number) => set(config, number),
                Ok(_) => return Err(format!("{value} is out of range: write a number from {min} to {max}")),
                Err(_) => return Err(format!("{value:?} is not a number: write one, such as 0.5")),
            },
            Set::Text(set) => return set(config, value),
        }
        Ok(())
    }
}

fn range_words(min: i64, max: i64) -> String {
    match (min, max) {
        (min, i64::MAX) => format!("of at least {min}"),
        (min, max) => format!("from {min} to {max}"),
    }
}

/// Parses a number as Java's `Integer.decode` does: signed; decimal, hexadecimal after `0x` or `#`, octal after `0`.
pub fn decode(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => (-1, digits),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let hex = ["0x", "0X", "#"].into_iter().find_map(|mark| digits.strip_prefix(mark));
    let octal = digits.strip_prefix('0').filter(|rest| !rest.is_empty());
    let (digits, radix) = match (hex, octal) {
        (Some(digits), _) => (digits, 16),
        (None, Some(digits)) => (digits, 8),
        (None, None) => (digits, 10),
    };
    if !digits.starts_with(|c: char| c.is_digit(radix)) {
        return None;
    }
    i128::from_str_radix(digits, radix).ok().and_then(|n| i64::try_from(n * sign).ok())
}

const I32: i64 = i32::MAX as i64;

/// A key of zoo.cfg that `QuorumPeerConfig` itself reads and that sets a field.
const fn file(name: &'static str, default: &'static str, set: Set) -> Key {
    Key { name, scope: Scope::File, default, disposition: Disposition::Honoured(set) }
}

/// A system property that sets a field.
const fn property(name: &'static str, default: &'static str, set: Set) -> Key {
    Key { name, scope: Scope::Property, default, disposition: Disposition::Honoured(set) }
}

/// A system property without the prefix `zookeeper.` that sets a field.
const fn bare(name: &'static str, default: &'static str, set: Set) -> Key {
    Key { name, scope: Scope::Bare, default, disposition: Disposition::Honoured(set) }
}

/// A key that only an ensemble reads.
const fn ensemble(scope: Scope, name: &'static str, default: &'static str, set: Set) -> Key {
    Key { name, scope, default, disposition: Disposition::Ensemble(set) }
}

/// A key that has no meaning in Zabra.
const fn meaningless(scope: Scope, name: &'static str, default: &'static str, reason: &'static str) -> Key {
    Key { name, scope, default, disposition: Disposition::Meaningless(reason) }
}

/// A key that Zabra refuses.
const fn refused(scope: Scope, name: &'static str, default: &'static str, what: &'static str) -> Key {
    Key { name, scope, default, disposition: Disposition::Refused(what) }
}

/// A value of Java's type `int`, at least `min`.
const fn int(min: i64, set: fn(&mut Config, i64)) -> Set {
    Set::Int(min, I32, set)
}

/// A value of Java's type `long`, at least `min`.
const fn long(min: i64, set: fn(&mut Config, i64)) -> Set {
    Set::Int(min, i64::MAX, set)
}

/// A port number.
const fn port(set: fn(&mut Config, i64)) -> Set {
    Set::Int(0, 65535, set)
}

/// Any `int`: ZooKeeper accepts zero and negative numbers here and takes them for "off".
const fn any(set: fn(&mut Config, i64)) -> Set {
    int(i32::MIN as i64, set)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_where_they_could_be_confused() {
        let mut seen = std::collections::HashSet::new();
        for key in all() {
            let spaces: &[u8] = match key.scope {
                Scope::File | Scope::Property => b"f",
                Scope::Bare => b"b",
                Scope::Any => b"fb",
            };
            for space in spaces {
                assert!(seen.insert((*space, key.name)), "{} is there twice", key.name);
            }
        }
    }

    #[test]
    fn applying_a_default_changes_nothing() {
        let mut applied = 0;
        for key in all() {
            let Some(set) = key.set() else { continue };
            if key.default.is_empty() || key.default.starts_with('=') {
                continue;
            }
            let mut config = Config::default();
            key.read(set, &mut config, key.default).unwrap_or_else(|e| panic!("{}: {e}", key.name));
            assert_eq!(config, Config::default(), "{}={} is not the default", key.name, key.default);
            applied += 1;
        }
        assert!(applied > 80, "only {applied} defaults in the table");
    }

    #[test]
    fn another_value_changes_something() {
        for key in all() {
            let Some(set) = key.set() else { continue };
            let value = match set {
                Set::Bool(_) if key.default == "true" => "false".to_string(),
                Set::Bool(_) => "true".to_string(),
                Set::YesNo(_) if key.default == "yes" => "no".to_string(),
                Set::YesNo(_) => "yes".to_string(),
                Set::Int(min, ..) => (min.max(2) + 40).to_string(),
                Set::Float(..) => "0.123".to_string(),
                Set::Text(_) => continue,
            };
            let mut config = Config::default();
            key.read(set, &mut config, &value).unwrap_or_else(|e| panic!("{}: {e}", key.name));
            assert_ne!(config, Config::default(), "{}={value} changes nothing", key.name);
        }
    }

    #[test]
    fn numbers() {
        for (text, want) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("+7", Some(7)),
            ("010", Some(8)),
            ("#1F", Some(31)),
            ("00", Some(0)),
            ("08", None),
            ("0x10", Some(16)),
            ("-0X10", Some(-16)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("0x", None),
            ("--1", None),
            ("+-1", None),
            ("1k", None),
            ("1.5", None),
        ] {
            assert_eq!(decode(text), want, "{text:?}");
        }
    }

    #[test]
    fn families() {
        let name = |n| find(n, &[Scope::Property]).map(|k| k.name);
        assert_eq!(name("authProvider.1"), Some("authProvider."));
        assert_eq!(name("ssl.quorum.keyStore.location"), Some("ssl.quorum.keyStore.location"));
        assert_eq!(name("ssl.quorum.newThing"), Some("ssl."));
        assert_eq!(name("snapCount"), Some("snapCount"));
        assert_eq!(name("snapCounts"), None);
    }
}
