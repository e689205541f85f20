//! Splits a line into words. Mirrors `MyCommandOptions.parseCommand`.

/// Words end at white space. A word that begins with a quote ends at the same quote and loses both. As in zkCli, quotes
/// inside a word are kept, there is no escape character, and an opening quote without a closing one is dropped.
pub(crate) fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim_start_matches(space);
    while let Some(first) = rest.chars().next() {
        if matches!(first, '"' | '\'') {
            match rest[1..].split_once(first) {
                Some((word, after)) => {
                    words.push(word.to_owned());
                    rest = after;
                }
                None => rest = &rest[1..],
            }
        } else {
            let end = rest.find(space).unwrap_or(rest.len());
            words.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        rest = rest.trim_start_matches(space);
    }
    words
}

/// White space as Java's `\s` defines it.
fn space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\u{b}' | '\u{c}' | '\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splitting() {
        for (line, expected) in [
            ("ls /", &["ls", "/"][..]),
            ("  set /a  'b c' ", &["set", "/a", "b c"]),
            ("set /a \"it's\"", &["set", "/a", "it's"]),
            ("set /a \"\"", &["set", "/a", ""]),
            ("set /a b\"c d\"", &["set", "/a", "b\"c", "d\""]),
            ("set /a 'x'y", &["set", "/a", "x", "y"]),
            ("set /a \"open end", &["set", "/a", "open", "end"]),
            ("set /a b\\ c", &["set", "/a", "b\\", "c"]),
            ("   ", &[]),
            ("'", &[]),
            ("é 中", &["é", "中"]),
        ] {
            assert_eq!(words(line), expected, "{line:?}");
        }
    }
}
