//! The options of a command. Mirrors commons-cli's `DefaultParser` as zkCli uses it, with the same error messages.

use super::error::ShellError;

/// One option of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Opt {
    pub(crate) name: &'static str,
    pub(crate) takes_value: bool,
}

/// An option without a value.
pub(crate) const fn flag(name: &'static str) -> Opt {
    Opt { name, takes_value: false }
}

/// An option with a value.
pub(crate) const fn value(name: &'static str) -> Opt {
    Opt { name, takes_value: true }
}

/// Options that exclude each other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    /// If one of the group is required: how Java prints the group when none is given.
    pub(crate) required: Option<&'static str>,
}

/// The options that a command accepts.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Syntax {
    pub(crate) options: &'static [Opt],
    /// If set, all of `options` exclude each other.
    pub(crate) group: Option<Group>,
}

impl Syntax {
    /// Options that may be combined freely.
    pub(crate) const fn of(options: &'static [Opt]) -> Syntax {
        Syntax { options, group: None }
    }
}

/// A parsed command: `args[0]` is its name.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Parsed {
    pub(crate) args: Vec<String>,
    found: Vec<(&'static str, Option<String>)>,
}

impl Parsed {
    /// Whether the option was given.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.found.iter().any(|(n, _)| *n == name)
    }

    /// The option's first value.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.found.iter().find(|(n, _)| *n == name).and_then(|(_, v)| v.as_deref())
    }
}

struct Parser<'a> {
    syntax: &'a Syntax,
    parsed: Parsed,
    /// The last option is still without its value.
    wants_value: bool,
}

/// Parses the words of a command.
pub(crate) fn parse<S: AsRef<str>>(syntax: &Syntax, words: &[S]) -> Result<Parsed, ShellError> {
    let mut p = Parser { syntax, parsed: Parsed::default(), wants_value: false };
    let mut only_args = false;
    for word in words.iter().map(S::as_ref) {
        if only_args {
            p.parsed.args.push(word.to_owned());
        } else if word == "--" {
            only_args = true;
        } else if p.wants_value && !p.is_option(word) {
            p.set_value(unquoted(word));
        } else if word.starts_with("--") {
            return Err(unrecognized(word));
        } else if word.len() > 1 && word.starts_with('-') {
            p.short(word)?;
        } else {
            p.parsed.args.push(word.to_owned());
        }
    }
    p.check_value()?;
    match syntax.group {
        Some(Group { required: Some(names) }) if p.parsed.found.is_empty() => {
            Err(complaint("MissingOptionException", format!("Missing required option: {names}")))
        }
        _ => Ok(p.parsed),
    }
}

impl Parser<'_> {
    fn known(&self, name: &str) -> Option<Opt> {
        self.syntax.options.iter().copied().find(|o| o.name == name)
    }

    /// Whether the word would be taken for an option, so that it cannot be a value.
    fn is_option(&self, word: &str) -> bool {
        let Some(name) = word.strip_prefix('-').filter(|n| !n.is_empty()) else { return false };
        let name = name.split('=').next().unwrap_or_default();
        self.known(name).is_some() || first_char(name).is_some_and(|c| self.known(c).is_some())
    }

    fn short(&mut self, word: &str) -> Result<(), ShellError> {
        let name = &word[1..];
        if let Some(opt) = self.known(name) {
            return self.found(opt);
        }
        match name.split_once('=') {
            Some((opt, given)) if opt.chars().count() == 1 => match self.known(opt).filter(|o| o.takes_value) {
                Some(opt) => {
                    self.found(opt)?;
                    self.set_value(given);
                    Ok(())
                }
                None => Err(unrecognized(word)),
            },
            Some(_) => Err(unrecognized(word)),
            None => self.joined(word),
        }
    }

    /// Parses several letters after one dash; an option that takes a value takes the rest of the word.
    fn joined(&mut self, word: &str) -> Result<(), ShellError> {
        for (at, c) in word.char_indices().skip(1) {
            let end = at + c.len_utf8();
            let Some(opt) = self.known(&word[at..end]) else { return Err(unrecognized(word)) };
            self.found(opt)?;
            if self.wants_value && end < word.len() {
                self.set_value(unquoted(&word[end..]));
                break;
            }
        }
        Ok(())
    }

    fn found(&mut self, opt: Opt) -> Result<(), ShellError> {
        self.check_value()?;
        if self.syntax.group.is_some()
            && let Some((other, _)) = self.parsed.found.iter().find(|(n, _)| *n != opt.name)
        {
            let text = format!(
                "The option '{}' was specified but an option from this group has already been selected: '{other}'",
                opt.name
            );
            return Err(complaint("AlreadySelectedException", text));
        }
        self.parsed.found.push((opt.name, None));
        self.wants_value = opt.takes_value;
        Ok(())
    }

    fn set_value(&mut self, given: &str) {
        if let Some((_, v)) = self.parsed.found.last_mut() {
            *v = Some(given.to_owned());
        }
        self.wants_value = false;
    }

    fn check_value(&self) -> Result<(), ShellError> {
        match self.parsed.found.last() {
            Some((name, _)) if self.wants_value => {
                Err(complaint("MissingArgumentException", format!("Missing argument for option: {name}")))
            }
            _ => Ok(()),
        }
    }
}

fn first_char(text: &str) -> Option<&str> {
    text.chars().next().map(|c| &text[..c.len_utf8()])
}

fn unquoted(text: &str) -> &str {
    match text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        Some(inner) if !inner.contains('"') => inner,
        _ => text,
    }
}

fn unrecognized(word: &str) -> ShellError {
    complaint("UnrecognizedOptionException", format!("Unrecognized option: {word}"))
}

fn complaint(class: &str, text: String) -> ShellError {
    ShellError::new(format!("org.apache.commons.cli.{class}: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SET: Syntax = Syntax::of(&[flag("s"), value("v"), flag("b")]);
    const QUOTA: Syntax =
        Syntax { options: &[value("n"), value("b")], group: Some(Group { required: Some("[-n num, -b bytes]") }) };

    fn read(words: &[&str]) -> Parsed {
        parse(&SET, words).unwrap()
    }

    fn fails(syntax: &Syntax, words: &[&str]) -> String {
        parse(syntax, words).unwrap_err().message
    }

    #[test]
    fn options_stand_anywhere_and_join() {
        for words in [
            &["set", "/a", "x", "-s", "-v", "3"][..],
            &["set", "-s", "-v3", "/a", "x"],
            &["set", "-sv", "3", "/a", "x"],
            &["set", "-sv3", "/a", "x"],
            &["set", "-v=3", "/a", "-s", "x"],
        ] {
            let p = read(words);
            assert_eq!(p.args, ["set", "/a", "x"]);
            assert_eq!((p.has("s"), p.value("v"), p.has("b")), (true, Some("3"), false), "{words:?}");
        }
        assert_eq!(read(&["set", "-v", "-1", "/a"]).value("v"), Some("-1"));
        assert_eq!(read(&["set", "--", "/a", "-s"]).args, ["set", "/a", "-s"]);
        assert_eq!(read(&["set", "/a", "-"]).args, ["set", "/a", "-"]);
        assert_eq!(read(&["set", "-v", "\"4\""]).value("v"), Some("4"));
    }

    #[test]
    fn complaints() {
        let c = "org.apache.commons.cli.";
        assert_eq!(
            fails(&SET, &["set", "/a", "-5"]),
            format!("{c}UnrecognizedOptionException: Unrecognized option: -5")
        );
        assert_eq!(fails(&SET, &["set", "-sz"]), format!("{c}UnrecognizedOptionException: Unrecognized option: -sz"));
        assert_eq!(fails(&SET, &["set", "--v"]), format!("{c}UnrecognizedOptionException: Unrecognized option: --v"));
        assert_eq!(fails(&SET, &["set", "-v"]), format!("{c}MissingArgumentException: Missing argument for option: v"));
        assert_eq!(
            fails(&SET, &["set", "-v", "-s"]),
            format!("{c}MissingArgumentException: Missing argument for option: v")
        );
        assert_eq!(
            fails(&QUOTA, &["setquota", "/a"]),
            format!("{c}MissingOptionException: Missing required option: [-n num, -b bytes]")
        );
        assert_eq!(
            fails(&QUOTA, &["setquota", "-n", "1", "-b", "2"]),
            format!(
                "{c}AlreadySelectedException: The option 'b' was specified but an option from this group has already \
                 been selected: 'n'"
            )
        );
    }
}
